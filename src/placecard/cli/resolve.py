"""``placecard resolve``: an advertised model becomes a proven directory."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import anyio
from cyclopts import Parameter

from placecard.cli.finding import find
from placecard.cli.main import EXIT_DEGRADED, EXIT_FAILURE, EXIT_OK, EXIT_USAGE
from placecard.cli.notes import Notes
from placecard.cli.options import BoundOptions, DiscoveryUrl, JsonFlag, StoreOptions, TrustOptions
from placecard.cli.output import err, print_json
from placecard.cli.screen import Pipeline, live, print_resolution
from placecard.cli.wiring import open_resolver, open_store, wishes_of
from placecard.config import environment
from placecard.errors import Code, PlacecardError, UsageError, flatten
from placecard.resolver import Peers, Resolution, State
from placecard.telemetry import Counters, log, tee

_EXIT = {State.READY: EXIT_OK, State.DEGRADED: EXIT_DEGRADED, State.REFUSED: EXIT_FAILURE}


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

    Where workers advertise different content under one name, NAME@DIGEST chooses.

    Parameters
    ----------
    discovery
        Registry URL: file:///dir, dynamo+file:///dir. By default the folder of this user.
    wait
        Seconds to wait for a worker that is not there yet.
    json
        Print the outcome as one JSON object.
    """
    counters, pipeline, notes = Counters(), Pipeline(model), Notes()
    observe = tee(counters, log, pipeline, notes)
    url = discovery or environment().discovery

    async def work() -> Resolution:
        wishes = wishes_of(trust or TrustOptions(), bounds or BoundOptions())
        opened = open_store(store, observe)
        if wait and not json:
            err().print(f"[dim]waiting up to {wait:g} s for a worker …[/]")
        found = await find(model, url, wait, opened, observe)
        peers = Peers()
        for record in found.everyone:
            peers.add(record)
        async with open_resolver(
            opened, wishes, observe, origins=found.origins, token_origins=found.token_origins
        ) as resolver:
            with nullcontext() if json else live(pipeline):
                return await resolver.resolve(found.record, peers)

    try:
        outcome = anyio.run(work)
    except* PlacecardError as group:
        errors = tuple(_explained(error, notes) for error in flatten(group))
        if not json:
            raise ExceptionGroup("refused", errors) from None
        outcome = Resolution(model=model, state=State.REFUSED, content_digest="", serving_digest="", errors=errors)
    if json:
        answer = outcome.as_json()
        answer["notices"] += [note.as_json() for note in notes.notes]
        print_json(answer | {"counts": counters.as_json()})
    else:
        print_resolution(outcome, notes.notes)
    usage = bool(outcome.errors) and isinstance(outcome.errors[0], UsageError)
    return EXIT_USAGE if usage else _EXIT[outcome.state]


def _explained(error: PlacecardError, notes: Notes) -> PlacecardError:
    """Return ``error``; where a name is unknown, with what was passed over while it was looked for."""
    if error.code is not Code.MODEL_UNKNOWN or not notes.notes:
        return error
    passed_over = "; ".join(f"{note.code}: {note.cause}" for note in notes.notes[:3])
    return type(error)(error.code, f"{error.detail} ({passed_over})", subject=error.subject, mend=error.mend)
