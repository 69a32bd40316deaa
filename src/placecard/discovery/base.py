"""What every registry has in common: records under a lease, a listing, and a watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from placecard.card import Card


@dataclass(frozen=True)
class Record:
    """One worker's advertisement of one model.

    Args:
        instance: 32 hexadecimal digits, drawn anew at each start of a worker: an incarnation, not a host.
        card: What it serves, and where the files may be had.
        address: Base URL of the worker's metadata server (``http://HOST:PORT``); None if it does not self-host.
        complete: Whether the card lists every metadata file of the model. Placecard's own cards do; foreign ones may
            not, and then siblings are looked for where the card's files come from.
    """

    instance: str
    card: Card
    address: str | None = None
    complete: bool = True


@dataclass(frozen=True)
class Joined:
    """A record appeared, or the one of this instance was replaced."""

    record: Record


@dataclass(frozen=True)
class Left:
    """The record of an instance is gone: withdrawn, or its lease ran out."""

    instance: str


Change = Joined | Left


class Registry(Protocol):
    """Where workers advertise and front ends look. Use with ``async with``; leaving it withdraws nothing.

    All methods raise :class:`~placecard.errors.DiscoveryError` when the registry itself cannot be used. A record that
    cannot be read never raises: it is stated once as a ``RecordRejected`` fact, and the others are not touched.
    """

    ttl_s: float
    """Seconds after which a record that nobody refreshed is gone."""

    async def __aenter__(self) -> Registry: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def put(self, record: Record) -> None:
        """Write ``record`` with a fresh lease; replaces an earlier one of the same instance."""
        ...

    async def refresh(self, instance: str) -> bool:
        """Renew the lease of ``instance``; False if its record is gone and must be put again."""
        ...

    async def delete(self, instance: str) -> None:
        """Withdraw ``instance``; withdrawing what is not there is no error."""
        ...

    async def list(self) -> tuple[Record, ...]:
        """Return the records whose lease is alive, ordered by instance."""
        ...

    def watch(self) -> AsyncIterator[Change]:
        """Yield a :class:`Joined` for every present record, then changes as they happen, until the consumer stops.

        For one instance a :class:`Left` comes before the :class:`Joined` that follows it. Repeated states are not
        reported twice.
        """
        ...
