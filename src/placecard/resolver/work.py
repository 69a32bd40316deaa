"""What one resolve has found out so far; handed from stage to stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from placecard.card import Card, LeftOut
from placecard.discovery import Record
from placecard.errors import PlacecardError
from placecard.resolver.fetch import Fetched, NoSourceError
from placecard.resolver.peers import Peers
from placecard.resolver.plan import HubPin, Want
from placecard.store import Entry, Lease, Snapshot
from placecard.telemetry import Degraded


@dataclass
class Work:
    """One resolve under way.

    Args:
        lease: Keeps what it takes from the collector.
        pins: Repository to commit, for hub sources that name none.
        unpinned: Why a repository could not be pinned.
        fallback: Where a foreign card's files were looked for last.
        current: The generation that the stable path points to.
    """

    record: Record
    peers: Peers
    lease: Lease = field(init=False)
    pins: dict[str, str] = field(default_factory=dict)
    unpinned: list[PlacecardError] = field(default_factory=list)
    fallback: HubPin | None = None
    current: Snapshot | None = None
    fetched: list[Fetched] = field(default_factory=list)
    failed: dict[str, tuple[Want, NoSourceError]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    outside: list[LeftOut] = field(default_factory=list)
    degraded: list[Degraded] = field(default_factory=list)
    notices: list[Degraded] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def card(self) -> Card:
        """The card that is resolved."""
        return self.record.card

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What stays out, each name and reason once, by name."""
        once = {(each.name, each.reason): each for each in self.outside}
        return tuple(once[key] for key in sorted(once))


def raise_all(errors: Iterable[PlacecardError]) -> None:
    """Raise ``errors`` together, if there are any."""
    if found := tuple(errors):
        raise ExceptionGroup("refused", found)
