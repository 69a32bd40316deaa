"""Fetching: a want becomes a proven blob, or the list of what every candidate did wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import anyio
from anyio import to_thread

from placecard.card import CheckedFile, FileUri, HttpUri, HubUri, Uri
from placecard.errors import Code, PlacecardError, SourceError, VerificationError
from placecard.resolver.plan import Candidate, Want
from placecard.source import Source
from placecard.store import Blob, Ingest, Lease, Origin, Store
from placecard.telemetry import BytesArrived, CandidateFailed, FileHeld, FileVerified, Observe

ATTEMPTS: Final = 3
_FIRST_DELAY_S: Final = 0.1
_FORGET_AFTER_S: Final = 60.0
_MAX_REMEMBERED: Final = 4096
# Places that cost time: asked once for a file, and last for the others.
_SLOW: Final = frozenset({Code.SLOW_SOURCE, Code.CONNECT_FAILED})


@dataclass(frozen=True)
class Fetched:
    """A proven file and where its bytes came from; ``uri`` is empty when the store held it already."""

    want: Want
    blob: Blob
    origin: Origin
    uri: str


class NoSourceError(SourceError):
    """Every candidate failed; ``failures`` says how, in the order they were tried."""

    def __init__(self, name: str, failures: tuple[PlacecardError, ...], tried: Collection[str] = ()) -> None:
        # Wrong bytes say more than missing ones, whichever came last.
        worst = max(failures, key=lambda failure: isinstance(failure, VerificationError))
        more = f" ({len(failures)} candidates failed)" if len(failures) > 1 else ""
        super().__init__(worst.code, f"{worst.subject or name}: {worst.detail}{more}", subject=name, mend=worst.mend)
        self.failures = failures
        self.tried = frozenset(tried)

    @property
    def wrong_bytes(self) -> bool:
        """Whether some candidate delivered bytes that are not the advertised ones."""
        return any(isinstance(failure, VerificationError) for failure in self.failures)


class Refusals:
    """What failed lately: what cannot heal is not asked again for a minute, and slow places are asked last.

    A failure belongs to what was asked for, size and all: a card that lies about a size spoils no other card's file.
    Bounded; counts on the monotonic clock.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, int | None, str], tuple[float, PlacecardError]] = {}
        self._slow_until: dict[str, float] = {}

    def known(self, file: CheckedFile, uri: str) -> PlacecardError | None:
        """Return the failure that ``uri`` had for ``file`` less than a minute ago."""
        entry = self._until.get((file.digest, file.size, uri))
        return entry[1] if entry is not None and time.monotonic() < entry[0] else None

    def note(self, file: CheckedFile, uri: Uri, failure: PlacecardError) -> None:
        """Remember ``failure`` unless asking again could help; remember the place if it is slow or away."""
        until = time.monotonic() + _FORGET_AFTER_S
        if not failure.transient:
            _bounded(self._until)[file.digest, file.size, str(uri)] = (until, failure)
        elif failure.code in _SLOW and isinstance(uri, HttpUri):
            _bounded(self._slow_until)[uri.origin] = until

    def ordered(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return ``candidates`` with those of slow places last."""
        now = time.monotonic()

        def slow(candidate: Candidate) -> bool:
            uri = candidate.uri
            return isinstance(uri, HttpUri) and self._slow_until.get(uri.origin, now) > now

        return sorted(candidates, key=slow)


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _bounded(table: dict[_Key, _Value]) -> dict[_Key, _Value]:
    """Return ``table`` with room for one more: the oldest entry goes."""
    if len(table) >= _MAX_REMEMBERED:
        del table[next(iter(table))]
    return table


class Fetcher:
    """Brings wants into the store. Sources are hints: only what the digest proves is kept."""

    def __init__(
        self, store: Store, sources: Mapping[type[Uri], Source], *, max_file_bytes: int, observe: Observe
    ) -> None:
        self._store = store
        self._sources = sources
        self._max_file_bytes = max_file_bytes
        self._observe = observe
        self._refusals = Refusals()
        self._disk = anyio.CapacityLimiter(8)

    def held(self, want: Want) -> Fetched | None:
        """Return the file if the store has it already; blocking, some tens of microseconds."""
        blob = self._store.find(want.file.digest, want.file.size)
        if blob is None:
            return None
        self._observe(FileHeld(want.file.name, blob.size))
        return Fetched(want, blob, Origin.STORE, "")

    async def fetch(self, want: Want, lease: Lease) -> Fetched:
        """Return ``want`` from the first candidate that delivers its digest.

        Raises:
            NoSourceError: No candidate did.
            StoreError: The disk failed, which no other candidate can mend.
        """
        lease.pin(want.file.digest)
        # Another resolve may have brought it since this one looked.
        if (held := await to_thread.run_sync(self.held, want, limiter=self._disk)) is not None:
            return held
        failures: list[PlacecardError] = []
        waiting = list(want.candidates)
        while waiting:
            candidate, *waiting = self._refusals.ordered(waiting)
            failure = self._refusals.known(want.file, str(candidate.uri))
            if failure is None:
                try:
                    return await self._try(want, candidate)
                except (SourceError, VerificationError) as error:
                    failure = error
                    self._refusals.note(want.file, candidate.uri, error)
            failures.append(failure)
            self._observe(CandidateFailed(want.file.name, str(candidate.uri), failure.code, failure.detail))
        if not failures:
            failures = [SourceError(Code.NO_CANDIDATE, "no source is known", subject=want.file.name)]
        raise NoSourceError(want.file.name, tuple(failures), [str(candidate.uri) for candidate in want.candidates])

    async def _try(self, want: Want, candidate: Candidate) -> Fetched:
        """Ask one place, again after a jittered pause where that can help."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                started = time.monotonic()
                blob = await self._transfer(want, candidate.uri)
            except SourceError as error:
                if attempt == ATTEMPTS or not error.transient or error.code in _SLOW:
                    raise
                await anyio.sleep(_FIRST_DELAY_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311
            else:
                uri, seconds = str(candidate.uri), time.monotonic() - started
                self._observe(FileVerified(want.file.name, blob.size, candidate.origin.value, uri, seconds))
                return Fetched(want, blob, candidate.origin, uri)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _transfer(self, want: Want, uri: Uri) -> Blob:
        file = want.file
        async with self._source_of(uri).open(uri) as chunks:
            with self._ingest(file, str(uri)) as ingest:
                async for chunk in chunks:
                    self._observe(BytesArrived("", file.name, len(chunk)))
                    await to_thread.run_sync(ingest.write, chunk, limiter=self._disk)
                return await to_thread.run_sync(ingest.commit, limiter=self._disk)

    def _ingest(self, file: CheckedFile, uri: str) -> Ingest:
        return self._store.ingest(digest=file.digest, size=file.size, limit_bytes=self._max_file_bytes, subject=uri)

    def _source_of(self, uri: Uri) -> Source:
        source = self._sources.get(type(uri))
        if source is None:
            kind = {HubUri: "the hub", FileUri: "files", HttpUri: "workers"}[type(uri)]
            raise SourceError(Code.NO_CANDIDATE, f"{kind} may not be asked here", subject=str(uri))
        return source
