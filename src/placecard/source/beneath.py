"""Opening paths beneath trusted roots, one component at a time, so that no link and no ``..`` leads out.

Every component is opened relative to the descriptor of its parent and never followed by the kernel. A link is read and
followed here, by hand, and its target must again lie beneath a root. A component that is swapped for a link between two
steps is therefore seen as a link, never walked through.
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
    """

    def __init__(self, roots: Sequence[Path], targets: Sequence[Path] = ()) -> None:
        self._named = _aliases(roots)
        self._reached = {**_aliases([*targets, *(blobs for root in roots for blobs in hub_blobs(root))]), **self._named}

    def covers(self, path: Path) -> bool:
        """Whether ``path``, as written, lies beneath a root."""
        return _locate(path.parts, self._named) is not None

    def open_file(self, path: Path) -> int:
        """Return a descriptor of the regular file at ``path``; never blocks on a pipe or device.

        Raises:
            SourceError: ``PATH_FORBIDDEN``, ``PATH_ESCAPE``, ``NOT_REGULAR``, ``NOT_FOUND`` or ``UNREADABLE``.
        """
        with self.find(path) as found:
            _want_regular(found.status, path)
            with _translated(path):
                fd = os.open(found.name, _READ, dir_fd=found.parent)
        try:
            _want_regular(os.fstat(fd), path)
        except BaseException:
            os.close(fd)
            raise
        return fd

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
        real, fd = root, os.open(root, _PASS & ~os.O_NOFOLLOW)
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
                deeper = _enter(part, fd, status)
                os.close(fd)
                real, fd = real / part, deeper
            found, fd = Found(fd, ".", real, os.fstat(fd)), -1
            return found
        finally:
            if fd >= 0:
                os.close(fd)


def _enter(part: str, parent: int, status: os.stat_result) -> int:
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "a file stands where a directory should")
    try:
        return os.open(part, _PASS, dir_fd=parent)
    except NotADirectoryError as error:  # it was a directory a moment ago
        raise OSError(errno.ELOOP, "swapped") from error


def hub_blobs(directory: Path) -> tuple[Path, ...]:
    """Return where the links of a hub snapshot lead: its repository's blobs and the cache's shared ones."""
    real = Path(os.path.realpath(directory))
    for at in (real, *real.parents):
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
