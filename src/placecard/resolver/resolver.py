"""The resolver: card in, directory out. ``_pipeline`` reads like the pipeline: plan, fetch, harvest, snapshot, load
test."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Self

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from placecard.admission import State
from placecard.admission.losses import losses
from placecard.card import (
    FileUri,
    HttpUri,
    HubUri,
    LeftOut,
    Uri,
    content_digest,
    lint,
    serving_digest,
    to_json,
)
from placecard.discovery import Record
from placecard.errors import AdmissionError, CardError, Code, PlacecardError, StoreError, flatten
from placecard.resolver.admit import Admission, Admit
from placecard.resolver.fetch import Fetched, Fetcher, NoSourceError
from placecard.resolver.flights import Flights
from placecard.resolver.gather import Gatherer
from placecard.resolver.outcome import Resolution
from placecard.resolver.peers import Peers
from placecard.resolver.plan import Plan, Want, plan
from placecard.resolver.revisions import Revisions
from placecard.resolver.settings import ResolveSettings
from placecard.resolver.work import Work, raise_all
from placecard.source import HttpSource, HubSource, LocalSource, Source
from placecard.store import Proof, Snapshot, Store, generation_id
from placecard.telemetry import Degraded, Observe, StageEnded, StageStarted, ignore

_ATTEMPTS: Final = 2


@dataclass(frozen=True)
class Sources:
    """The places a resolver may ask."""

    local: LocalSource
    http: HttpSource
    hub: HubSource


class Resolver:
    """Turns records into proven directories. Use with ``async with``: downloads belong to it, not to their callers."""

    def __init__(
        self, store: Store, sources: Sources, settings: ResolveSettings, *, admit: Admit, observe: Observe = ignore
    ) -> None:
        self._store = store
        self._settings = settings
        self._admit = admit
        self._observe = observe
        by_type: Mapping[type[Uri], Source] = {FileUri: sources.local, HttpUri: sources.http, HubUri: sources.hub}
        limit = min(settings.budget.max_file_bytes, settings.budget.max_card_bytes)
        self._fetcher = Fetcher(store, by_type, max_file_bytes=limit, observe=observe)
        self._revisions = Revisions(sources.hub, store, offline=settings.offline, observe=observe)
        self._gatherer = Gatherer(
            store, sources.local, sources.hub, revisions=self._revisions, settings=settings, observe=observe
        )
        self._limiter = anyio.Semaphore(settings.parallel)
        self._flights: Flights[Fetched]
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._flights = Flights(self._tasks)
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(*exc)

    async def resolve(self, record: Record, peers: Peers | None = None) -> Resolution:
        """Return what came of resolving ``record``; never raises for what a card, a source or a disk does.

        The last good generation stays in place whatever happens here.

        Args:
            record: The card and the worker that advertises it.
            peers: Who else holds its files.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            work = Work(record, peers or Peers())
            try:
                with self._store.lease() as work.lease:
                    return await self._pipeline(work)
            except* PlacecardError as group:
                errors = tuple(flatten(group))
            # A blob that another process collected meanwhile is simply fetched again.
            if attempt == _ATTEMPTS or all(error.code is not Code.STORE_MISSING for error in errors):
                break
        return await to_thread.run_sync(self._refused, work, errors)

    async def _pipeline(self, work: Work) -> Resolution:
        with self._stage(work, "plan"):
            the_plan = await self._plan(work)
        with self._stage(work, "fetch", total=sum(want.file.size or 0 for want in the_plan.wants)):
            await self._fetch(work, the_plan.wants)
        with self._stage(work, "harvest"):
            await self._gatherer.gather(work)
            self._take_over_losses(work)
            self._check_proofs(work)
        with self._stage(work, "snapshot"):
            snapshot = await to_thread.run_sync(self._publish, work)
        with self._stage(work, "load test"):
            admission = await self._admit.admit(snapshot, work.record)
        return await to_thread.run_sync(self._conclude, work, snapshot, admission)

    # plan

    async def _plan(self, work: Work) -> Plan:
        await self._revisions.pin_sources(work)
        the_plan = plan(work.card, self._revisions.places(work), self._settings)
        work.outside.extend(the_plan.left_out)
        for note in lint(work.card):
            if note.code in (Code.CARD_POLICY_IGNORED, Code.CARD_INCOMPLETE):
                work.notices.append(Degraded(note.code, "", "", str(note), note.mend))
        raise_all(the_plan.refusals)
        return the_plan

    # fetch

    async def _fetch(self, work: Work, wants: Sequence[Want]) -> None:
        """Bring in what is wanted; what a foreign card's own places do not have, from the hub as the last rung."""
        await self._fetch_all(work, wants)
        if work.failed and await self._revisions.pin_fallback(work):
            again = plan(work.card, self._revisions.places(work), self._settings).wants
            failed, work.failed = work.failed, {}
            await self._fetch_all(work, [want for want in again if want.file.name in failed])
        self._check_fetched(work)
        total, most = sum(fetched.blob.size for fetched in work.fetched), self._settings.budget.max_card_bytes
        if total > most:  # cards of other systems do not say their sizes beforehand
            raise CardError(Code.CARD_TOO_LARGE, f"the files sum to {total} bytes; at most {most}")

    async def _fetch_all(self, work: Work, wants: Sequence[Want]) -> None:
        missing = await to_thread.run_sync(self._take_held, work, wants)
        if missing:
            self._tasks.start_soon(self._admit.warm)
            async with anyio.create_task_group() as tasks:
                for want in sorted(missing, key=lambda want: -(want.file.size or 0)):
                    tasks.start_soon(self._fetch_one, work, want)

    def _take_held(self, work: Work, wants: Sequence[Want]) -> list[Want]:
        work.lease.pin(*(want.file.digest for want in wants))
        held = [self._fetcher.held(want) for want in wants]
        work.fetched.extend(found for found in held if found is not None)
        return [want for want, found in zip(wants, held, strict=True) if found is None]

    async def _fetch_one(self, work: Work, want: Want) -> None:
        async with self._limiter:
            try:
                fetched = await self._join(want, work)
            except NoSourceError as error:
                work.failed[want.file.name] = (want, error)
            else:
                work.fetched.append(replace(fetched, want=want))

    async def _join(self, want: Want, work: Work) -> Fetched:
        """Fly with whoever fetches the same bytes; where that fails, ask the places that only this card names."""
        try:
            key = f"{want.file.digest} {want.file.size}"
            return await self._flights.join(key, partial(self._fetcher.fetch, want, work.lease))
        except NoSourceError as error:
            mine = tuple(each for each in want.candidates if str(each.uri) not in error.tried)
            if not mine:
                raise
            return await self._fetcher.fetch(replace(want, candidates=mine), work.lease)

    def _check_fetched(self, work: Work) -> None:
        """Raise if the model cannot be served; note as degraded what only makes it worse.

        A typed file must be there and right. Wrong bytes of a file that some consumer reads are refused as well; a
        file that nobody reads, or that is merely absent, degrades.
        """
        blocking: list[PlacecardError] = []
        for name, (want, error) in sorted(work.failed.items()):
            if want.file.typed or (want.file.consumers and error.wrong_bytes) or self._settings.strict:
                blocking.append(error)
                continue
            code = error.code if error.wrong_bytes else Code.FILE_UNAVAILABLE
            for consumer in want.file.consumers or ("",):
                work.degraded.append(Degraded(code, consumer, name, str(error), error.mend))
            work.outside.append(LeftOut(name, f"not to be had: {error.code.value}"))
        raise_all([*work.unpinned, *blocking] if blocking else ())

    def _take_over_losses(self, work: Work) -> None:
        """Say what the publisher could not put on its card, unless it came in from elsewhere."""
        held = [entry.name for entry in work.entries]
        work.degraded.extend(losses(work.card.left_out, held=held))
        work.outside.extend(each for each in work.card.left_out if each.name not in held)

    def _check_proofs(self, work: Work) -> None:
        if self._settings.strict:
            raise_all(
                AdmissionError(Code.UNPROVEN_FILE, f"was only seen, at {entry.uri}", subject=entry.name)
                for entry in work.entries
                if entry.proof is Proof.OBSERVED
            )

    # snapshot, load test

    def _publish(self, work: Work) -> Snapshot:
        """Return the generation of just these files: the present one where nothing changed."""
        if work.current is not None and work.current.generation == generation_id(work.entries):
            work.lease.pin_generation(work.current.directory)
            return work.current
        return self._store.publish(
            work.card.name, work.entries, card=work.card, left_out=work.left_out, activate=False, lease=work.lease
        )

    def _conclude(self, work: Work, snapshot: Snapshot, admission: Admission) -> Resolution:
        """Let the stable path point to the new generation unless its load test refused it."""
        told = {fact.missing for fact in admission.degraded if fact.missing}
        known = [fact for fact in work.degraded if fact.code is not Code.FILE_LEFT_OUT or fact.missing not in told]
        degraded = (*known, *admission.degraded)
        errors: list[PlacecardError] = list(admission.errors)
        if self._settings.strict:
            errors += [AdmissionError(f.code, f.detail, subject=f.missing, mend=f.mend) for f in degraded]
        for fact in degraded:
            self._observe(fact)
        if not errors:
            if self._store.writable and not self._stands(snapshot, work):
                self._store.activate(snapshot, card=work.card)
            work.current = snapshot
            self._revisions.remember(work)
        outcome = replace(
            self._outcome(work, State.REFUSED if errors else State.DEGRADED if degraded else State.READY),
            directory=None if errors else snapshot.directory,
            stable_path=self._store.stable_path(work.card.name) if work.current is not None else None,
            entries=snapshot.manifest.entries,
            degraded=degraded,
            errors=tuple(errors),
            notices=(*work.notices, *admission.notices),
            load_test=admission.load_test,
            served=admission.served,
        )
        self._record(outcome)
        return outcome

    def _stands(self, snapshot: Snapshot, work: Work) -> bool:
        """Whether the stable path leads to ``snapshot`` and tells of this card; another process may have removed it."""
        same = snapshot is work.current and snapshot.card == to_json(work.card)
        return same and os.path.realpath(self._store.stable_path(work.card.name)) == str(snapshot.directory)

    def _refused(self, work: Work, errors: Sequence[PlacecardError]) -> Resolution:
        """Return the refusal; where the last good directory is, if the disk still tells."""
        stable, name = None, work.card.name
        try:
            stable = self._store.stable_path(name) if self._store.current(name) is not None else None
        except StoreError as error:
            errors = (*errors, error)
        outcome = replace(
            self._outcome(work, State.REFUSED),
            stable_path=stable,
            degraded=tuple(work.degraded),
            errors=tuple(errors),
            notices=tuple(work.notices),
        )
        self._record(outcome)
        return outcome

    def _outcome(self, work: Work, state: State) -> Resolution:
        return Resolution(
            model=work.card.name,
            state=state,
            content_digest=content_digest(work.card),
            serving_digest=serving_digest(work.card),
            left_out=work.left_out,
            timings=dict(work.timings),
        )

    def _record(self, outcome: Resolution) -> None:
        """Keep the outcome beside the model, for ``cache ls`` and ``doctor``; a full disk must not make it another."""
        state = {key: value for key, value in outcome.as_json().items() if key not in ("files", "timings_s")}
        try:
            before = self._store.read_state(outcome.model, "outcome") or {}
            refused = outcome.state is State.REFUSED  # then the directory of before still serves, as it was
            state["serving"] = before.get("serving") if refused else outcome.state.value
            if self._store.writable and before != state:
                self._store.write_state(outcome.model, "outcome", state)
        except StoreError as error:
            self._observe(Degraded(error.code, "", "", f"the outcome was not recorded: {error}", error.mend))

    @contextmanager
    def _stage(self, work: Work, stage: str, *, total: int = 0) -> Iterator[None]:
        started = time.monotonic()
        self._observe(StageStarted(work.card.name, stage, total))
        ok = False
        try:
            yield
            ok = True
        finally:
            work.timings[stage] = seconds = time.monotonic() - started
            self._observe(StageEnded(work.card.name, stage, seconds, ok=ok))
