"""Which commit of a repository a card means: the one it names, or the one its branch had when it was first asked
for."""

from __future__ import annotations

from anyio import to_thread

from placecard.card import Card, HubUri, parse_repo, parse_uri
from placecard.discovery import Record
from placecard.errors import CardError, PlacecardError
from placecard.resolver.plan import HubPin, Places
from placecard.resolver.work import Work
from placecard.source import HubSource
from placecard.store import Store
from placecard.telemetry import Fallback, Observe

_STATE = "pins"


class Revisions:
    """Pins the branches that older and foreign cards name, once, and remembers the commits beside the model."""

    def __init__(self, hub: HubSource, store: Store, *, offline: bool, observe: Observe) -> None:
        self._hub, self._store, self._offline, self._observe = hub, store, offline, observe

    async def pin_sources(self, work: Work) -> None:
        """Find the commit of every repository that the card names without one."""
        unpinned = {uri.repo for uri in hub_uris(work.card) if not uri.pinned}
        if unpinned:
            work.pins |= await to_thread.run_sync(self._remembered, work.card.name)
        for repo in sorted(unpinned - work.pins.keys()):
            await self._pin(work, repo)

    async def pin_fallback(self, work: Work) -> bool:
        """Find the commit of the repository that a foreign card names as the model's origin; False if there is none."""
        repo = fallback_repo(work.record)
        if repo is None:
            return False
        work.pins |= await to_thread.run_sync(self._remembered, work.card.name)
        if repo not in work.pins:
            await self._pin(work, repo)
        if repo in work.pins:
            work.fallback = HubPin(repo, work.pins[repo])
        return work.fallback is not None

    def places(self, work: Work) -> Places:
        """Return all that is known of where the card's files may be."""
        repos = {uri.repo for uri in hub_uris(work.card)} | ({work.fallback.repo} if work.fallback else set())
        snapshots = tuple(found for repo in sorted(repos) for found in self._hub.snapshots(repo))
        pins = tuple(HubPin(repo, commit) for repo, commit in sorted(work.pins.items()))
        return Places(work.peers.urls, snapshots, pins, work.fallback)

    def repository_of_siblings(self, work: Work) -> HubPin | None:
        """Return the repository whose other files belong to the model: only of a card that does not list them
        itself."""
        if work.record.complete or self._offline:
            return None
        commits = {uri.repo: uri.revision for uri in hub_uris(work.card) if uri.pinned and uri.revision} | work.pins
        named = [HubPin(uri.repo, commits[uri.repo]) for uri in hub_uris(work.card) if uri.repo in commits]
        return work.fallback or next(iter(named), None)

    def remember(self, work: Work) -> None:
        """Keep the commits; the next resolve asks nobody."""
        if work.pins and self._store.writable and self._remembered(work.card.name) != work.pins:
            self._store.write_state(work.card.name, _STATE, work.pins)

    async def _pin(self, work: Work, repo: str) -> None:
        """Ask the hub; where it cannot be asked, take the snapshot that this host has, and say so."""
        cause = "the hub is turned off here"
        if not self._offline:
            try:
                work.pins[repo] = await self._hub.pin(repo, None)
            except PlacecardError as error:
                cause = str(error)
                work.unpinned.append(error)
            else:
                return
        if snapshots := self._hub.snapshots(repo):
            work.pins[repo] = snapshots[0].commit
            self._observe(Fallback("commit_of_the_local_snapshot", cause))

    def _remembered(self, model: str) -> dict[str, str]:
        state = self._store.read_state(model, _STATE) or {}
        return {repo: commit for repo, commit in state.items() if isinstance(commit, str)}


def hub_uris(card: Card) -> list[HubUri]:
    """Return every hub source of ``card``."""
    uris = (parse_uri(text) for file in card.files for text in file.sources)
    return [uri for uri in uris if isinstance(uri, HubUri)]


def fallback_repo(record: Record) -> str | None:
    """Return the repository that a foreign card names as the model's origin."""
    origin = record.card.origin or ""
    if record.complete or not origin.startswith("hf://"):
        return None
    try:
        return parse_repo(origin)[0]
    except CardError:
        return None
