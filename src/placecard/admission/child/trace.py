"""Which files of the model directory were opened, by Python or by native code, since the last look."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from placecard.admission.consumers import KNOWN_NAMES, Consumer


class Trace:
    """Sees opens with an audit hook and, on Linux, with inotify; native tokenizers open files past the hook.

    inotify tells that a file was opened, not by whom: an engine that opens it at the same moment is seen too.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._by_path = {os.path.realpath(path): name for name, path in files.items()}
        self._by_path |= {os.path.abspath(path): name for name, path in files.items()}  # noqa: PTH100 - links stay links
        self._seen: set[str] = set()
        self._names = frozenset(files)
        self._watches: dict[int, set[str]] = {}
        self._inotify, self.how = self._watch(files)
        sys.addaudithook(self._hook)

    def drain(self, consumer: Consumer) -> tuple[str, ...]:
        """Return what was opened since the last call, sorted; ``consumer`` is who ran."""
        if self._inotify is not None:
            for event in self._inotify.read(timeout=0):
                self._seen |= self._watches.get(event.wd, set())
        else:
            self._seen |= KNOWN_NAMES[consumer] & self._names
        seen, self._seen = sorted(self._seen), set()
        return tuple(seen)

    def _watch(self, files: Mapping[str, Path]) -> tuple[Any, str]:
        try:
            import inotify_simple

            inotify = inotify_simple.INotify(nonblocking=True)
            for name, path in files.items():
                watch = inotify.add_watch(os.path.realpath(path), inotify_simple.flags.OPEN)
                self._watches.setdefault(watch, set()).add(name)  # two names of one file share a watch
        except (ImportError, OSError, AttributeError) as error:
            return None, f"audit hook and known names ({type(error).__name__}: {error})"
        return inotify, "inotify and audit hook"

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and (name := self._by_path.get(arguments[0])):
            self._seen.add(name)
