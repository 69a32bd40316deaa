"""Whether the served files still are what was pinned; what was lost is taken from the model directory again.

A file is recognised by what ``stat`` says of it, as everywhere: nothing is hashed for a request. The digest on the card
is what protects a front end from a changed file; a worker owes its operator to say that it has one.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from placecard.errors import Code
from placecard.publisher.catalogue import Hosted
from placecard.telemetry import Degraded, Fact, Fallback

MEND_AFTER_S: Final = 30.0
RETRY_S: Final = 15.0
MEND: Final = "Restart the publisher from a directory that has the file, and check the disk of this worker's store."


class ChangedError(Exception):
    """A sealed file is not what it was when it was sealed."""


@dataclass
class _Held:
    """One file: where it is, what ``stat`` said when it was pinned, what is wrong with it, and when to mend that."""

    file: Hosted
    path: Path
    pinned: tuple[int, ...] | None
    wrong: Code | None = None
    due: float = 0.0
    retry: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Pins:
    """The files of a catalogue by digest. All methods block, and may be called from any thread.

    Args:
        mend_after_s: Seconds for which a file that changed and kept its size is served as it is, before its bytes are
            hashed again. Whoever changes it meets the digest at the front end, and the operator the red health.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        files: Iterable[Hosted],
        *,
        mend_after_s: float = MEND_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mend_after_s = mend_after_s
        self._clock = clock
        self._held = {file.digest: _Held(file, file.path, _identity(file.path)) for file in files}
        self._facts: deque[Fact] = deque()

    def open(self, digest: str) -> tuple[int, int]:
        """Return a descriptor and the size of a file, taken from the model directory again where it was lost.

        Raises:
            OSError: It is gone, and was not to be had again.
            ChangedError: It is another file now, and was not to be had again.
        """
        held = self._held[digest]
        with held.lock:
            try:
                return self._opened(held)
            except (OSError, ChangedError) as error:
                held.wrong = held.wrong or code_of(error)
                if not self._restored(held):
                    raise
            return self._opened(held)

    def check(self) -> None:
        """Look at every file, and mend what is due."""
        for held in self._held.values():
            with held.lock:
                self._check(held)

    def wrong(self) -> dict[Code, int]:
        """Return how many files are not what was pinned, by what is wrong."""
        return Counter(held.wrong for held in self._held.values() if held.wrong is not None)

    def facts(self) -> list[Fact]:
        """Return what happened since the last call."""
        return [self._facts.popleft() for _ in range(len(self._facts))]

    def _opened(self, held: _Held) -> tuple[int, int]:
        fd = os.open(held.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(fd)
            self._compare(held, status)
        except ChangedError:
            os.close(fd)
            raise
        return fd, status.st_size

    def _compare(self, held: _Held, status: os.stat_result) -> None:
        """Raise unless the file can still be the pinned one; one that was changed is noted, and served."""
        if not stat.S_ISREG(status.st_mode) or held.file.size not in (None, status.st_size):
            raise ChangedError(f"is no regular file of {held.file.size} bytes any more (size {status.st_size})")
        if _facts_of(status) != held.pinned and held.wrong is None:
            held.wrong, held.due = Code.STORE_CORRUPT, self._clock() + self._mend_after_s
            detail = f"{held.file.digest}: the copy was changed since it was pinned; front ends go by the digest"
            self._facts.append(Degraded(Code.STORE_CORRUPT, "", held.file.name, detail, MEND))

    def _check(self, held: _Held) -> None:
        before = held.wrong
        try:
            self._compare(held, held.path.lstat())
        except (OSError, ChangedError) as error:
            held.wrong = before or code_of(error)
            if not self._restored(held) and before is None:
                self._facts.append(lost(held.file, error))
            return
        if held.wrong is not None and self._clock() >= held.due:
            self._restored(held)

    def _restored(self, held: _Held) -> bool:
        """Pin the file again, from the store if its bytes are right, else from the model directory."""
        now = self._clock()
        if held.file.restore is None or now < held.retry:
            return False
        path = held.file.restore()
        if path is None:
            held.retry = now + RETRY_S  # an original that is another file by now is not hashed for each request
            return False
        held.path, held.pinned, held.wrong = path, _identity(path), None
        self._facts.append(Fallback("pinned_again", f"{held.file.name}: the store's copy was lost or changed"))
        return True


def lost(file: Hosted, error: Exception) -> Degraded:
    """Return the fact that a file cannot be served."""
    return Degraded(code_of(error), "", file.name, f"{file.digest}: {error}", MEND)


def code_of(error: Exception) -> Code:
    """Return what happened to a file that cannot be opened."""
    return Code.STORE_MISSING if isinstance(error, FileNotFoundError) else Code.STORE_CORRUPT


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        return _facts_of(path.lstat())
    except OSError:
        return None


def _facts_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
