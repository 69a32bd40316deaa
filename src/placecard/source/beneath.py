"""Opening paths beneath trusted roots, one component at a time, so that no link and no ``..`` leads out.

Every component, those of the root itself included, is opened relative to the descriptor of its parent and never
followed by the kernel. A link is read and followed here, by hand, and its target must again lie beneath a root. A
component that is swapped for a link between two steps is therefore seen as a link, never walked through; and a root is
resolved once and never again, so that what takes its place later is not taken for it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecard.errors import Code, SourceError

MAX_HOPS: Final = 16
# A directory is only passed through, so search permission suffices where the system can express that.
_PASS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Source: huggingface_hub, file_download.py, repo_folder_name, and utils/_shared_blobs.py: snapshots/<commit>/NAME links
# to ../../blobs/<etag>, which may link on to <cache>/blobs/<2 hex>/<xet hash>.
_SNAPSHOT = re.compile(r"(?:models|datasets|spaces)--[^/]+/snapshots/[0-9a-f]{40}")


@dataclass(frozen=True)
class Found:
    """One file system object: ``real`` is its path without links; ``parent`` is valid until the context ends."""

    parent: int
    name: str
    real: Path
    status: os.stat_result


class Beneath:
    """A set of roots and what may be reached from them.

    Args:
        roots: Directories that paths may name; resolved once, here, so a root may itself be reached through links.
        targets: Directories that links may lead into although no path may name them.
        resolved: The paths hold no links: they are taken as they are, and nothing else may be reached.
    """

    def __init__(self, roots: Sequence[Path], targets: Sequence[Path] = (), *, resolved: bool = False) -> None:
        self._named = _as_they_are(roots) if resolved else _aliases(roots)
        others = _as_they_are(targets) if resolved else _aliases(targets)
        if not resolved:
            others |= _as_they_are([folder for root in self._named.values() for folder in hub_blobs(root)])
        self._reached = others | self._named

    def only(self, directory: Path) -> Beneath:
        """Return what may be reached from within ``directory``, a path without links beneath these roots: itself, and
        the blobs of its hub repository as far as these roots reach them, too."""
        blobs = [folder for folder in hub_blobs(directory) if self._reaches(folder)]
        return Beneath((directory,), blobs, resolved=True)

    def covers(self, path: Path) -> bool:
        """Whether ``path``, as written, lies beneath a root."""
        return _locate(path.parts, self._named) is not None

    def open_file(self, path: Path) -> int:
        """Return a descriptor of the regular file at ``path``; never blocks on a pipe or device.

        Raises:
            SourceError: ``PATH_FORBIDDEN``, ``PATH_ESCAPE``, ``NOT_REGULAR``, ``NOT_FOUND`` or ``UNREADABLE``.
        """
        with self.find(path) as found:
            return _open_regular(found.name, found.parent, found.status, path)

    def open_real(self, path: Path) -> int:
        """Return a descriptor of the regular file at ``path``, which held no links when it was found; one that has come
        since is refused, wherever it leads.

        Raises:
            SourceError: As for :meth:`open_file`.
        """
        if ".." in path.parts or not self._reaches(path):
            raise SourceError(Code.PATH_FORBIDDEN, "lies outside every --file-root", subject=str(path))
        with _translated(path):
            parent = _descend(path.parent)
            try:
                status = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    raise OSError(errno.ELOOP, "swapped")
                return _open_regular(path.name, parent, status, path)
            finally:
                os.close(parent)

    def open_directory(self, path: Path) -> tuple[int, Path]:
        """Return a descriptor of the directory at ``path``, open for listing, and its path without links.

        Raises:
            SourceError: As for :meth:`open_file`; ``NOT_REGULAR`` if it is no directory.
        """
        with self.find(path) as found, _translated(path):
            if not stat.S_ISDIR(found.status.st_mode):
                raise SourceError(Code.NOT_REGULAR, "is not a directory", subject=str(path))
            return os.open(found.name, _LIST, dir_fd=found.parent), found.real

    @contextmanager
    def find(self, path: Path) -> Iterator[Found]:
        """Yield what ``path`` leads to once every link is followed.

        Raises:
            SourceError: ``PATH_FORBIDDEN``, ``PATH_ESCAPE``, ``NOT_FOUND`` or ``UNREADABLE``.
        """
        if ".." in path.parts:
            raise SourceError(Code.PATH_ESCAPE, "holds `..`", subject=str(path))
        if not self.covers(path):
            raise SourceError(Code.PATH_FORBIDDEN, "lies outside every --file-root", subject=str(path))
        with _translated(path):
            found = self._follow(path)
        try:
            yield found
        finally:
            os.close(found.parent)

    def _reaches(self, path: Path) -> bool:
        return any(path.is_relative_to(real) for real in self._reached.values())

    def _follow(self, path: Path) -> Found:
        parts = path.parts
        for _ in range(MAX_HOPS + 1):
            step = self._walk(parts, path)
            if isinstance(step, Found):
                return step
            parts = step
        raise SourceError(Code.PATH_ESCAPE, f"goes through more than {MAX_HOPS} links", subject=str(path))

    def _walk(self, parts: tuple[str, ...], path: Path) -> Found | tuple[str, ...]:
        """Go down ``parts`` from their root; return the end, or the path that the first link makes of them."""
        place = _locate(parts, self._reached)
        if place is None:
            raise SourceError(Code.PATH_ESCAPE, "leads out of its root by a link", subject=str(path))
        root, rest = place
        real, fd = root, _descend(root)
        try:
            for index, part in enumerate(rest):
                left = rest[index + 1 :]
                if part == "..":
                    return (*real.parent.parts, *left)
                status = os.stat(part, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    return (*_target(real, part, fd), *left)
                if not left:
                    found, fd = Found(fd, part, real / part, status), -1
                    return found
                deeper = _enter(part, fd)
                os.close(fd)
                real, fd = real / part, deeper
            found, fd = Found(fd, ".", real, os.fstat(fd)), -1
            return found
        finally:
            if fd >= 0:
                os.close(fd)


def _descend(directory: Path) -> int:
    """Return a descriptor of ``directory``, a path without links; a link that has come since is not followed."""
    fd = os.open(directory.anchor, _PASS)
    for part in directory.parts[1:]:
        try:
            deeper = _enter(part, fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _enter(part: str, parent: int) -> int:
    try:
        return os.open(part, _PASS, dir_fd=parent)
    except NotADirectoryError as error:
        if stat.S_ISLNK(os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode):  # it was a directory once
            raise OSError(errno.ELOOP, "swapped") from error
        raise


def _open_regular(name: str, parent: int, status: os.stat_result, path: Path) -> int:
    """Return a descriptor of the file called ``name``; what ``status`` shows to be none is not even opened."""
    _want_regular(status, path)
    with _translated(path):
        fd = os.open(name, _READ, dir_fd=parent)
    try:
        _want_regular(os.fstat(fd), path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def hub_blobs(directory: Path) -> tuple[Path, ...]:
    """Return where the links of a hub snapshot lead: its repository's blobs and the cache's shared ones.

    Args:
        directory: The snapshot or a folder in it, without links.
    """
    for at in (directory, *directory.parents):
        repo = at.parent.parent
        if _SNAPSHOT.fullmatch("/".join(at.parts[-3:])):
            return (repo / "blobs", repo.parent / "blobs")
    return ()


def _aliases(roots: Sequence[Path]) -> dict[tuple[str, ...], Path]:
    """Map each root, as written and as resolved, to its resolved path."""
    named: dict[tuple[str, ...], Path] = {}
    for root in roots:
        real = Path(os.path.realpath(root))
        named[real.parts] = real
        if ".." not in root.parts:
            named[root.absolute().parts] = real
    return named


def _as_they_are(roots: Sequence[Path]) -> dict[tuple[str, ...], Path]:
    return {root.parts: root for root in roots}


def _locate(parts: tuple[str, ...], roots: dict[tuple[str, ...], Path]) -> tuple[Path, tuple[str, ...]] | None:
    """Return the innermost root above ``parts`` and what is left below it."""
    for length in range(len(parts), 0, -1):
        if (root := roots.get(parts[:length])) is not None:
            return root, parts[length:]
    return None


def _target(here: Path, part: str, parent: int) -> tuple[str, ...]:
    try:
        return _joined(here, os.readlink(part, dir_fd=parent))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return (*here.parts, part)  # no link any more: look again


def _joined(here: Path, target: str) -> tuple[str, ...]:
    """Return where a link read at ``here`` leads; ``here`` holds no links, so a leading ``..`` is its parent."""
    parts = Path(target).parts
    if target.startswith("/"):
        return parts
    while parts and parts[0] == "..":
        here, parts = here.parent, parts[1:]
    return (*here.parts, *parts)


def _want_regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(Code.NOT_REGULAR, f"is a {kind_of_mode(status.st_mode)}", subject=str(path))


def kind_of_mode(mode: int) -> str:
    """Return what an object is, in words."""
    tests = (
        (stat.S_ISDIR, "directory"),
        (stat.S_ISFIFO, "pipe"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
        (stat.S_ISLNK, "link"),
    )
    return next((word for test, word in tests if test(mode)), "regular file")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise problem_of(error, path) from error
    except ValueError as error:  # NUL inside a path
        raise SourceError(Code.NOT_FOUND, "cannot be a path", subject=ascii(str(path))) from error


def problem_of(error: OSError, path: Path) -> SourceError:
    """Return what ``error`` means for reading ``path``."""
    subject = str(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return SourceError(Code.NOT_FOUND, "there is no such file", subject=subject)
    if error.errno == errno.ELOOP:
        return SourceError(Code.PATH_ESCAPE, "was swapped for a link while it was opened", subject=subject)
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return SourceError(Code.NOT_REGULAR, "is a socket or device", subject=subject)
    return SourceError(Code.UNREADABLE, error.strerror or type(error).__name__, subject=subject)
