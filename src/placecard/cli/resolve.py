"""``placecard resolve``: an advertised model becomes a proven directory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from placecard.cli.main import EXIT_DEGRADED, EXIT_FAILURE, EXIT_OK
from placecard.cli.options import BoundOptions, DiscoveryUrl, JsonFlag, StoreOptions, TrustOptions
from placecard.cli.output import print_json
from placecard.cli.registries import choose, registry_of
from placecard.cli.screen import Pipeline, live, print_resolution
from placecard.cli.wiring import open_resolver, open_store
from placecard.config import environment
from placecard.discovery import Record
from placecard.errors import DiscoveryError
from placecard.resolver import Peers, Resolution, State
from placecard.telemetry import Counters, Observe, log, tee

_POLL_S = 0.2


def resolve(
    model: Annotated[str, Parameter(name="NAME", help="A model's name, or a file with its card (CARD.json).")],
    /,
    *,
    discovery: DiscoveryUrl = None,
    wait: float = 0.0,
    store: StoreOptions | None = None,
    trust: TrustOptions | None = None,
    bounds: BoundOptions | None = None,
    json: JsonFlag = False,
) -> int:
    """Turn an advertised model into a proven directory, and print it.

    The directory holds whole generations under a stable path; every file in it has a digest, a proof and an origin.

    Parameters
    ----------
    discovery
        Registry URL: file:///dir, dynamo+file:///dir. By default the folder of this user.
    wait
        Seconds to wait for a worker that is not there yet.
    json
        Print the outcome as one JSON object.
    """
    counters, pipeline = Counters(), Pipeline(model)
    observe = tee(counters, log, pipeline)
    trust, bounds = trust or TrustOptions(), bounds or BoundOptions()
    url = discovery or environment().discovery

    async def work() -> Resolution:
        records, everyone = await find(model, url, wait, observe)
        peers = Peers()
        for record in everyone:
            peers.add(record)
        async with open_resolver(open_store(store, observe), trust, bounds, observe) as resolver:
            return await resolver.resolve(records[0], peers)

    if json:
        outcome = anyio.run(work)
        print_json(outcome.as_json() | {"counts": counters.as_json()})
    else:
        with live(pipeline):
            outcome = anyio.run(work)
        print_resolution(outcome)
    return {State.READY: EXIT_OK, State.DEGRADED: EXIT_DEGRADED, State.REFUSED: EXIT_FAILURE}[outcome.state]


async def find(model: str, url: str, wait_s: float, observe: Observe) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Return the records that serve ``model``, and all records of the registry; a card's file stands for one record.

    Raises:
        DiscoveryError: No worker advertises it within ``wait_s`` seconds.
        CardError: The file is no card.
    """
    if model.endswith(".json"):
        from placecard.cli.card import read_card_file

        record = read_card_file(Path(model))
        return (record,), (record,)
    deadline = time.monotonic() + wait_s
    async with registry_of(url, observe) as registry:
        while True:
            everyone = await registry.list()
            try:
                return choose(everyone, model, url), everyone
            except DiscoveryError:
                if time.monotonic() >= deadline:
                    raise
            await anyio.sleep(_POLL_S)


__all__ = ["find", "resolve"]
