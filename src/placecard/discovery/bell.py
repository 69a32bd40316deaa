"""A bell that rings when something happens in a directory: inotify where there is one, else a clock.

It is a hint and carries no news: whoever hears it looks at the whole directory. A lost, doubled or overflowed event
costs nothing but time.
"""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any, Final

import anyio

from placecard.telemetry import Fact, Fallback

POLL_S: Final = 0.5


class Bell:
    """Rings when a file of a directory appears, is written, renamed or removed; hidden names do not ring.

    Args:
        directory: What to listen to. It may be absent, and come and go.
        inotify: False to poll at once, for file systems whose changes elsewhere the kernel does not see.
    """

    def __init__(self, directory: Path, *, inotify: bool = True) -> None:
        self._directory = directory
        self._wanted = inotify and sys.platform == "linux"
        self._cause = "" if self._wanted or not inotify else f"there is none on {sys.platform}"
        self._stated = ""
        self._inotify: Any = None
        self._watch: int | None = None
        self._closed = False
        self._lock = threading.Lock()

    def arm(self) -> tuple[Fact, ...]:
        """Listen to the directory that stands at the path now, and return what is to be stated. Blocking."""
        with self._lock:
            if self._wanted and not self._closed:
                self._listen()
            if self._closed:
                self._shut()
            new = self._cause if self._cause != self._stated else ""
            self._stated = self._cause
        return (Fallback("polling_instead_of_inotify", new),) if new else ()

    async def wait(self, timeout_s: float) -> None:
        """Return when the bell rings, at the latest after ``timeout_s`` seconds."""
        if self._watch is None or self._inotify is None:
            await anyio.sleep(min(timeout_s, POLL_S))
            return
        with anyio.move_on_after(timeout_s):
            while not self.heard():
                await anyio.wait_readable(self._inotify.fileno())

    def heard(self) -> bool:
        """Take all events that are there, and return whether one of them matters."""
        if self._inotify is None:
            return False
        # An event without a name is about the directory itself, or the kernel's queue ran over.
        return any(not event.name.startswith(".") for event in self._inotify.read(timeout=0))

    def close(self) -> None:
        """Stop listening. Never blocks: if a thread is arming the bell just now, that thread closes it."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._shut()
            finally:
                self._lock.release()

    def __enter__(self) -> Bell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _listen(self) -> None:
        module = importlib.import_module("inotify_simple")
        flags = module.flags
        mask = flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.CLOSE_WRITE
        mask |= flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
        before, self._watch = self._watch, None
        try:
            if self._inotify is None:
                self._inotify = module.INotify(nonblocking=True)
            # Asking again for the same directory gives the same number; another directory at the path gives a new one.
            self._watch = self._inotify.add_watch(str(self._directory), mask)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._cause = f"{error.strerror} ({error.errno})"
            return
        self._cause = ""
        if before is not None and before != self._watch:
            self._forget(before)

    def _forget(self, watch: int) -> None:
        try:
            self._inotify.rm_watch(watch)
        except OSError:
            return  # the kernel forgot it with the directory

    def _shut(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = self._watch = None
