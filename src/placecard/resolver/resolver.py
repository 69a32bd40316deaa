"""The resolver: card in, directory out. ``resolve`` reads like the pipeline: plan, fetch, harvest, snapshot, load
test."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from placecard.admission import State
from placecard.card import (
    Card,
    FileUri,
    HttpUri,
    HubUri,
    LeftOut,
    Uri,
    content_digest,
    lint,
    name_key,
    parse_repo,
    parse_uri,
    serving_digest,
)
from placecard.discovery import Record
from placecard.errors import AdmissionError, CardError, Code, PlacecardError, StoreError, flatten
from placecard.resolver.admit import Admission, Admit
from placecard.resolver.fetch import Fetched, Fetcher, NoSourceError
from placecard.resolver.flights import Flights
from placecard.resolver.harvest import Harvest, Harvester, existing
from placecard.resolver.outcome import Resolution
from placecard.resolver.overlay import take_overlays
from placecard.resolver.peers import Peers
from placecard.resolver.plan import HubPin, Places, Plan, Want, harvest_directories, plan
from placecard.resolver.settings import ResolveSettings
from placecard.resolver.siblings import HubSiblings
from placecard.source import HttpSource, HubSource, LocalSource, Source
from placecard.store import Entry, Lease, Proof, Snapshot, Store, generation_id
from placecard.telemetry import Degraded, Observe, StageEnded, StageStarted, ignore


@dataclass(frozen=True)
class Sources:
    """The places a resolver may ask."""

    local: LocalSource
    http: HttpSource
    hub: HubSource


@dataclass
class _Work:
    """What one resolve has found out so far."""

    record: Record
    peers: Peers
    lease: Lease
    pins: dict[str, str]
    fallback: HubPin | None = None
    current: Snapshot | None = None
    fetched: list[Fetched] = field(default_factory=list)
    failed: dict[str, tuple[Want, NoSourceError]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    degraded: list[Degraded] = field(default_factory=list)
    notices: list[Degraded] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def card(self) -> Card:
        return self.record.card


class Resolver:
    """Turns records into proven directories. Use with ``async with``: downloads belong to it, not to their callers."""

    def __init__(
        self, store: Store, sources: Sources, settings: ResolveSettings, *, admit: Admit, observe: Observe = ignore
    ) -> None:
        self._store = store
        self._sources = sources
        self._settings = settings
        self._admit = admit
        self._observe = observe
        by_type: Mapping[type[Uri], Source] = {FileUri: sources.local, HttpUri: sources.http, HubUri: sources.hub}
        self._fetcher = Fetcher(store, by_type, max_file_bytes=settings.budget.max_file_bytes, observe=observe)
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
        with self._store.lease() as lease:
            work = _Work(record, peers or Peers(), lease, self._remembered_pins(record.card.name))
            try:
                return await self._pipeline(work)
            except* PlacecardError as group:
                errors = tuple(flatten(group))
        return self._refused(work, errors)

    async def _pipeline(self, work: _Work) -> Resolution:
        with self._stage(work, "plan"):
            the_plan = await self._plan(work)
            _raise_all(the_plan.refusals)
        with self._stage(work, "fetch", total=sum(want.file.size or 0 for want in the_plan.wants)):
            await self._fetch_all(work, the_plan.wants)
            await self._fetch_from_fallback(work)
            self._check_fetched(work)
        with self._stage(work, "harvest"):
            await self._harvest(work)
            self._check_proofs(work)
        with self._stage(work, "snapshot"):
            snapshot = await to_thread.run_sync(self._publish, work)
        with self._stage(work, "load test"):
            admission = await self._admit.admit(snapshot, work.record)
        return await to_thread.run_sync(self._conclude, work, snapshot, admission)

    # plan

    async def _plan(self, work: _Work) -> Plan:
        await self._pin_hub_sources(work)
        the_plan = plan(work.card, self._places(work), self._settings)
        work.left_out.extend(the_plan.left_out)
        for note in lint(work.card):
            if note.code is Code.CARD_POLICY_IGNORED:
                work.notices.append(Degraded(note.code, "", "", str(note), note.mend))
        return the_plan

    def _places(self, work: _Work) -> Places:
        repos = {uri.repo for uri in _hub_uris(work.card)} | ({work.fallback.repo} if work.fallback else set())
        snapshots = tuple(s for repo in sorted(repos) for s in self._sources.hub.snapshots(repo))
        pins = tuple(HubPin(repo, commit) for repo, commit in sorted(work.pins.items()))
        return Places(work.peers.urls, snapshots, pins, work.fallback)

    async def _pin_hub_sources(self, work: _Work) -> None:
        """Resolve each branch that a foreign or older card names to a commit, once; it is remembered beside the
        model."""
        for repo in sorted({uri.repo for uri in _hub_uris(work.card) if not uri.pinned} - work.pins.keys()):
            if (commit := await self._pin(repo)) is not None:
                work.pins[repo] = commit

    async def _pin(self, repo: str) -> str | None:
        """Return the commit of ``repo``: of the hub, or where it cannot be asked of the snapshot that this host has."""
        if not self._settings.offline:
            try:
                return await self._sources.hub.pin(repo, None)
            except PlacecardError as error:
                self._observe(Degraded(error.code, "", "", str(error), error.mend))
        snapshots = self._sources.hub.snapshots(repo)
        return snapshots[0].commit if snapshots else None

    # fetch

    async def _fetch_all(self, work: _Work, wants: Sequence[Want]) -> None:
        missing = await to_thread.run_sync(self._take_held, work, wants)
        if missing:
            self._tasks.start_soon(self._admit.warm)
            async with anyio.create_task_group() as tasks:
                for want in sorted(missing, key=lambda want: -(want.file.size or 0)):
                    tasks.start_soon(self._fetch_one, work, want)

    def _take_held(self, work: _Work, wants: Sequence[Want]) -> list[Want]:
        missing = []
        for want in wants:
            work.lease.pin(want.file.digest)
            if (held := self._fetcher.held(want)) is not None:
                work.fetched.append(held)
            else:
                missing.append(want)
        return missing

    async def _fetch_one(self, work: _Work, want: Want) -> None:
        async with self._limiter:
            try:
                fetched = await self._flights.join(want.file.digest, partial(self._fetcher.fetch, want, work.lease))
            except NoSourceError as error:
                work.failed[want.file.name] = (want, error)
            else:
                work.fetched.append(replace(fetched, want=want))

    async def _fetch_from_fallback(self, work: _Work) -> None:
        """Ask the hub, as the last rung, for what a foreign card's own places do not have."""
        repo = _fallback_repo(work.record)
        if not work.failed or repo is None or (commit := work.pins.get(repo) or await self._pin(repo)) is None:
            return
        work.pins[repo], work.fallback = commit, HubPin(repo, commit)
        again = {want.file.name for want, _ in work.failed.values()}
        wants = [want for want in plan(work.card, self._places(work), self._settings).wants if want.file.name in again]
        work.failed.clear()
        await self._fetch_all(work, wants)

    def _check_fetched(self, work: _Work) -> None:
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
            work.left_out.append(LeftOut(name, f"not to be had: {error.code.value}"))
        _raise_all(blocking)

    # harvest

    async def _harvest(self, work: _Work) -> None:
        overlays: list[Entry] = []
        if self._settings.overlays:
            overlays = await to_thread.run_sync(take_overlays, self._store, work.lease, self._settings)
        advertised = [file.name for file in work.card.files] + [entry.name for entry in overlays]
        directories = harvest_directories(work.card, self._places(work), self._settings)
        harvest = Harvest()
        if directories:
            harvest = await to_thread.run_sync(self._harvest_directories, work, directories, advertised)
        if (pin := self._hub_with_siblings(work)) is not None:
            taken = dict.fromkeys(map(name_key, [*advertised, *(e.name for e in harvest.entries)]), "advertised")
            await self._harvest_hub(work, pin, taken, harvest)
        work.entries = [*(_entry(fetched) for fetched in work.fetched), *overlays, *harvest.entries]
        work.left_out.extend(harvest.left_out)
        work.degraded.extend(harvest.degraded)

    def _harvest_directories(self, work: _Work, directories: Sequence[Any], advertised: Sequence[str]) -> Harvest:
        name = work.card.name
        before = self._store.read_state(name, "observed") or {}
        harvester = Harvester(
            self._store,
            work.lease,
            self._sources.local,
            taken=advertised,
            observed=before,
            budget=self._settings.budget,
        )
        for directory, origin in existing(directories):
            harvester.directory(directory, origin)
        if harvester.observed != before:
            self._store.write_state(name, "observed", harvester.observed)
        return harvester.result

    def _hub_with_siblings(self, work: _Work) -> HubPin | None:
        """Return the repository whose siblings belong to the model: only of a card that does not list them itself."""
        if work.record.complete or self._settings.offline:
            return None
        repos = sorted({uri.repo for uri in _hub_uris(work.card)})
        pins = [HubPin(repo, work.pins[repo]) for repo in repos if repo in work.pins]
        return work.fallback or (pins[0] if pins else None)

    async def _harvest_hub(self, work: _Work, pin: HubPin, taken: Mapping[str, str], harvest: Harvest) -> None:
        siblings = HubSiblings(self._sources.hub, self._store, work.lease, self._settings.budget)
        name = work.card.name
        remembered = await to_thread.run_sync(self._store.read_state, name, "hub-siblings")
        note = partial(self._store.write_state, name, "hub-siblings")
        more = await siblings.take(pin, taken, remembered, note)
        harvest.entries.extend(more.entries)
        harvest.left_out.extend(more.left_out)
        harvest.degraded.extend(more.degraded)

    def _check_proofs(self, work: _Work) -> None:
        if self._settings.strict:
            _raise_all(
                AdmissionError(Code.UNPROVEN_FILE, f"was only seen, at {entry.uri}", subject=entry.name)
                for entry in work.entries
                if entry.proof is Proof.OBSERVED
            )

    # snapshot, load test

    def _publish(self, work: _Work) -> Snapshot:
        """Return the generation of just these files: the present one where nothing changed."""
        work.current = self._store.current(work.card.name)
        if work.current is not None and work.current.generation == generation_id(work.entries):
            work.lease.pin_generation(work.current.directory)
            return work.current
        return self._store.publish(
            work.card.name,
            work.entries,
            card=work.card,
            left_out=_unique(work.left_out),
            activate=False,
            lease=work.lease,
        )

    def _conclude(self, work: _Work, snapshot: Snapshot, admission: Admission) -> Resolution:
        """Let the stable path point to the new generation unless its load test refused it."""
        degraded = (*work.degraded, *admission.degraded)
        errors: list[PlacecardError] = list(admission.errors)
        if self._settings.strict:
            errors += [AdmissionError(f.code, f.detail, subject=f.missing, mend=f.mend) for f in degraded]
        for fact in degraded:
            self._observe(fact)
        state = State.REFUSED if errors else State.DEGRADED if degraded else State.READY
        if not errors:
            if snapshot is not work.current:
                self._store.activate(snapshot)
                work.current = snapshot
            self._remember_pins(work)
        outcome = replace(
            self._outcome(work, state),
            directory=None if errors else snapshot.directory,
            stable_path=self._store.stable_path(work.card.name) if work.current is not None else None,
            entries=tuple(snapshot.manifest.entries),
            left_out=tuple(_unique(work.left_out)),
            degraded=degraded,
            errors=tuple(errors),
            notices=(*work.notices, *admission.notices),
            load_test=admission.load_test,
        )
        self._remember(outcome)
        return outcome

    def _refused(self, work: _Work, errors: Sequence[PlacecardError]) -> Resolution:
        name = work.card.name
        outcome = replace(
            self._outcome(work, State.REFUSED),
            stable_path=self._store.stable_path(name) if self._store.current(name) is not None else None,
            left_out=tuple(_unique(work.left_out)),
            degraded=tuple(work.degraded),
            errors=tuple(errors),
        )
        self._remember(outcome)
        return outcome

    def _outcome(self, work: _Work, state: State) -> Resolution:
        card = work.card
        return Resolution(
            model=card.name,
            state=state,
            content_digest=content_digest(card),
            serving_digest=serving_digest(card),
            timings=dict(work.timings),
        )

    def _remember(self, outcome: Resolution) -> None:
        """Keep the outcome beside the model, for ``cache ls`` and ``doctor``; a full disk must not turn it into
        another."""
        state = {k: v for k, v in outcome.as_json().items() if k not in ("files", "timings_s")}
        try:
            if self._store.writable and self._store.read_state(outcome.model, "outcome") != state:
                self._store.write_state(outcome.model, "outcome", state)
        except StoreError as error:
            self._observe(Degraded(error.code, "", "", f"the outcome was not recorded: {error}", error.mend))

    def _remembered_pins(self, model: str) -> dict[str, str]:
        state = self._store.read_state(model, "pins") or {}
        return {repo: commit for repo, commit in state.items() if isinstance(commit, str)}

    def _remember_pins(self, work: _Work) -> None:
        if work.pins and self._remembered_pins(work.card.name) != work.pins:
            self._store.write_state(work.card.name, "pins", work.pins)

    @contextmanager
    def _stage(self, work: _Work, stage: str, *, total: int = 0) -> Iterator[None]:
        started = time.monotonic()
        self._observe(StageStarted(work.card.name, stage, total))
        ok = False
        try:
            yield
            ok = True
        finally:
            work.timings[stage] = seconds = time.monotonic() - started
            self._observe(StageEnded(work.card.name, stage, seconds, ok=ok))


def _hub_uris(card: Card) -> list[HubUri]:
    uris = (parse_uri(text) for file in card.files for text in file.sources)
    return [uri for uri in uris if isinstance(uri, HubUri)]


def _fallback_repo(record: Record) -> str | None:
    """Return the repository that a foreign card names as the model's origin."""
    origin = record.card.origin or ""
    if record.complete or not origin.startswith("hf://"):
        return None
    try:
        return parse_repo(origin)[0]
    except CardError:
        return None


def _entry(fetched: Fetched) -> Entry:
    file, blob = fetched.want.file, fetched.blob
    return Entry(
        file.name, blob.digest, blob.size, file.role, Proof.ADVERTISED, fetched.origin, fetched.uri, file.consumers
    )


def _raise_all(errors: Iterable[PlacecardError]) -> None:
    if errors := tuple(errors):
        raise ExceptionGroup("refused", errors)


def _unique(left_out: Sequence[LeftOut]) -> list[LeftOut]:
    return sorted({(each.name, each.reason): each for each in left_out}.values(), key=lambda each: each.name)
