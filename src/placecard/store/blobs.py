"""Blobs: proven bytes under their own digest. A path under ``blobs-v1/`` is worth what its seal or a hash says."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from placecard.card.digest import PREFIX
from placecard.store.disk import CHUNK_BYTES, Disk
from placecard.store.layout import BAD, BLOBS, TRASH
from placecard.store.manifest import Blob
from placecard.store.seals import Seals, seal_text
from placecard.telemetry import BlobQuarantined, Observe

_UNREADABLE: Final = (errno.EIO, errno.EACCES, errno.ELOOP, errno.ENXIO, errno.EISDIR)


class Blobs:
    """The blobs of one store, and of read-only layers beneath it."""

    def __init__(self, disk: Disk, seals: Seals, lower: Sequence[Disk], *, writable: bool, observe: Observe) -> None:
        self._disk = disk
        self._seals = seals
        self._lower = [(layer, blake3(str(layer.root).encode()).hexdigest()[:8]) for layer in lower]
        self._writable = writable
        self._observe = observe
        self._owner = os.geteuid()
        self._refused: set[bytes] = set()
        self.unsynced = True  # whether names in blobs-v1 may not survive a power loss yet

    def find(self, hex_digits: str) -> Blob | None:
        """Return the proven blob, from the store itself or the first layer that has it.

        Raises:
            OSError: The disk failed in a way that fetching again cannot mend.
        """
        if (size := self.held(hex_digits)) is not None:
            return Blob(PREFIX + hex_digits, size, self._disk.root / BLOBS / hex_digits)
        for layer, tag in self._lower:
            if (size := self._held_below(layer, hex_digits, f"{hex_digits}@{tag}")) is not None:
                return Blob(PREFIX + hex_digits, size, layer.root / BLOBS / hex_digits)
        return None

    def held(self, hex_digits: str) -> int | None:
        """Return the size of a blob of the store itself, proven by seal or by hash; what is wrong is set aside."""
        path = f"{BLOBS}/{hex_digits}"
        try:
            found = self._disk.stat(path)
        except FileNotFoundError:
            return self._proven(hex_digits) if self._rescue(hex_digits) else None
        if why := self._unsound(found):
            self.set_aside(hex_digits, found, why)
            return None
        if self._seals.holds(hex_digits, found):
            return found.st_size
        return self._proven(hex_digits)

    def rehash(self, hex_digits: str) -> int | None:
        """Return the size of a blob whose bytes were just hashed and are right; what is wrong is set aside."""
        try:
            found = self._disk.stat(f"{BLOBS}/{hex_digits}")
        except FileNotFoundError:
            return None
        if why := self._unsound(found):
            self.set_aside(hex_digits, found, why)
            return None
        return self._proven(hex_digits)

    def set_aside(self, hex_digits: str, judged: os.stat_result, reason: str) -> None:
        """Move to ``bad/`` what stands in a blob's place, unless it is no longer what was judged."""
        self._observe(BlobQuarantined(PREFIX + hex_digits, reason))
        self._seals.drop(hex_digits)
        if not self._writable:
            return
        path = f"{BLOBS}/{hex_digits}"
        try:
            if self._disk.stat(path).st_ino == judged.st_ino:
                self._disk.rename(path, f"{BAD}/{hex_digits}.{secrets.token_hex(4)}")
        except FileNotFoundError:  # another process was first
            return

    def _unsound(self, found: os.stat_result) -> str | None:
        if not stat.S_ISREG(found.st_mode):
            return "not a regular file"
        if found.st_nlink != 1:
            return f"has {found.st_nlink} names, so that it can be changed from outside"
        if found.st_uid != self._owner:
            return f"belongs to user {found.st_uid}"
        return None

    def _proven(self, hex_digits: str) -> int | None:
        """Hash the blob; seal it if it is right, set it aside if not."""
        path = f"{BLOBS}/{hex_digits}"
        try:
            judged = self._disk.stat(path)
            actual, before, after = _hash(self._disk, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            self.set_aside(hex_digits, judged, f"unreadable: {error.strerror}")
            return None
        if actual != hex_digits:
            self.set_aside(hex_digits, before, f"its bytes have digest {PREFIX}{actual}")
            return None
        if seal_text("", before) == seal_text("", after):
            self._seals.put(hex_digits, after)
        return after.st_size

    def _held_below(self, layer: Disk, hex_digits: str, name: str) -> int | None:
        path = f"{BLOBS}/{hex_digits}"
        try:
            found = layer.stat(path)
            if not stat.S_ISREG(found.st_mode) or seal_text(name, found) in self._refused:
                return None
            if self._seals.holds(name, found):
                return found.st_size
            actual, before, after = _hash(layer, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            layer.state("lower_layer_unreadable", f"{layer.root / path}: {error.strerror}")
            return None
        if actual != hex_digits:
            self._refused.add(seal_text(name, before))
            self._observe(BlobQuarantined(PREFIX + hex_digits, f"{layer.root / path} has other bytes; passed over"))
            return None
        if seal_text(name, before) == seal_text(name, after):
            self._seals.put(name, after)
        return after.st_size

    def _rescue(self, hex_digits: str) -> bool:
        """Take a blob back that a garbage collection has moved away and not deleted yet."""
        if not self._writable:
            return False
        for name in self._disk.names(TRASH):
            if name.startswith(f"{hex_digits}."):
                try:
                    self._disk.rename(f"{TRASH}/{name}", f"{BLOBS}/{hex_digits}")
                except FileNotFoundError:
                    continue
                self.unsynced = True
                return True
        return False


def _hash(disk: Disk, path: str) -> tuple[str, os.stat_result, os.stat_result]:
    """Return the hex digits of a regular file's bytes, and its ``stat`` before and after."""
    fd = disk.open(path)
    try:
        before = os.fstat(fd)
        hasher = blake3()
        while chunk := os.read(fd, CHUNK_BYTES):
            hasher.update(chunk)
        return hasher.hexdigest(), before, os.fstat(fd)
    finally:
        os.close(fd)
