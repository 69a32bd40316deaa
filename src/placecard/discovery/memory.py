"""A registry inside one process: for tests, demonstrations, and a worker and front end that share a process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio

from placecard.discovery.base import Change, Record
from placecard.discovery.changes import changes
from placecard.discovery.record import check_instance, check_place, decode_record, encode_record
from placecard.errors import PlacecardError
from placecard.telemetry import Observe, RecordRejected, ignore


@dataclass(frozen=True)
class _Entry:
    data: bytes
    deadline: float


class MemoryHub:
    """What several :class:`MemoryRegistry` handles share. There is no global one.

    Args:
        ttl_s: Seconds a lease lasts.
        clock: Monotonic seconds. Whoever moves a clock of their own calls :meth:`wake` afterwards.
    """

    def __init__(self, *, ttl_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.ttl_s = ttl_s
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._changed = anyio.Event()

    def write(self, key: str, data: bytes) -> None:
        """Set the raw bytes under ``key`` with a fresh lease; nothing is checked."""
        self._entries[key] = _Entry(data, self._clock() + self.ttl_s)
        self.wake()

    def renew(self, key: str) -> bool:
        """Extend the lease of ``key``; False if it is gone."""
        entry = self._entries.get(key)
        if entry is None or entry.deadline <= self._clock():
            return False
        self._entries[key] = _Entry(entry.data, self._clock() + self.ttl_s)
        return True

    def remove(self, key: str) -> None:
        """Forget ``key``."""
        if self._entries.pop(key, None) is not None:
            self.wake()

    def alive(self) -> dict[str, bytes]:
        """Return the entries whose lease is alive; the others are forgotten."""
        now = self._clock()
        self._entries = {key: entry for key, entry in self._entries.items() if entry.deadline > now}
        return {key: entry.data for key, entry in sorted(self._entries.items())}

    def wake(self) -> None:
        """Let every watcher look again."""
        self._changed.set()
        self._changed = anyio.Event()

    async def changed(self) -> None:
        """Wait until something was written or removed, or until the next lease runs out."""
        event = self._changed
        first = min((entry.deadline for entry in self._entries.values()), default=None)
        with anyio.move_on_after(None if first is None else max(0.0, first - self._clock())):
            await event.wait()


class MemoryRegistry:
    """A handle on a :class:`MemoryHub`; see :class:`~placecard.discovery.base.Registry`."""

    def __init__(self, hub: MemoryHub, *, observe: Observe = ignore) -> None:
        self.ttl_s = hub.ttl_s
        self._hub = hub
        self._observe = observe
        self._read: dict[str, tuple[bytes, Record | None]] = {}

    async def __aenter__(self) -> MemoryRegistry:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def put(self, record: Record) -> None:
        """Write ``record`` with a fresh lease."""
        self._hub.write(record.instance, encode_record(record))

    async def refresh(self, instance: str) -> bool:
        """Renew the lease of ``instance``; False if its record is gone."""
        return self._hub.renew(check_instance(instance))

    async def delete(self, instance: str) -> None:
        """Withdraw ``instance``."""
        self._hub.remove(check_instance(instance))

    async def list(self) -> tuple[Record, ...]:
        """Return the records whose lease is alive, ordered by instance."""
        return tuple(self._records().values())

    async def watch(self) -> AsyncIterator[Change]:
        """Yield the present records, then changes, until the consumer stops."""
        seen: dict[str, Record] = {}
        while True:
            records = self._records()
            for change in changes(seen, records):
                yield change
            seen = records
            if self._records() == seen:  # the consumer may have been slow
                await self._hub.changed()

    def _records(self) -> dict[str, Record]:
        raw = self._hub.alive()
        self._read = {key: self._decoded(key, data) for key, data in raw.items()}
        return {key: record for key, (_, record) in self._read.items() if record is not None}

    def _decoded(self, key: str, data: bytes) -> tuple[bytes, Record | None]:
        known = self._read.get(key)
        if known is not None and known[0] == data:
            return known
        try:
            record = decode_record(data)
            check_place(key, record)
        except PlacecardError as error:
            self._observe(RecordRejected(key, error.code, str(error)))
            return data, None
        return data, record
