"""A registry in the directory of Dynamo's file discovery: what its workers write, and what its front ends read."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio import to_thread
from blake3 import blake3

from placecard.discovery import Change, Record, changes
from placecard.discovery.lease import lease_end
from placecard.discovery.record import check_instance
from placecard.dynamo.filekv import INSTANCES, MODELS, TTL_S, FileKv, Stamp, decode_key
from placecard.dynamo.record import (
    MAX_RECORD_BYTES,
    Worker,
    Written,
    decode_model_record,
    dynamo_instance_id,
    encode_model_record,
)
from placecard.errors import Code, DiscoveryError, PlacecardError
from placecard.telemetry import Fact, Fallback, Observe, RecordRejected, ignore

PERIOD_S: Final = 1.0
MAX_LOOK_BYTES: Final = 64 << 20
"""Bytes of all records that one look takes; what is known and alive comes first."""
MAX_NOTES: Final = 8  # of one card
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Known:
    """What is known of one file; ``record`` is the last good one, also while the file holds something unreadable."""

    stamp: Stamp
    digest: bytes
    record: Record | None
    end: float


class DynamoFileRegistry:
    """Dynamo's file discovery (``DYN_DISCOVERY_BACKEND=file``); see :class:`~placecard.discovery.base.Registry`.

    A record of a Dynamo worker gets an instance derived from its place; the URIs are on its card, so it has no address.
    It is complete only where the worker lists extra files, as self-hosting ones do. A card that is understood in part
    is used, and what was passed over is stated as a ``Fallback``.

    Args:
        directory: ``DYN_FILE_KV`` of the fleet; it need not exist yet.
        ttl_s: Seconds a lease lasts; Dynamo's own constant.
        period_s: Seconds between two looks of a watch.
        worker: Where Dynamo is to look for what :meth:`put` writes.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ttl_s: float = TTL_S,
        period_s: float = PERIOD_S,
        worker: Worker | None = None,
        observe: Observe = ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_s = ttl_s
        self._kv = FileKv(directory)
        self._period_s = period_s
        self._worker = worker or Worker()
        self._observe = observe
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._looked_at: float | None = None
        self._written: dict[str, Written] = {}
        self._stated: dict[str, bytes] = {}
        self._passed_over: list[str] = []
        self._facts: list[Fact] = []
        self._limiter: anyio.CapacityLimiter | None = None
        self._lock = threading.Lock()

    async def __aenter__(self) -> DynamoFileRegistry:
        await self._in_thread(self._kv.check)
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def put(self, record: Record) -> None:
        """Write the model's record and its worker's, each with a fresh lease."""
        written = encode_model_record(record, self._worker)
        earlier = self._written.get(record.instance)

        def write() -> None:
            self._kv.write(INSTANCES, written.instance_key, written.instance)
            self._kv.write(MODELS, written.model_key, written.model)
            if earlier is not None and earlier.model_key != written.model_key:
                self._kv.remove(MODELS, earlier.model_key)

        await self._in_thread(write)
        if not self._written:
            cause = f"Dynamo will send requests to {self._worker.request_address}; a publisher takes none there"
            self._observe(Fallback("dynamo_lists_metadata_only", cause))
        self._written[record.instance] = written

    async def refresh(self, instance: str) -> bool:
        """Touch both records of ``instance``; False if either is gone."""
        written = self._written.get(check_instance(instance))
        if written is None:
            return False
        return await self._in_thread(
            lambda: self._kv.touch(MODELS, written.model_key) and self._kv.touch(INSTANCES, written.instance_key)
        )

    async def delete(self, instance: str) -> None:
        """Remove the records of ``instance``, the model's first; those of an earlier process too."""
        worker = self._worker
        key = f"{worker.namespace}/{worker.component}/{worker.endpoint}/{dynamo_instance_id(instance):x}"

        def remove() -> None:
            for name in self._kv.scan(MODELS):
                if (found := decode_key(name)) == key or found.startswith(f"{key}/"):
                    self._kv.remove(MODELS, found)
            self._kv.remove(INSTANCES, key)

        await self._in_thread(remove)
        self._written.pop(instance, None)

    async def list(self) -> tuple[Record, ...]:
        """Return the records whose lease is alive, ordered by instance."""
        return tuple((await self._look()).values())

    async def watch(self) -> AsyncIterator[Change]:
        """Yield the present records, then changes, until the consumer stops.

        Raises:
            DiscoveryError: The directory cannot be read at the start. Later it is waited for.
        """
        seen: Mapping[str, Record] = await self._look()
        for change in changes({}, seen):
            yield change
        blind = False
        while True:
            await anyio.sleep(self._period_s)
            try:
                found = await self._look()
            except DiscoveryError as error:
                if not blind:
                    self._observe(Fallback("last_known_records", str(error)))
                blind = True
                continue
            blind = False
            for change in changes(seen, found):
                yield change
            seen = found

    async def _look(self) -> dict[str, Record]:
        def locked() -> tuple[dict[str, Record], list[Fact]]:
            with self._lock:
                self._facts = []
                return self._scan(), self._facts

        records, facts = await self._in_thread(locked)
        for fact in facts:
            self._observe(fact)
        return records

    def _scan(self) -> dict[str, Record]:
        """Return the live records by instance. Blocking; what did not change since the last look is not read again."""
        now, known, room = self._clock(), dict[str, _Known](), MAX_LOOK_BYTES
        before, self._passed_over = self._passed_over, []
        found = self._kv.scan(MODELS)
        for name in sorted(found, key=lambda name: (self._turn(name, now), name)):
            if (entry := self._entry(name, found[name], now, room)) is not None:
                known[name] = entry
                room -= _size(entry.stamp)
        self._known, self._looked_at = known, now
        self._stated = {name: digest for name, digest in self._stated.items() if name in known}
        self._state_passed_over(before)
        records: dict[str, Record] = {}
        for name, entry in known.items():
            if entry.record is None or entry.end <= now:
                continue
            if entry.record.instance in records:
                self._reject(name, Code.RECORD_MALFORMED, "another record speaks for the same instance", entry.digest)
                continue
            records[entry.record.instance] = entry.record
        return dict(sorted(records.items()))

    def _turn(self, name: str, now: float) -> int:
        """Say who takes room first: live records, then those never read, then those whose lease has ended."""
        known = self._known.get(name)
        return 1 if known is None else 0 if known.end > now else 2

    def _entry(self, name: str, stamp: Stamp, now: float, room: int) -> _Known | None:
        known = self._known.get(name)
        if known is not None and known.stamp == stamp and (_size(stamp) <= room or known.end <= now):
            return known if _size(stamp) <= room else None
        end = lease_end(
            touched=stamp.touched_s,
            file_now=time.time(),
            now=now,
            ttl_s=self.ttl_s,
            untouched_at=self._looked_at if known is not None else None,
        )
        if known is None and end <= now:
            return None  # left lying by a worker that died; nobody needs to read it
        if _size(stamp) > room:
            self._passed_over.append(name)
            return None
        try:
            data = self._kv.read(MODELS, name, max_bytes=MAX_RECORD_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            data = f"unreadable: {error.strerror}".encode()
        digest = blake3(data).digest()
        if known is not None and known.digest == digest:
            return replace(known, stamp=stamp, end=end)
        last = None if known is None else known.record
        return _Known(stamp, digest, self._decoded(name, data, digest) or last, end)

    def _decoded(self, name: str, data: bytes, digest: bytes) -> Record | None:
        """Return the record in ``data``, or None once the reason is stated."""
        try:
            record, info = decode_model_record(data, key=decode_key(name))
        except PlacecardError as error:
            self._reject(name, error.code, str(error), digest)
            return None
        if record.card.unknown.get("dynamo"):  # a card of our own, read whole, has no notes to state
            for note in info.notes[:MAX_NOTES]:
                self._facts.append(Fallback("dynamo_card_read_in_part", f"{record.card.name}: {note}"))
        return record

    def _state_passed_over(self, before: Sequence[str]) -> None:
        """State what found no room, once for each such set of records."""
        if self._passed_over and self._passed_over != before:
            names = ", ".join(ascii(decode_key(name)) for name in self._passed_over[:3])
            cause = f"{len(self._passed_over)} records are over the {MAX_LOOK_BYTES} bytes of one look: {names} …"
            self._facts.append(Fallback("dynamo_records_passed_over", cause))

    def _reject(self, name: str, code: Code, detail: str, digest: bytes) -> None:
        """State a rejection once for each content of a file."""
        if self._stated.get(name) != digest:
            self._stated[name] = digest
            self._facts.append(RecordRejected(ascii(decode_key(name)), code, detail))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Run ``work`` in a thread; a caller that gives up does not wait for a hung file system."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(4)
        return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)


def _size(stamp: Stamp) -> int:
    """Return how many bytes are read of a file, at most."""
    return min(stamp.size, MAX_RECORD_BYTES + 1)
