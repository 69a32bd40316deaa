"""A registry in a directory: one file for each worker, renamed into place, alive while it is touched."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio import to_thread

from placecard.discovery.base import Change, Record
from placecard.discovery.bell import Bell
from placecard.discovery.changes import changes
from placecard.discovery.folder import TEMPORARY, FileClock, open_directory
from placecard.discovery.record import check_instance, encode_record
from placecard.discovery.scan import Look, Scanner
from placecard.errors import Code, DiscoveryError
from placecard.telemetry import Fallback, Observe, ignore

MAX_PERIOD_S: Final = 1.0  # how late a change is seen that rings no bell: made on another host, or by touching alone
_T = TypeVar("_T")


class FileRegistry:
    """Records as files ``<instance>.json`` of one directory; see :class:`~placecard.discovery.base.Registry`.

    It is made with mode 0700 if absent. A worker's file is written beside its place, synced and renamed, so no reader
    sees half of it; its lease is the file's modification time. While the directory cannot be read, a watch keeps what
    it last knew and states a ``Fallback``.

    Args:
        directory: Shared by workers and front ends; on a network file system too.
        ttl_s: Seconds a lease lasts.
        clock: Monotonic seconds.
        inotify: False to poll, for file systems that ring for no change.
        file_clock: What stamps the files; the file system itself if omitted.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ttl_s: float = 10.0,
        observe: Observe = ignore,
        clock: Callable[[], float] = time.monotonic,
        inotify: bool = True,
        file_clock: FileClock | None = None,
    ) -> None:
        self.ttl_s = ttl_s
        self._directory = directory
        self._observe = observe
        self._clock = clock
        self._inotify = inotify
        self._file_clock = file_clock or FileClock()
        self._scanner = Scanner(
            directory, ttl_s=ttl_s, clock=clock, grace_s=max(60.0, 6 * ttl_s), file_clock=self._file_clock
        )
        self._written: dict[str, int] = {}
        self._limiter: anyio.CapacityLimiter | None = None

    async def __aenter__(self) -> FileRegistry:
        self._limiter = anyio.CapacityLimiter(4)  # our own: a hung network mount must not use up everybody's threads
        await self._in_thread(lambda: os.close(_directory(self._directory)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def put(self, record: Record) -> None:
        """Write ``record`` with a fresh lease; the directory is made again if it went away."""
        data = encode_record(record)
        self._written[record.instance] = await self._in_thread(
            lambda: _write(self._directory, record.instance, data, self._file_clock)
        )

    async def refresh(self, instance: str) -> bool:
        """Touch the file of ``instance``; False if it is gone or is no longer the one that was put."""
        name = f"{check_instance(instance)}.json"
        return await self._in_thread(
            lambda: _touch(self._directory, name, self._written.get(instance), self._file_clock)
        )

    async def delete(self, instance: str) -> None:
        """Remove the file of ``instance``."""
        name = f"{check_instance(instance)}.json"
        await self._in_thread(lambda: _remove(self._directory, name))
        self._written.pop(instance, None)

    async def list(self) -> tuple[Record, ...]:
        """Return the records whose lease is alive, ordered by instance."""
        look = await self._in_thread(self._scanner.look)
        return tuple(self._stated(look).records.values())

    async def watch(self) -> AsyncIterator[Change]:
        """Yield the present records, then changes, until the consumer stops.

        Raises:
            DiscoveryError: The directory cannot be read at the start. Later it is waited for.
        """
        seen: dict[str, Record] = {}
        started, blind = False, False
        with Bell(self._directory, inotify=self._inotify) as bell:
            while True:
                begun, next_end = time.monotonic(), None
                try:
                    look = self._stated(await self._in_thread(lambda: self._look_and_sweep(bell)))
                except DiscoveryError as error:
                    if not started:
                        raise
                    if not blind:
                        self._observe(Fallback("last_known_records", str(error)))
                    blind, spent_s = True, 0.0
                else:
                    started, blind, next_end, spent_s = True, False, look.next_end, time.monotonic() - begun
                    for change in changes(seen, look.records):
                        yield change
                    seen = dict(look.records)
                await bell.wait(self._pause_s(next_end))
                await anyio.sleep(min(1.0, max(0.01, 5 * spent_s)))  # a burst is one look, a sixth of the time at most
                bell.heard()

    def _pause_s(self, next_end: float | None) -> float:
        period = min(MAX_PERIOD_S, self.ttl_s / 4)
        return period if next_end is None else min(period, max(0.0, next_end - self._clock()))

    def _look_and_sweep(self, bell: Bell) -> Look:
        facts = bell.arm()  # before looking: what happens in between rings
        look = self._scanner.look()
        self._scanner.sweep()
        return Look(look.records, look.next_end, facts + look.facts)

    def _stated(self, look: Look) -> Look:
        for fact in look.facts:
            self._observe(fact)
        return look

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Run ``work`` in a thread; a caller that gives up does not wait for a hung file system."""
        try:
            return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        except OSError as error:
            raise _translated(error, self._directory) from error


def _translated(error: OSError, directory: Path) -> DiscoveryError:
    forbidden = isinstance(error, PermissionError)
    code = Code.DISCOVERY_FORBIDDEN if forbidden else Code.DISCOVERY_UNAVAILABLE
    return DiscoveryError(code, f"{error.strerror} (errno {error.errno})", subject=str(directory))


def _directory(path: Path) -> int:
    """Return a descriptor of the directory, which is made if it is absent."""
    try:
        return open_directory(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        return open_directory(path)


def _write(path: Path, instance: str, data: bytes, clock: FileClock) -> int:
    """Write a record beside its place and rename it; return the inode, by which :func:`_touch` knows it again."""
    directory = _directory(path)
    temporary = f"{TEMPORARY}{secrets.token_hex(8)}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory)
        try:
            with os.fdopen(fd, "wb", closefd=True) as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
                os.utime(fd, clock.stamp())  # a slow disk must not shorten the lease
                inode = os.fstat(fd).st_ino
            os.rename(temporary, f"{instance}.json", src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
        return inode
    finally:
        os.close(directory)


def _touch(path: Path, name: str, inode: int | None, clock: FileClock) -> bool:
    try:
        directory = open_directory(path)
    except FileNotFoundError:
        return False
    try:
        if inode is not None and os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino != inode:
            return False
        os.utime(name, clock.stamp(), dir_fd=directory, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return False
    finally:
        os.close(directory)


def _remove(path: Path, name: str) -> None:
    try:
        directory = open_directory(path)
    except FileNotFoundError:
        return
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    finally:
        os.close(directory)
