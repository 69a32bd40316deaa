"""``placecard doctor``: does a directory serve its consumers, and if not, which file is missing and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
from cyclopts import Parameter

from placecard.admission import Limits, Loader
from placecard.card import Card, card_from_json
from placecard.cli.main import EXIT_DEGRADED, EXIT_FAILURE, EXIT_OK
from placecard.cli.options import DiscoveryUrl, JsonFlag, StoreOptions
from placecard.cli.output import out, print_json, safe
from placecard.cli.registries import registry_of
from placecard.cli.wiring import open_store
from placecard.config import environment
from placecard.doctor import Diagnosis, Finding, Status, examine_directory, manifest_of
from placecard.errors import Code, DiscoveryError, StoreError
from placecard.resolver import State
from placecard.store import Manifest, Store
from placecard.telemetry import log

_COLOURS: Final = {Status.OK: "green", Status.DEGRADED: "yellow", Status.FAILED: "red", Status.ABSENT: "dim"}
_STATE_COLOURS: Final = {State.READY: "green", State.DEGRADED: "yellow", State.REFUSED: "red"}
_EXIT: Final = {State.READY: EXIT_OK, State.DEGRADED: EXIT_DEGRADED, State.REFUSED: EXIT_FAILURE}
_ASK_REGISTRY_S: Final = 2.0


def doctor(
    model: Annotated[str, Parameter(name="MODEL", help="A model of the store, or a directory.")],
    /,
    *,
    discovery: DiscoveryUrl = None,
    store: StoreOptions | None = None,
    load_test: bool = True,
    load_timeout: float = 60.0,
    json: JsonFlag = False,
) -> int:
    """Say for each consumer whether a directory serves it, and what to do if not.

    Parameters
    ----------
    discovery
        Registry URL, to say whether a worker advertises a model that the store does not have.
    load_test
        Open the directory with its consumers, in a limited child process.
    load_timeout
        Seconds that may take.
    json
        Print the findings as one JSON object.
    """
    directory, card, manifest, outcome = _patient(model, store, discovery or environment().discovery)
    looked_at = sorted({_place(entry.uri) for entry in manifest.entries if entry.uri}) if manifest else []

    async def work() -> Diagnosis:
        async with Loader(Limits(seconds=load_timeout)) as loader:
            return await examine_directory(
                directory, loader=loader if load_test else None, card=card, manifest=manifest, looked_at=looked_at
            )

    diagnosis = anyio.run(work)
    if json:
        print_json(
            {
                "model": model,
                "directory": str(directory),
                "state": diagnosis.state.value,
                "findings": [finding.as_json() for finding in diagnosis.findings],
                "last_resolve": outcome,
            }
        )
    else:
        _print(model, directory, diagnosis, outcome)
    return _EXIT[diagnosis.state]


def _patient(
    model: str, options: StoreOptions | None, url: str
) -> tuple[Path, Card | None, Manifest | None, dict[str, Any]]:
    """Return the directory to examine, and what the store knows of it.

    Raises:
        StoreError: ``STORE_MISSING``.
    """
    if Path(model).is_dir():
        directory = Path(os.path.abspath(model))  # noqa: PTH100 - `..` goes, links stay
        manifest = manifest_of(directory)
        return directory, card_from_json(manifest.card) if manifest else None, manifest, {}
    store: Store = open_store(options, log)
    snapshot = store.current(model)
    outcome = store.read_state(model, "outcome") or {}
    if snapshot is None:
        errors = "; ".join(f"{each['code']}: {each['message']}" for each in outcome.get("errors", []))
        detail = f"{store.root} has no whole generation of it" + (f"; the last resolve said {errors}" if errors else "")
        if not errors and anyio.run(_is_advertised, model, url):
            detail += "; a worker advertises it, and it was never resolved here"
        raise StoreError(Code.STORE_MISSING, detail, subject=model)
    return snapshot.directory, card_from_json(snapshot.card), snapshot.manifest, outcome


async def _is_advertised(model: str, url: str) -> bool:
    """Whether a worker is known to advertise ``model``; a registry that does not answer at once is not waited for."""
    try:
        with anyio.move_on_after(_ASK_REGISTRY_S):
            async with registry_of(url, log) as registry:
                return any(model == record.card.name for record in await registry.list())
    except DiscoveryError:
        return False  # what is wrong with the registry is not what was asked
    return False


def _print(model: str, directory: Path, diagnosis: Diagnosis, outcome: dict[str, Any]) -> None:
    console, state = out(), diagnosis.state
    console.print("[bold]doctor[/] ", safe(model), f"  [{_STATE_COLOURS[state]}]{state.value}[/]", sep="")
    console.print("  ", safe(str(directory), "dim"), sep="")
    for finding in diagnosis.findings:
        _print_finding(finding)
    if outcome and outcome.get("state") not in (None, "READY"):
        console.print("  [dim]last resolve[/]  ", safe(str(outcome["state"])), sep="")
        for each in outcome.get("errors", []):
            console.print(f"    [red]{each['code']}[/]  ", safe(each["message"]), sep="")


def _print_finding(finding: Finding) -> None:
    console = out()
    status = f"[{_COLOURS[finding.status]}]{finding.status.value:<8}[/]"
    lacks = f"lacks {finding.missing}: " if finding.missing else ""
    console.print(f"  {status}  {finding.consumer or 'other files':<20}", safe(lacks + finding.detail), sep="")
    for label, text in (("who has it", finding.who_would_have_it), ("mend", finding.mend)):
        if text:
            console.print(f"              [dim]{label:<12}[/]", safe(text), sep="")


def _place(uri: str) -> str:
    """Return where a file came from without its own name."""
    return uri.rpartition("/")[0] if not uri.startswith("http") else "/".join(uri.split("/")[:3])
