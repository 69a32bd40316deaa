"""A registry's directory, system call by system call: opening it, listing it, reading one file of it, and its clock.

The directory is shared with whatever else writes there, so nothing in it is trusted: only regular files of those who
may write here are opened, without following links and without waiting.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecard.discovery.record import MAX_RECORD_BYTES
from placecard.errors import Code, DiscoveryError
from placecard.errors import error as error_of

MAX_ENTRIES: Final = 200_000
TEMPORARY: Final = ".placecard-"


@dataclass(frozen=True)
class Stamp:
    """What ``stat`` says of one state of a file."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @staticmethod
    def of(status: os.stat_result) -> Stamp:
        """Return the stamp in ``status``."""
        return Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class FileClock:
    """The clock of the file system that holds the records: it stamps them, and a probe tells what it says."""

    def now(self, directory: int) -> float:
        """Return what the clock says, in seconds: the stamp of a file made in ``directory`` now, and gone at once."""
        return probe(directory)

    def stamp(self) -> tuple[float, float] | None:
        """Return the times for a file that is touched now; None lets the file system put its own."""
        return None


def open_directory(path: Path) -> int:
    """Return a descriptor of the directory at ``path``, which nobody but its owner and group may write.

    Raises:
        OSError: It cannot be opened.
        DiscoveryError: ``DISCOVERY_FORBIDDEN``; it belongs to another user, or everybody may replace files in it.
    """
    link = os.lstat(path)  # a link in a shared directory could lead anywhere its maker likes
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if strangers := {link.st_uid, status.st_uid} - {os.geteuid(), 0}:
            detail = f"belongs to user {strangers.pop()}"
            raise DiscoveryError(Code.DISCOVERY_FORBIDDEN, detail, subject=str(path))
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            detail = "every user may write to it, and it has no sticky bit"
            raise DiscoveryError(Code.DISCOVERY_FORBIDDEN, detail, subject=str(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def listing(fd: int) -> Iterator[str]:
    """Yield the names in a directory, as many as are looked at."""
    with os.scandir(fd) as entries:
        for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
            yield entry.name


def is_shared(directory: os.stat_result) -> bool:
    """Whether a registry's directory is shared on purpose: its group may write, and not everybody."""
    return bool(directory.st_mode & stat.S_IWGRP) and not directory.st_mode & stat.S_IWOTH


def why_foreign(status: os.stat_result, *, shared: bool) -> str | None:
    """Say why a file does not count as a worker's; None if it does.

    A sticky bit keeps strangers from others' files, and not from making their own. Only a directory that is shared
    with a group on purpose says that other users belong here.
    """
    if shared or status.st_uid in (os.geteuid(), 0):
        return None
    return f"belongs to user {status.st_uid}, and the directory is not shared with a group"


def contents(name: str, directory: int, *, shared: bool) -> tuple[Stamp, bytes]:
    """Return stamp and bytes of a regular file that is small enough, and of a user who may write here."""
    before = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(before.st_mode):  # asked before opening: opening a device can do things
        raise error_of(Code.NOT_REGULAR, "is not a regular file")
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=directory)
    with os.fdopen(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise error_of(Code.NOT_REGULAR, "is not a regular file")
        if why := why_foreign(status, shared=shared):
            raise error_of(Code.DISCOVERY_FORBIDDEN, why)
        data = b""
        while len(data) <= MAX_RECORD_BYTES and (chunk := file.read(MAX_RECORD_BYTES + 1 - len(data))):
            data += chunk
        return Stamp.of(status), data


def probe(directory: int) -> float:
    """Return the time stamp of a file made in ``directory`` now, and gone at once."""
    try:
        fd = os.open(".", getattr(os, "O_TMPFILE", 0) | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except OSError:  # no O_TMPFILE here: macOS, network file systems
        name = f"{TEMPORARY}{secrets.token_hex(8)}.probe"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
        os.unlink(name, dir_fd=directory)
    try:
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)
