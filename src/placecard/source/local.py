"""Files of this host: ``file://`` URIs, read only beneath the operator's roots."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

from anyio import to_thread

from placecard.card import FileUri, Uri
from placecard.source.beneath import Beneath, problem_of
from placecard.source.listing import Entry, Walk, walk_beneath

CHUNK_BYTES: Final = 1 << 20


class LocalSource:
    """Reads regular files beneath ``roots``.

    A root that is a hub snapshot (``models--*/snapshots/<commit>``) lets its links lead into that repository's
    ``blobs``.

    Args:
        roots: Directories that URIs may name, resolved once.
        targets: Directories that links may lead into although no URI may name them.
    """

    def __init__(self, roots: Sequence[Path], *, targets: Sequence[Path] = ()) -> None:
        self._beneath = Beneath(roots, targets)

    def walk(self, directory: Path, *, max_files: int, max_depth: int = 16) -> Walk:
        """Return what ``directory`` holds, if it really lies beneath a root; see :func:`~placecard.source.walk`."""
        return walk_beneath(self._beneath, directory, max_files=max_files, max_depth=max_depth)

    def identify(self, directory: Path) -> tuple[int, int]:
        """Return device and inode of ``directory``, whatever path leads to it; outside the roots nothing is looked at.

        Raises:
            SourceError: As for :meth:`open_fd`; ``NOT_REGULAR`` if it is no directory.
        """
        fd, _ = self._beneath.open_directory(directory)
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        return status.st_dev, status.st_ino

    def reopen(self, entry: Entry) -> int:
        """Return a descriptor of a file that :meth:`walk` listed, which the caller closes; no link is followed.

        It may be another file by now, which ``entry.identity`` tells.

        Raises:
            SourceError: As for :meth:`open_fd`.
        """
        return self._beneath.open_real(entry.real)

    def covers(self, path: Path) -> bool:
        """Whether ``path``, as written, lies beneath a root; nothing is read."""
        return self._beneath.covers(path)

    def open_fd(self, path: Path) -> int:
        """Return a descriptor of the regular file at ``path``, which the caller closes; never blocks.

        Raises:
            SourceError: ``PATH_FORBIDDEN`` outside every root, ``PATH_ESCAPE`` where a link or ``..`` leads out,
                ``NOT_REGULAR``, ``NOT_FOUND``, or ``UNREADABLE`` for whatever else the system answers.
        """
        return self._beneath.open_file(path)

    @asynccontextmanager
    async def open(self, uri: Uri) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of the file at ``uri``; see :meth:`open_fd` for what is raised."""
        assert isinstance(uri, FileUri)
        path = Path(uri.path)
        async with aclosing(read_chunks(lambda: self.open_fd(path), path)) as chunks:
            # The first chunk is read at once, so that whatever is wrong with the file is raised on entry.
            first = await anext(chunks, b"")
            yield _with_first(first, chunks)


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
        async for chunk in rest:
            yield chunk


async def read_chunks(open_fd: Callable[[], int], path: Path) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of the descriptor that ``open_fd`` returns, in chunks of at most 1 MiB; closes it at the end.

    Raises:
        SourceError: What ``open_fd`` raises, and ``UNREADABLE`` if reading fails half way.
    """
    file = _Reader(open_fd)
    try:
        while chunk := await _read(file, path):
            yield chunk
    finally:
        file.close()


async def _read(file: _Reader, path: Path) -> bytes:
    try:
        return await to_thread.run_sync(file.read, abandon_on_cancel=True)
    except OSError as error:
        raise problem_of(error, path) from error


class _Reader:
    """A descriptor that a thread may still be reading, on a mount that hangs, when its owner has given up.

    Whoever comes last closes it, so that no late read ever meets a descriptor number that was given to another file.
    """

    def __init__(self, open_fd: Callable[[], int]) -> None:
        self._open_fd = open_fd
        self._fd: int | None = None
        self._closing = False
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """Return the next chunk, empty at the end; opens the file first. Runs in a thread."""
        try:
            with self._lock:
                if self._closing:
                    return b""
                if self._fd is None:
                    self._fd = self._open_fd()
                return os.read(self._fd, CHUNK_BYTES)
        finally:
            if self._closing:
                self.close()

    def close(self) -> None:
        """Close now, or leave it to the read that is still under way."""
        self._closing = True
        if self._lock.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._lock.release()

    def _release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
