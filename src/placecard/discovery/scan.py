"""One look at a directory of records: which are alive, which cannot be read. Blocking, and safe to abandon in a thread.

The directory is shared with whatever else writes there, so nothing in it is trusted: names are matched before
anything is opened, and only regular files are, without following links and without waiting. What is not a record is
stated once and passed over.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from blake3 import blake3

from placecard.discovery.base import Record
from placecard.discovery.lease import lease_end
from placecard.discovery.record import MAX_RECORD_BYTES, check_place, decode_record
from placecard.errors import Code, DiscoveryError, PlacecardError
from placecard.errors import error as error_of
from placecard.telemetry import Fact, Fallback, RecordRejected

MAX_ENTRIES: Final = 200_000
MAX_RECORDS: Final = 10_000
MAX_STATED_NAMES: Final = 64
RACY_S: Final = (
    2.0  # the coarsest time stamps of a file system in use (FAT): a file changed so lately can change again unseen
)
TEMPORARY: Final = ".placecard-"
_NAME = re.compile(r"([0-9a-f]{32})\.json")


@dataclass(frozen=True)
class Look:
    """What one look saw: records by instance, when the next lease ends (monotonic), what is to be stated."""

    records: Mapping[str, Record]
    next_end: float | None
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class _Stamp:
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @staticmethod
    def of(status: os.stat_result) -> _Stamp:
        return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class _Known:
    """What is known of one file. ``record`` is the last good one, also while the file holds something unreadable."""

    stamp: _Stamp
    digest: bytes
    record: Record | None
    end: float
    touched_at: float
    racy: bool
    good: bool


@dataclass
class _Moment:
    """The directory and both clocks during one look."""

    fd: int
    now: float
    file_now: float
    facts: list[Fact] = field(default_factory=list)


class Scanner:
    """Looks at one directory again and again, and reads only what changed.

    Args:
        directory: Where the records are, ``<instance>.json`` each.
        ttl_s: Seconds a lease lasts.
        clock: Monotonic seconds.
        grace_s: How long an expired file is left lying before :meth:`sweep` removes it.
    """

    def __init__(self, directory: Path, *, ttl_s: float, clock: Callable[[], float], grace_s: float) -> None:
        self._directory = directory
        self._ttl_s = ttl_s
        self._clock = clock
        self._grace_s = grace_s
        self._known: dict[str, _Known] = {}
        self._temporary: dict[str, float] = {}
        self._stated: set[str] = set()
        self._looked_at: float | None = None
        self._blind_since: float | None = None
        self._lock = threading.Lock()

    def look(self) -> Look:
        """Look at the directory. Where there is none, what was known lives on until its lease ends.

        Raises:
            OSError: The directory exists and cannot be read.
            DiscoveryError: ``DISCOVERY_FORBIDDEN``; other users may write it.
        """
        with self._lock:
            now = self._clock()
            try:
                fd = open_directory(self._directory)
            except FileNotFoundError:
                self._known = {name: known for name, known in self._known.items() if known.end > now}
                return self._seen(now, ())
            except (OSError, DiscoveryError):
                self._blind_since = now if self._blind_since is None else self._blind_since
                raise
            try:
                return self._look(fd, now)
            finally:
                os.close(fd)

    def sweep(self) -> None:
        """Remove records that ended long ago, and temporary files of writers that died."""
        with self._lock:
            now = self._clock()
            old = {n: k for n, k in self._known.items() if k.good and now - k.touched_at > self._ttl_s + self._grace_s}
            stray = [name for name, seen in self._temporary.items() if now - seen > self._grace_s]
            if not old and not stray:
                return
            fd = open_directory(self._directory)
            try:
                for name, known in old.items():
                    if _Stamp.of(os.stat(name, dir_fd=fd, follow_symlinks=False)) == known.stamp:
                        os.unlink(name, dir_fd=fd)
                for name in stray:
                    os.unlink(name, dir_fd=fd)
            except OSError:
                return  # another reader was faster, or this one may only read: whoever may write here removes it
            finally:
                os.close(fd)

    def _look(self, fd: int, now: float) -> Look:
        if (since := self._blind_since) is not None:
            # Nobody could be seen alive meanwhile: who was alive before gets one whole lease to be seen again.
            again = now + self._ttl_s
            self._known = {n: replace(k, end=max(k.end, again)) if k.end > since else k for n, k in self._known.items()}
            self._blind_since = None
        moment = _Moment(fd, now, 0.0)
        moment.file_now = self._file_time(moment)
        read = ((name, self._read(name, moment)) for name in self._names(moment))
        self._known = {name: known for name, known in read if known is not None}
        self._looked_at = now
        return self._seen(now, tuple(moment.facts))

    def _seen(self, now: float, facts: tuple[Fact, ...]) -> Look:
        alive = [(name, k.record, k.end) for name, k in self._known.items() if k.record is not None and k.end > now]
        records = {name.removesuffix(".json"): record for name, record, _ in sorted(alive, key=lambda each: each[0])}
        return Look(records, min((end for _, _, end in alive), default=None), facts)

    def _names(self, moment: _Moment) -> list[str]:
        """Return the names that can be records, known ones first, so that a flood of foreign files hides no worker."""
        names: list[str] = []
        temporary: dict[str, float] = {}
        for name in _listing(moment.fd):
            if _NAME.fullmatch(name):
                names.append(name)
            elif name.startswith(TEMPORARY):
                temporary[name] = self._temporary.get(name, moment.now)
            elif name.endswith(".json") and not name.startswith("."):
                self._state(moment, name, Code.RECORD_MALFORMED, "the name is not <32 hex digits>.json")
        self._temporary = temporary
        names.sort(key=lambda name: (name not in self._known, name))
        if len(names) > MAX_RECORDS:
            self._state(moment, "*", Code.CARD_TOO_LARGE, f"{len(names)} records; {MAX_RECORDS} are read")
        return names[:MAX_RECORDS]

    def _read(self, name: str, moment: _Moment) -> _Known | None:
        known = self._known.get(name)
        try:
            stamp = _Stamp.of(os.stat(name, dir_fd=moment.fd, follow_symlinks=False))
            if known is not None and known.stamp == stamp and not known.racy:
                return known
            stamp, data = _contents(name, moment.fd)
            digest = blake3(data).digest()
            if known is not None and known.good and known.digest == digest:
                record = known.record
            else:
                record = decode_record(data)
                check_place(name.removesuffix(".json"), record)
        except FileNotFoundError:
            return None  # withdrawn between the listing and now
        except OSError as error:
            detail = f"{error.strerror} ({error.errno})"
            return self._rejected(name, moment, error_of(Code.UNREADABLE, detail))
        except PlacecardError as error:
            return self._rejected(name, moment, error)
        return self._renewed(known, stamp, moment, digest, record)

    def _renewed(
        self, known: _Known | None, stamp: _Stamp, moment: _Moment, digest: bytes, record: Record | None
    ) -> _Known:
        racy = moment.file_now - stamp.ctime_ns / 1e9 < RACY_S
        touched = known is None or known.stamp.mtime_ns != stamp.mtime_ns
        if known is not None and known.good and not touched:
            return replace(known, stamp=stamp, digest=digest, record=record, racy=racy)
        end = lease_end(
            touched=stamp.mtime_ns / 1e9,
            file_now=moment.file_now,
            now=moment.now,
            ttl_s=self._ttl_s,
            untouched_at=self._looked_at if known is not None and touched else None,
        )
        return _Known(stamp, digest, record, end, touched_at=moment.now, racy=racy, good=True)

    def _rejected(self, name: str, moment: _Moment, error: PlacecardError) -> _Known | None:
        """State the rejection once for each version of the file; the last good record keeps the rest of its lease."""
        try:
            stamp = _Stamp.of(os.stat(name, dir_fd=moment.fd, follow_symlinks=False))
        except OSError:
            return None
        known = self._known.get(name)
        same = known is not None and (known.stamp.mtime_ns, known.stamp.size) == (stamp.mtime_ns, stamp.size)
        if known is None or known.good or not same:
            moment.facts.append(RecordRejected(ascii(name), error.code, str(error)))
        racy = moment.file_now - stamp.ctime_ns / 1e9 < RACY_S
        record, end = (known.record, known.end) if known is not None else (None, moment.now)
        return _Known(stamp, b"", record, end, touched_at=moment.now, racy=racy, good=False)

    def _state(self, moment: _Moment, name: str, code: Code, detail: str) -> None:
        """State something about a name once, and about so many names that a flood of them stays readable."""
        if name in self._stated or len(self._stated) > MAX_STATED_NAMES:
            return
        self._stated.add(name)
        if len(self._stated) > MAX_STATED_NAMES:
            name, detail = "*", f"more than {MAX_STATED_NAMES} foreign names; no more are stated"
        moment.facts.append(RecordRejected(ascii(name), code, detail))

    def _file_time(self, moment: _Moment) -> float:
        """Return what the file system's clock says, in seconds: the stamp of a file made now and gone at once."""
        try:
            return _probe(moment.fd)
        except FileNotFoundError:
            return time.time()  # the directory was removed just now; the listing will be empty
        except OSError as error:
            if "" not in self._stated:
                self._stated.add("")
                cause = f"no file can be made in {self._directory}: {error.strerror}"
                moment.facts.append(Fallback("reader_clock_instead_of_file_system_clock", cause))
            return time.time()


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


def _listing(fd: int) -> Iterator[str]:
    with os.scandir(fd) as entries:
        for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
            yield entry.name


def _contents(name: str, directory: int) -> tuple[_Stamp, bytes]:
    """Return stamp and bytes of a regular file that is small enough."""
    before = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(before.st_mode):  # asked before opening: opening a device can do things
        raise error_of(Code.NOT_REGULAR, "is not a regular file")
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=directory)
    with os.fdopen(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise error_of(Code.NOT_REGULAR, "is not a regular file")
        data = b""
        while len(data) <= MAX_RECORD_BYTES and (chunk := file.read(MAX_RECORD_BYTES + 1 - len(data))):
            data += chunk
        return _Stamp.of(status), data


def _probe(directory: int) -> float:
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
