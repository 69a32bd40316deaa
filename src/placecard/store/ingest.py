"""The only way in: bytes are written to an inode of our own, proven on the way, and only then given a name."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Final, Self

from placecard.card import hex_of
from placecard.errors import Code, StoreError
from placecard.store.blobs import Blobs
from placecard.store.disk import Disk, translated
from placecard.store.layout import BLOBS
from placecard.store.leases import Lease, Leases
from placecard.store.manifest import Blob
from placecard.store.seals import Seals
from placecard.store.verify import Verifier

_RECOUNT_EVERY: Final = 64


class Quota:
    """Counts the bytes of all blobs, and of those being written by this process, against the operator's bound.

    Other processes' bytes are seen at the next recount: every 64 files, and whenever the bound seems reached.
    """

    def __init__(self, disk: Disk, limit_bytes: int | None) -> None:
        self._disk = disk
        self._limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._stored = self._pending = 0
        self._until_recount = 0

    def begin(self) -> None:
        """Note that a file begins."""
        if self._limit_bytes is None:
            return
        with self._guard:
            self._until_recount -= 1
            if self._until_recount < 0:
                self._recount()

    def charge(self, count: int) -> None:
        """Add ``count`` bytes that are about to be written.

        Raises:
            StoreError: ``STORE_QUOTA``.
        """
        if self._limit_bytes is None:
            return
        with self._guard:
            if self._stored + self._pending + count > self._limit_bytes:
                self._recount()
            used = self._stored + self._pending
            if used + count > self._limit_bytes:
                detail = f"{used} bytes are used and {count} more wanted; the quota is {self._limit_bytes}"
                raise StoreError(Code.STORE_QUOTA, detail, subject=str(self._disk.root))
            self._pending += count

    def settle(self, count: int, *, kept: bool) -> None:
        """End a file of ``count`` charged bytes; ``kept`` if it became a blob."""
        with self._guard:
            self._pending -= count
            self._stored += count if kept else 0

    def _recount(self) -> None:
        self._until_recount = _RECOUNT_EVERY
        self._stored = 0
        for name in self._disk.names(BLOBS):
            try:
                self._stored += self._disk.stat(f"{BLOBS}/{name}").st_size
            except FileNotFoundError:
                continue


class Ingest:
    """One file on its way in. Use with ``with``: leaving without :meth:`commit` leaves nothing behind.

    Not for two threads at a time. Made by :meth:`Store.ingest`.
    """

    def __init__(
        self,
        *,
        disk: Disk,
        blobs: Blobs,
        seals: Seals,
        leases: Leases,
        quota: Quota,
        verifier: Verifier,
        lease: Lease | None,
    ) -> None:
        self._disk, self._blobs, self._seals, self._leases, self._quota = disk, blobs, seals, leases, quota
        self._verifier = verifier
        self._lease = lease
        self._path: str | None = None
        self._fd = -1
        self._charged = 0

    def __enter__(self) -> Self:
        with translated(self._disk.root):
            self._quota.begin()
            path = self._leases.temporary()
            self._fd = self._disk.create(path)
            self._path = path
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def write(self, chunk: bytes | memoryview) -> None:
        """Write and hash the next bytes.

        Raises:
            VerificationError: ``SIZE_EXCEEDED`` or ``SIZE_CAP``, before the bytes are written.
            StoreError: ``STORE_QUOTA``, ``STORE_FULL`` …
        """
        self._verifier.feed(chunk)
        self._quota.charge(len(chunk))
        self._charged += len(chunk)
        with translated(self._disk.root):
            self._disk.write(self._fd, chunk)

    def commit(self) -> Blob:
        """Return the file as a blob, durable but for its name, which :meth:`Store.publish` makes durable.

        Raises:
            VerificationError: ``SIZE_MISMATCH`` or ``DIGEST_MISMATCH``; the store is as it was.
            StoreError: The disk failed; the store is as it was.
        """
        digest = self._verifier.finish()
        name = hex_of(digest)
        blob = Blob(digest, self._verifier.received, self._disk.root / BLOBS / name)
        if self._lease is not None:
            self._lease.pin(digest)
        with translated(self._disk.root):
            if self._path is None or self._blobs.held(name) is not None:
                self._discard()
                return blob
            self._disk.make_read_only(self._fd)
            self._disk.sync(self._fd)
            self._blobs.unsynced = True
            self._disk.rename(self._path, f"{BLOBS}/{name}")
            self._path = None
            self._seals.put(name, os.fstat(self._fd))  # after the rename, which changes ctime
            self._quota.settle(self._charged, kept=True)
            self._charged = 0
        self._discard()
        return blob

    def _discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._charged:
            self._quota.settle(self._charged, kept=False)
            self._charged = 0
        if self._path is not None:
            path, self._path = self._path, None
            self._disk.discard(path)
