"""Gathering a model's files into entries: what was fetched, the operator's overlays, and the siblings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from anyio import to_thread

from placecard.card import name_key
from placecard.resolver.fetch import Fetched
from placecard.resolver.harvest import Harvest, Harvester, existing
from placecard.resolver.overlay import take_overlays
from placecard.resolver.plan import HubPin, harvest_directories
from placecard.resolver.revisions import Revisions
from placecard.resolver.settings import ResolveSettings
from placecard.resolver.siblings import HubSiblings
from placecard.resolver.work import Work
from placecard.source import HubSource, LocalSource
from placecard.store import Entry, Origin, Proof, Store

_OBSERVED, _LISTING = "observed", "hub-siblings"


class Gatherer:
    """Turns what a resolve has fetched into the entries of its directory, with every sibling that belongs to it."""

    def __init__(
        self, store: Store, local: LocalSource, hub: HubSource, revisions: Revisions, settings: ResolveSettings
    ) -> None:
        self._store, self._local, self._hub = store, local, hub
        self._revisions, self._settings = revisions, settings

    async def gather(self, work: Work) -> None:
        """Fill ``work.entries``: advertised files, then overlays, then siblings of directories, then of the hub."""
        overlays: list[Entry] = []
        if self._settings.overlays:
            overlays = await to_thread.run_sync(take_overlays, self._store, work.lease, self._settings)
        work.entries = [*map(_entry, work.fetched), *overlays]
        spoken_for = [file.name for file in work.card.files] + [entry.name for entry in overlays]
        directories = harvest_directories(work.card, self._revisions.places(work), self._settings)
        if directories:
            found = await to_thread.run_sync(self._from_directories, work, directories, spoken_for)
            _add(work, found)
            spoken_for += [entry.name for entry in found.entries]
        if (pin := self._revisions.repository_of_siblings(work)) is not None:
            _add(work, await self._from_hub(work, pin, spoken_for))

    def _from_directories(
        self, work: Work, directories: Sequence[tuple[Path, Origin]], spoken_for: Sequence[str]
    ) -> Harvest:
        model, budget = work.card.name, self._settings.budget
        before = self._store.read_state(model, _OBSERVED) or {}
        harvester = Harvester(
            self._store, work.lease, self._local, taken=spoken_for, observed=before, budget=budget
        )  # fmt: skip
        for directory, origin in existing(directories):
            harvester.directory(directory, origin)
        if harvester.observed != before and self._store.writable:
            self._store.write_state(model, _OBSERVED, harvester.observed)
        return harvester.result

    async def _from_hub(self, work: Work, pin: HubPin, spoken_for: Sequence[str]) -> Harvest:
        model = work.card.name
        taken = dict.fromkeys(map(name_key, spoken_for), "advertised")
        remembered = await to_thread.run_sync(self._store.read_state, model, _LISTING)
        siblings = HubSiblings(self._hub, self._store, work.lease, self._settings.budget)
        return await siblings.take(pin, taken, remembered, partial(self._store.write_state, model, _LISTING))


def _add(work: Work, found: Harvest) -> None:
    work.entries.extend(found.entries)
    work.outside.extend(found.left_out)
    work.degraded.extend(found.degraded)


def _entry(fetched: Fetched) -> Entry:
    file, blob = fetched.want.file, fetched.blob
    return Entry(
        file.name, blob.digest, blob.size, file.role, Proof.ADVERTISED, fetched.origin, fetched.uri, file.consumers
    )
