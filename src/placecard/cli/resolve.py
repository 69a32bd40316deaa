"""``placecard resolve``: an advertised model becomes a proven directory."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from placecard.card import HttpUri, card_from_json, parse_uri
from placecard.cli.main import EXIT_DEGRADED, EXIT_FAILURE, EXIT_OK, EXIT_USAGE
from placecard.cli.options import BoundOptions, DiscoveryUrl, JsonFlag, StoreOptions, TrustOptions
from placecard.cli.output import print_json
from placecard.cli.registries import NO_WORKER, choose, registry_of
from placecard.cli.screen import Pipeline, live, print_resolution
from placecard.cli.wiring import open_resolver, open_store, wishes_of
from placecard.config import environment
from placecard.discovery import Record
from placecard.errors import Code, DiscoveryError, PlacecardError, UsageError, flatten
from placecard.resolver import Peers, Resolution, State
from placecard.store import Store
from placecard.telemetry import Counters, Fallback, Observe, log, tee

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
    url = discovery or environment().discovery

    async def work() -> Resolution:
        wishes = wishes_of(trust or TrustOptions(), bounds or BoundOptions())
        opened = open_store(store, observe)
        records, everyone = await find(model, url, wait, opened, observe)
        peers = Peers()
        for record in everyone:
            peers.add(record)
        async with open_resolver(opened, wishes, observe, token_origins=_origins(everyone)) as resolver:
            with nullcontext() if json else live(pipeline):
                return await resolver.resolve(records[0], peers)

    try:
        outcome = anyio.run(work)
        if json:
            print_json(outcome.as_json() | {"counts": counters.as_json()})
        else:
            print_resolution(outcome)
    except* PlacecardError as group:
        errors = tuple(flatten(group))
        if not json:
            raise
        refused = Resolution(model=model, state=State.REFUSED, content_digest="", serving_digest="", errors=errors)
        print_json(refused.as_json() | {"counts": counters.as_json()})
        code = EXIT_USAGE if isinstance(errors[0], UsageError) else EXIT_FAILURE
    else:
        code = {State.READY: EXIT_OK, State.DEGRADED: EXIT_DEGRADED, State.REFUSED: EXIT_FAILURE}[outcome.state]
    return code


async def find(
    model: str, url: str, wait_s: float, store: Store, observe: Observe
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Return the records that serve ``model``, and all records of the registry.

    A card's file stands for one record. Where no worker advertises the model, the card of the store's own copy does,
    so that an imported or once resolved model can be had again without any network; that is stated as a fallback.

    Raises:
        DiscoveryError: Neither a worker within ``wait_s`` seconds nor the store has it.
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
            except DiscoveryError as error:
                if error.code is not Code.MODEL_UNKNOWN:
                    raise
                if time.monotonic() >= deadline:
                    own = _of_store(model, store)
                    if own is None:
                        raise
                    observe(Fallback("card_of_the_store", f"no worker advertises {model}"))
                    return (own,), everyone
            await anyio.sleep(_POLL_S)


def _origins(records: tuple[Record, ...]) -> set[str]:
    """Return who may be shown the workers' token: those that registered; for a card without a worker, whom it names."""
    urls = [f"{record.address}/v1" for record in records if record.address is not None]
    urls += [
        text for record in records if record.instance == NO_WORKER for f in record.card.files for text in f.sources
    ]
    return {uri.origin for uri in map(parse_uri, urls) if isinstance(uri, HttpUri)}


def _of_store(model: str, store: Store) -> Record | None:
    """Return the card of the store's current generation as a record without a worker."""
    snapshot = store.current(model)
    if snapshot is None:
        return None
    return Record(NO_WORKER, card_from_json(snapshot.manifest.card))
