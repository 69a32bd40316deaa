"""Gathering a model's files into entries: what was fetched, the operator's overlays, and the siblings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
from anyio import to_thread

from placecard.admission.consumers import CHAT_TEMPLATE_FILES
from placecard.card import Card, LeftOut, Role, collisions, content_digest, name_key
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
from placecard.telemetry import Fallback, Observe

_OBSERVED, _LISTING = "observed", "hub-siblings"


class Gatherer:
    """Turns what a resolve has fetched into the entries of its directory, with every sibling that belongs to it."""

    def __init__(
        self,
        store: Store,
        local: LocalSource,
        hub: HubSource,
        *,
        revisions: Revisions,
        settings: ResolveSettings,
        observe: Observe,
    ) -> None:
        self._store, self._local, self._hub = store, local, hub
        self._revisions, self._settings, self._observe = revisions, settings, observe

    async def gather(self, work: Work) -> None:
        """Fill ``work.entries``: advertised files, then overlays, then siblings of directories, then of the hub."""
        overlays: list[Entry] = []
        if self._settings.overlays:
            overlays = await to_thread.run_sync(take_overlays, self._store, work.lease, self._settings)
        work.entries = [*self._placed(work), *overlays]
        spoken_for = [file.name for file in work.card.files] + [entry.name for entry in work.entries]
        directories = harvest_directories(work.card, self._revisions.places(work), self._settings)
        looked_at: list[str] = []
        if directories:
            looked_at = await to_thread.run_sync(self._alive, directories, work.card)
            _add(work, await to_thread.run_sync(self._from_directories, work, directories, spoken_for))
        if (pin := self._revisions.repository_of_siblings(work)) is not None:
            found = await self._from_hub(work, pin, spoken_for + [entry.name for entry in work.entries])
            looked_at += [f"hf://{pin.repo}@"] if found.entries or found.left_out else []
            _add(work, found)
        await to_thread.run_sync(self._keep, work, looked_at)

    def _placed(self, work: Work) -> list[Entry]:
        """Return what was fetched under the names that consumers look for.

        An operator's own chat template may have any name on the card; in the directory it is the one that every
        consumer opens first, and takes the place of the model's.
        """
        entries = [_entry(fetched) for fetched in work.fetched]
        own = next((e for e in entries if e.role == Role.CHAT_TEMPLATE and e.name not in CHAT_TEMPLATE_FILES), None)
        if own is None:
            return entries
        name = CHAT_TEMPLATE_FILES[own.name.endswith(".json")]
        work.outside.extend(
            LeftOut(e.name, f"replaced by the operator's {own.name}") for e in entries if e.name == name
        )
        others = [entry for entry in entries if entry is not own and entry.name != name]
        return [*others, msgspec.structs.replace(own, name=name)]

    def _keep(self, work: Work, looked_at: Sequence[str]) -> None:
        """Keep the siblings of the present generation whose place was not looked at this time.

        A sibling that is gone from a place that was looked at is gone. One whose mount is away, whose hub cannot be
        asked, or that came in a bundle, is still the proven file of the same card; it stays, and that is said.
        """
        current = work.current = self._store.current(work.card.name)
        if current is None or current.manifest.content_digest != content_digest(work.card):
            return
        names = {name_key(entry.name) for entry in work.entries}
        kept = [
            entry
            for entry in current.manifest.entries
            if entry.proof is not Proof.ADVERTISED
            and name_key(entry.name) not in names
            and not entry.uri.startswith(tuple(looked_at))
        ]
        every = [entry.name for entry in (*work.entries, *kept)]
        crowded = {name for pair in collisions(every) for name in pair}  # a new sibling may stand where an old one was
        kept = [entry for entry in kept if entry.name not in crowded]
        if kept:
            work.lease.pin(*(entry.digest for entry in kept))
            work.entries.extend(kept)
            shown = ", ".join(entry.name for entry in kept[:4]) + (" …" if len(kept) > 4 else "")
            cause = f"{shown}: not looked for again, as their place is not to be reached or not named now"
            self._observe(Fallback("siblings_of_the_last_resolve", cause))

    def _alive(self, directories: Sequence[tuple[Path, Origin]], card: Card) -> list[str]:
        """Return the URIs of the directories that hold some file of ``card``, as written and as they really are.

        An empty mount point says nothing of what is gone. What lies outside the roots is not looked at.
        """
        reachable = [path for path, _ in directories if self._local.covers(path)]
        alive = [path for path in reachable if any((path / file.name).is_file() for file in card.files)]
        return [f"{each.as_uri()}/" for path in alive for each in (path, path.resolve())]

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
