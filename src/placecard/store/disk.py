"""The operating system as the store sees it: paths relative to one descriptor, every mutation one method.

The root is opened once. A parent that is swapped later cannot redirect a write, and a test can watch or fail each call.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from placecard.errors import Code, StoreError
from placecard.telemetry import Fallback, Observe

CHUNK_BYTES: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_DIRECTORY_SYNC: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)

_CODES: Final = {
    errno.ENOSPC: Code.STORE_FULL, errno.EDQUOT: Code.STORE_FULL, errno.EFBIG: Code.STORE_FULL,
    errno.EROFS: Code.STORE_READ_ONLY,
    errno.EACCES: Code.STORE_DENIED, errno.EPERM: Code.STORE_DENIED,
    errno.ELOOP: Code.STORE_LOOP,
}  # fmt: skip


def store_error(error: OSError, root: Path) -> StoreError:
    """Return ``error`` as the store's own, naming the path and the root."""
    name = error.filename if isinstance(error.filename, str) else ""
    why = error.strerror or str(error)
    code = _CODES.get(error.errno or 0, Code.STORE_IO)
    return StoreError(code, f"{why} (store {root})", subject=str(root / name))


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn the :class:`OSError` of a block into a :class:`StoreError`."""
    try:
        yield
    except OSError as error:
        raise store_error(error, root) from error


class Disk:
    """System calls below ``root``. Paths are relative; links are never followed. Raises :class:`OSError`."""

    def __init__(self, root: Path, observe: Observe) -> None:
        self.root = root
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._observe = observe
        self._stated: set[str] = set()
        self.close = weakref.finalize(self, os.close, self.fd)

    def state(self, kind: str, cause: str) -> None:
        """State a fallback, once for each kind."""
        if kind not in self._stated:
            self._stated.add(kind)
            self._observe(Fallback(kind, cause))

    def reopen(self) -> None:
        """Follow the root's path anew after somebody removed the directory; the descriptor's number stays."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)

    # files

    def create(self, path: str) -> int:
        """Make a new file that nobody else has open; returns its descriptor for writing."""
        return os.open(path, _CREATE, 0o600, dir_fd=self.fd)

    def overwrite(self, path: str) -> int:
        """Open a file for writing, made or emptied; for hints whose loss costs time only."""
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.fd
        )

    def append(self, path: str) -> int:
        """Make a new file whose writes always go to its end."""
        return os.open(path, _CREATE | os.O_APPEND, 0o600, dir_fd=self.fd)

    def open(self, path: str) -> int:
        """Open for reading; never blocks on a pipe."""
        return os.open(path, _READ, dir_fd=self.fd)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        """Write all of ``data``."""
        written = os.write(fd, data)
        while written < len(data):
            data = memoryview(data)[written:]
            written = os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Make a file's bytes survive a power loss."""
        os.fsync(fd)

    def make_read_only(self, fd: int) -> None:
        """Drop write permission."""
        os.fchmod(fd, 0o444)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Return the first ``limit_bytes`` of a file."""
        fd = self.open(path)
        try:
            data = os.read(fd, limit_bytes)
            while len(data) < limit_bytes and (more := os.read(fd, limit_bytes - len(data))):
                data += more
            return data
        finally:
            os.close(fd)

    def write_file(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a new read-only file; ``durable`` waits until it would survive a power loss."""
        fd = self.create(path)
        try:
            self.write(fd, data)
            self.make_read_only(fd)
            if durable:
                self.sync(fd)
        finally:
            os.close(fd)

    # names

    def rename(self, source: str, target: str) -> None:
        """Move within the store, replacing ``target``."""
        os.rename(source, target, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def symlink(self, text: str, path: str) -> None:
        """Make a symbolic link that holds ``text``."""
        os.symlink(text, path, dir_fd=self.fd)

    def mkdir(self, path: str) -> bool:
        """Make a directory; False if it was there."""
        try:
            os.mkdir(path, 0o755, dir_fd=self.fd)
        except FileExistsError:
            return False
        return True

    def unlink(self, path: str) -> bool:
        """Remove a file or link; False if it was gone."""
        try:
            os.unlink(path, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def rmdir(self, path: str) -> bool:
        """Remove an empty directory; False if it is gone or in use."""
        try:
            os.rmdir(path, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def stat(self, path: str) -> os.stat_result:
        """Return what ``path`` itself is."""
        return os.stat(path, dir_fd=self.fd, follow_symlinks=False)

    def exists(self, path: str) -> bool:
        """Whether anything stands at ``path``."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def readlink(self, path: str) -> str:
        """Return the text of a symbolic link."""
        return os.readlink(path, dir_fd=self.fd)

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; an absent directory has none."""
        try:
            fd = os.open(path, _READ | os.O_DIRECTORY, dir_fd=self.fd)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return sorted(os.listdir(fd))  # noqa: PTH208 - pathlib knows no descriptors
        finally:
            os.close(fd)

    def sync_dir(self, path: str) -> None:
        """Make the names in a directory survive a power loss, where the file system knows how."""
        fd = os.open(path, _READ | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            self.sync(fd)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY_SYNC:
                raise
            self.state("no_directory_sync", f"{self.root}: {error.strerror}")
        finally:
            os.close(fd)

    # trees

    def walk(self, path: str) -> Iterator[str]:
        """Yield the relative name of everything below ``path`` that is no directory."""
        folders = [""]
        while folders:
            folder = folders.pop()
            for name in self.names(f"{path}/{folder}".rstrip("/")):
                if stat.S_ISDIR(self.stat(f"{path}/{folder}{name}").st_mode):
                    folders.append(f"{folder}{name}/")
                else:
                    yield folder + name

    def remove(self, path: str) -> bool:
        """Remove whatever stands at ``path``, with all below it; False if nothing did."""
        gone = self._unlink_file(path)
        if gone is not None:
            return gone
        waiting, folders = [path], list[str]()
        while waiting:
            folders.append(folder := waiting.pop())
            inside = (f"{folder}/{name}" for name in self.names(folder))
            waiting += [child for child in inside if self._unlink_file(child) is None]
        return [self.rmdir(folder) for folder in reversed(folders)][-1]

    def _unlink_file(self, path: str) -> bool | None:
        """Remove a file or link; False if it was gone, None if it is a directory."""
        try:
            return self.unlink(path)
        except IsADirectoryError:
            return None
        except PermissionError:  # what POSIX, though not Linux, says of a directory
            if not stat.S_ISDIR(self.stat(path).st_mode):
                raise
            return None

    def discard(self, path: str) -> None:
        """Remove what may be left of unfinished work; where that fails it is stated, and swept at the next start."""
        try:
            self.remove(path)
        except OSError as error:
            self.state("temporary_left_behind", f"{self.root / path}: {error.strerror}")
