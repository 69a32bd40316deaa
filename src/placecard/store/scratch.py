"""Temporary directories that do not outlive their owner, whatever ends it.

They lie below one folder of the user in the system's directory for temporary files, each beside a lock file that its
owner holds. Whoever makes the next one removes those whose owner is gone: killed, or out of memory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

_LOCK: Final = ".lock"


@contextmanager
def scratch(kind: str, *, parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty directory of this user's own, and remove it at the end. Blocking.

    Where the user's folder cannot be used, the directory lies beside it, and nobody sweeps it.

    Args:
        kind: First part of its name: what it is for.
        parent: The user's folder; by default ``placecard-scratch-UID`` where temporary files belong.
    """
    home = _home(parent or Path(tempfile.gettempdir(), f"placecard-scratch-{os.getuid()}"))
    if home is None:
        with tempfile.TemporaryDirectory(prefix=f"placecard-{kind}-") as plain:
            yield Path(plain)
        return
    sweep(home)
    with ExitStack() as stack:
        name = f"{kind}-{secrets.token_hex(8)}"
        descriptor = _owned(home / f"{name}{_LOCK}")
        stack.callback(os.close, descriptor)
        stack.callback((home / f"{name}{_LOCK}").unlink, missing_ok=True)
        folder = home / name
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        yield folder


def sweep(home: Path) -> None:
    """Remove what is left in ``home`` of owners that are gone; what cannot be removed stays for the next sweep."""
    for lock in home.glob(f"*{_LOCK}"):
        with suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its owner lives: BlockingIOError
                folder = lock.with_suffix("")
                shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    lock.unlink()
            finally:
                os.close(descriptor)


def _home(path: Path) -> Path | None:
    """Return the user's folder, made if need be; None where it is another's, or a link, or cannot be made."""
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError:
        return None
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return path if mine else None


def _owned(path: Path) -> int:
    """Return a descriptor that holds the lock of the new file ``path``; made again if a sweep was faster."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                os.close(descriptor)
                raise
            return descriptor  # no locks here: a sweep cannot take one either, and leaves it alone
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
