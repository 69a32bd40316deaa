"""One look at a directory of records: which are alive, which cannot be read. Blocking, and safe to abandon in a thread.

Names are matched before anything is opened. What is not a record is stated once and passed over; how much is read is
bounded, and shared out so that no flood hides a worker.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from blake3 import blake3

from placecard.discovery.base import Record
from placecard.discovery.folder import (
    TEMPORARY,
    FileClock,
    Stamp,
    contents,
    is_shared,
    listing,
    open_directory,
    why_foreign,
)
from placecard.discovery.lease import lease_end
from placecard.discovery.record import MAX_RECORD_BYTES, check_place, decode_record
from placecard.discovery.turns import in_turn
from placecard.errors import Code, DiscoveryError, PlacecardError
from placecard.errors import error as error_of
from placecard.telemetry import Fact, Fallback, RecordRejected

MAX_RECORDS: Final = 10_000
MAX_BYTES: Final = 32 << 20  # of all records together: read, they take about four times as much memory
MAX_STATED_NAMES: Final = 64
RACY_S: Final = (
    2.0  # the coarsest time stamps of a file system in use (FAT): a file changed so lately can change again unseen
)
_NAME = re.compile(r"([0-9a-f]{32})\.json")


@dataclass(frozen=True)
class Look:
    """What one look saw: records by instance, when the next lease ends (monotonic), what is to be stated."""

    records: Mapping[str, Record]
    next_end: float | None
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class _Known:
    """What is known of one file. ``record`` is the last good one, also while the file holds something unreadable."""

    stamp: Stamp
    digest: bytes
    record: Record | None
    end: float
    touched_at: float
    racy: bool
    good: bool


@dataclass
class _Moment:
    """The directory and both clocks during one look.

    Args:
        shared: Whether the directory is shared with a group on purpose, so that other users' records count.
    """

    fd: int
    now: float
    file_now: float
    shared: bool
    facts: list[Fact] = field(default_factory=list)


class Scanner:
    """Looks at one directory again and again, and reads only what changed.

    Args:
        directory: Where the records are, ``<instance>.json`` each.
        ttl_s: Seconds a lease lasts.
        clock: Monotonic seconds.
        grace_s: How long an expired file is left lying before :meth:`sweep` removes it.
        file_clock: What stamps the files.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ttl_s: float,
        clock: Callable[[], float],
        grace_s: float,
        file_clock: FileClock | None = None,
    ) -> None:
        self._directory = directory
        self._file_clock = file_clock or FileClock()
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
                    if Stamp.of(os.stat(name, dir_fd=fd, follow_symlinks=False)) == known.stamp:
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
        moment = _Moment(fd, now, 0.0, is_shared(os.fstat(fd)))
        moment.file_now = self._file_time(moment)
        read = list(self._read_within_bounds(moment))
        self._known = {name: known for name, known in read if known is not None}
        self._looked_at = now
        return self._seen(now, tuple(moment.facts))

    def _seen(self, now: float, facts: tuple[Fact, ...]) -> Look:
        alive = [(name, k.record, k.end) for name, k in self._known.items() if k.record is not None and k.end > now]
        records = {name.removesuffix(".json"): record for name, record, _ in sorted(alive, key=lambda each: each[0])}
        return Look(records, min((end for _, _, end in alive), default=None), facts)

    def _read_within_bounds(self, moment: _Moment) -> Iterator[tuple[str, _Known | None]]:
        """Yield what is known of each record, as many as the bounds allow; the rest is stated as passed over."""
        left, passed = MAX_BYTES, list[str]()
        found = in_turn(
            self._stats(moment), lives=lambda name: self._lives(name, moment.now), latest=moment.file_now + RACY_S
        )
        if len(found) > MAX_RECORDS:
            self._state(moment, "*", Code.CARD_TOO_LARGE, f"{len(found)} records; {MAX_RECORDS} are read")
        for name, status in found[:MAX_RECORDS]:
            size = min(status.st_size, MAX_RECORD_BYTES + 1)
            if size > left:
                passed.append(name)
                yield name, self._known.get(name)  # what was known keeps the rest of its lease
                continue
            left -= size
            yield name, self._read(name, moment)
        if passed:
            detail = f"{len(passed)} records passed over, {passed[0]} first: all together may have {MAX_BYTES} bytes"
            self._state(moment, "* bytes", Code.CARD_TOO_LARGE, detail)

    def _lives(self, name: str, now: float) -> bool:
        known = self._known.get(name)
        return known is not None and known.record is not None and known.end > now

    def _stats(self, moment: _Moment) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the files that can be records of those who may write here; others are stated."""
        for name in self._names(moment):
            try:
                status = os.stat(name, dir_fd=moment.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # withdrawn between the listing and now
            except OSError as error:
                self._state(moment, name, Code.UNREADABLE, f"{error.strerror} ({error.errno})")
                continue
            if why := why_foreign(status, shared=moment.shared):
                self._state(moment, name, Code.DISCOVERY_FORBIDDEN, why)
            else:
                yield name, status

    def _names(self, moment: _Moment) -> list[str]:
        """Return the names that can be records."""
        names: list[str] = []
        temporary: dict[str, float] = {}
        for name in listing(moment.fd):
            if _NAME.fullmatch(name):
                names.append(name)
            elif name.startswith(TEMPORARY):
                temporary[name] = self._temporary.get(name, moment.now)
            elif name.endswith(".json") and not name.startswith("."):
                self._state(moment, name, Code.RECORD_MALFORMED, "the name is not <32 hex digits>.json")
        self._temporary = temporary
        return names

    def _read(self, name: str, moment: _Moment) -> _Known | None:
        known = self._known.get(name)
        try:
            stamp = Stamp.of(os.stat(name, dir_fd=moment.fd, follow_symlinks=False))
            if known is not None and known.stamp == stamp and not known.racy:
                return known
            stamp, data = contents(name, moment.fd, shared=moment.shared)
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
        self, known: _Known | None, stamp: Stamp, moment: _Moment, digest: bytes, record: Record | None
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
            stamp = Stamp.of(os.stat(name, dir_fd=moment.fd, follow_symlinks=False))
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
        """Return what the file system's clock says, in seconds; the reader's own where no file can be made."""
        try:
            return self._file_clock.now(moment.fd)
        except FileNotFoundError:
            return time.time()  # the directory was removed just now; the listing will be empty
        except OSError as error:
            if "" not in self._stated:
                self._stated.add("")
                cause = f"no file can be made in {self._directory}: {error.strerror}"
                moment.facts.append(Fallback("reader_clock_instead_of_file_system_clock", cause))
            return time.time()
