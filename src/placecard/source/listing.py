"""Listing a model directory: every file below it, and what was left out with the reason. Nothing raises."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Final

from placecard.card import Kind, LeftOut, check_name, kind_of
from placecard.errors import CardError, Code, SourceError
from placecard.source.beneath import Beneath, kind_of_mode, problem_of

MAX_ENTRIES: Final = 65_536
"""Directory entries looked at in one walk, whatever ``max_files`` says: weights and hidden files cost time, too."""


class Reason(StrEnum):
    """Why an entry of a directory is no file of the model."""

    HIDDEN = "hidden"
    NOT_REGULAR = "not regular"
    DANGLING = "dangling link"
    ESCAPES = "link out of the directory"
    CYCLE = "link to a directory above it"
    DEVICE = "device"
    UNREADABLE = "unreadable"
    NAME_NOT_UTF8 = "name is not UTF-8"
    NAME_UNSAFE = "unsafe name"
    TOO_DEEP = "too deep"


Identity = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, and the times of the last change of content and of status in nanoseconds."""


def identity_of(status: os.stat_result) -> Identity:
    """Return what tells this file from another, and from itself once it was changed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True)
class Entry:
    """One regular file: ``name`` is relative with ``/``, ``real`` its absolute path without links."""

    name: str
    real: Path
    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def identity(self) -> Identity:
        """What changes when the file is written to, or another takes its place."""
        return self.dev, self.ino, self.size, self.mtime_ns, self.ctime_ns

    def seen_again(self, status: os.stat_result) -> Entry:
        """Return the entry as ``status``, taken later, shows it."""
        return Entry(self.name, self.real, *identity_of(status))


@dataclass(frozen=True)
class Walk:
    """What a directory holds.

    Args:
        directory: Its path without links.
        files: Regular files, those at the top level first, by name.
        left_out: Entries that are no files of the model; a folder that is left out stands for all below it.
        truncated: Whether more was there than the bounds allow.
        problem: Why the directory could not be listed at all; None if it was.
    """

    directory: Path
    files: tuple[Entry, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    truncated: bool = False
    problem: SourceError | None = None


def walk(directory: Path, roots: Sequence[Path] | None = None, *, max_files: int, max_depth: int = 16) -> Walk:
    """Return every file below ``directory``; weights and code are listed like all others (see ``card.kind_of``).

    Links are followed where they stay inside the directory or lead into the blobs of its hub cache.

    Args:
        directory: Where to begin; absolute if ``roots`` are given.
        roots: If given, the directory must really lie beneath one of them; if None, it is trusted.
        max_files: Metadata files listed at most; weights and code do not count against it.
        max_depth: Folders below the directory that are entered.
    """
    if roots is None:
        directory = Path(os.path.realpath(directory))
        roots = (directory,)
    return walk_beneath(Beneath(roots), directory, max_files=max_files, max_depth=max_depth)


def walk_beneath(beneath: Beneath, directory: Path, *, max_files: int, max_depth: int) -> Walk:
    """Do as :func:`walk` does, beneath roots that were resolved before."""
    try:
        top, real = beneath.open_directory(directory)
    except SourceError as problem:
        return Walk(directory, problem=problem)
    run = _Run(beneath.only(real), real, max_files=max_files, max_depth=max_depth)
    try:
        run.folder(top, "", real, frozenset())
    except OSError as error:
        return Walk(real, problem=problem_of(error, directory))
    return Walk(real, tuple(run.files), tuple(run.left_out), run.truncated)


@dataclass
class _Run:
    """One walk under way."""

    beneath: Beneath
    top: Path
    max_files: int
    max_depth: int
    files: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    truncated: bool = False
    counted: int = 0
    seen: int = 0

    def folder(self, fd: int, prefix: str, real: Path, above: frozenset[tuple[int, int]]) -> None:
        """List the folder open at ``fd`` and close it: its files first, then its sub-folders."""
        try:
            status = os.fstat(fd)
            inside = above | {(status.st_dev, status.st_ino)}
            folders = [name for name in self._names(fd) if self._entry(fd, name, prefix, real)]
            for name in folders:
                self._sub_folder(fd, name, prefix, real, inside)
        finally:
            os.close(fd)

    def _names(self, fd: int) -> list[str]:
        room = MAX_ENTRIES - self.seen
        with os.scandir(fd) as entries:
            names = [entry.name for entry in islice(entries, room + 1)]
        if len(names) > room:
            self.truncated = True
            del names[room:]
        self.seen += len(names)
        return sorted(names)

    def _entry(self, fd: int, name: str, prefix: str, real: Path) -> bool:
        """Note the file called ``name``, or why it is none; return True if it is a folder to go into."""
        whole = prefix + name
        if (reason := _name_reason(name, whole)) is not None:
            self._leave_out(whole, reason)
            return False
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return True
            path = real / name
            if stat.S_ISLNK(status.st_mode):
                with self.beneath.find(path) as found:
                    path, status = found.real, found.status
                    readable = _readable(found.name, found.parent)
                if stat.S_ISDIR(status.st_mode):
                    return True
            else:
                readable = _readable(name, fd)
        except (OSError, SourceError) as error:
            self._leave_out(whole, _reason(error))
            return False
        if not stat.S_ISREG(status.st_mode):
            self._leave_out(whole, Reason.DEVICE if kind_of_mode(status.st_mode) == "device" else Reason.NOT_REGULAR)
        elif not readable:
            self._leave_out(whole, Reason.UNREADABLE)
        else:
            self._take(whole, path, status)
        return False

    def _sub_folder(self, fd: int, name: str, prefix: str, real: Path, above: frozenset[tuple[int, int]]) -> None:
        whole = prefix + name
        if whole.count("/") >= self.max_depth:
            self._leave_out(whole, Reason.TOO_DEEP)
            return
        if self.truncated:
            return
        try:
            deeper, path = self.beneath.open_directory(real / name)
        except SourceError as error:
            self._leave_out(whole, _reason(error))
            return
        status = os.fstat(deeper)
        if (status.st_dev, status.st_ino) in above:
            os.close(deeper)
            self._leave_out(whole, Reason.CYCLE)
            return
        try:
            self.folder(deeper, whole + "/", path, above)
        except OSError:
            self._leave_out(whole, Reason.UNREADABLE)

    def _take(self, name: str, real: Path, status: os.stat_result) -> None:
        if kind_of(name) is Kind.METADATA:
            if self.counted >= self.max_files:
                self.truncated = True
                return
            self.counted += 1
        self.files.append(Entry(name, real, *identity_of(status)))

    def _leave_out(self, name: str, reason: Reason) -> None:
        if len(self.left_out) >= max(self.max_files, 1024):
            self.truncated = True
            return
        self.left_out.append(LeftOut(name, reason.value))


def _name_reason(name: str, whole: str) -> Reason | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return Reason.NAME_NOT_UTF8
    if name.startswith("."):
        return Reason.HIDDEN
    try:
        check_name(whole)
    except CardError as error:
        return Reason.TOO_DEEP if error.code is Code.NAME_TOO_LONG and "/" in whole else Reason.NAME_UNSAFE
    return None


def _reason(error: OSError | SourceError) -> Reason:
    if isinstance(error, SourceError):
        reasons = {
            Code.NOT_FOUND: Reason.DANGLING,
            Code.PATH_ESCAPE: Reason.ESCAPES,
            Code.NOT_REGULAR: Reason.NOT_REGULAR,
        }
        return reasons.get(error.code, Reason.UNREADABLE)
    return Reason.UNREADABLE


def _readable(name: str, parent: int) -> bool:
    return os.access(name, os.R_OK, dir_fd=parent, effective_ids=os.access in os.supports_effective_ids)
