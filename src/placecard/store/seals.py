"""Seals: what ``stat`` said of a blob when its bytes were proven. While it says the same, they need no second proof."""

from __future__ import annotations

import os
from typing import Final

from placecard.store.disk import Disk
from placecard.store.layout import SEALS

_MAX_REMEMBERED: Final = 65_536


def seal_text(name: str, stat: os.stat_result) -> bytes:
    """Return the seal of a file: compared as a whole, so that a torn or foreign one is simply not equal."""
    return b"1 %s %d %d %d %d\n" % (name.encode(), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Seals:
    """The seals of one store, in memory first, then on disk. Losing one costs one more hash."""

    def __init__(self, disk: Disk, *, writable: bool) -> None:
        self._disk = disk
        self._writable = writable
        self._remembered: dict[str, bytes] = {}

    def holds(self, name: str, stat: os.stat_result) -> bool:
        """Whether ``name`` was sealed with just this ``stat``."""
        text = seal_text(name, stat)
        if self._remembered.get(name) == text:
            return True
        try:
            held = self._disk.read(f"{SEALS}/{name}", 256)
        except OSError:  # no seal: the bytes are hashed again
            return False
        if held == text:
            self._remember(name, text)
            return True
        return False

    def put(self, name: str, stat: os.stat_result) -> None:
        """Seal ``name`` with ``stat``; a store that cannot be written keeps the seal in memory."""
        text = seal_text(name, stat)
        self._remember(name, text)
        if not self._writable:
            return
        try:
            fd = self._disk.overwrite(f"{SEALS}/{name}")
            try:
                self._disk.write(fd, text)
            finally:
                os.close(fd)
        except OSError as error:
            self._disk.state(
                "unsealed_blob", f"{self._disk.root / SEALS / name}: {error.strerror}; hashed again next time"
            )

    def drop(self, name: str) -> None:
        """Forget ``name``."""
        self._remembered.pop(name, None)
        if self._writable:
            try:
                self._disk.unlink(f"{SEALS}/{name}")
            except OSError as error:
                self._disk.state("seal_left_behind", f"{self._disk.root / SEALS / name}: {error.strerror}")

    def _remember(self, name: str, text: bytes) -> None:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = text
