"""``placecard doctor``: does a directory serve its consumers, and if not, which file is missing and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import anyio
from cyclopts import Parameter

from placecard.admission import Limits, Loader
from placecard.card import Card, card_from_json
from placecard.cli.main import EXIT_DEGRADED, EXIT_FAILURE, EXIT_OK
from placecard.cli.options import JsonFlag, StoreOptions
from placecard.cli.output import out, print_json, safe
from placecard.cli.wiring import open_store
from placecard.doctor import Finding, Status, examine_directory
from placecard.errors import Code, StoreError
from placecard.store import Manifest, Store
from placecard.telemetry import log

_COLOURS = {Status.OK: "green", Status.DEGRADED: "yellow", Status.FAILED: "red", Status.ABSENT: "dim"}


def doctor(
    model: Annotated[str, Parameter(name="MODEL", help="A model of the store, or a directory.")],
    /,
    *,
    store: StoreOptions | None = None,
    load_test: bool = True,
    load_timeout: float = 60.0,
    json: JsonFlag = False,
) -> int:
    """Say for each consumer whether a directory serves it, and what to do if not.

    Parameters
    ----------
    load_test
        Open the directory with its consumers, in a limited child process.
    load_timeout
        Seconds that may take.
    json
        Print the findings as one JSON object.
    """
    directory, card, manifest, outcome = _patient(model, store)
    looked_at = sorted({_place(entry.uri) for entry in manifest.entries if entry.uri}) if manifest else []

    async def work() -> tuple[Finding, ...]:
        async with Loader(Limits(seconds=load_timeout)) as loader:
            return await examine_directory(
                directory, loader=loader if load_test else None, card=card, manifest=manifest, looked_at=looked_at
            )

    findings = anyio.run(work)
    worst = {finding.status for finding in findings}
    state = "REFUSED" if Status.FAILED in worst else "DEGRADED" if Status.DEGRADED in worst else "READY"
    if json:
        print_json(
            {
                "model": model,
                "directory": str(directory),
                "state": state,
                "findings": [finding.as_json() for finding in findings],
                "last_resolve": outcome,
            }
        )
    else:
        _print(model, directory, findings, outcome)
    return {"READY": EXIT_OK, "DEGRADED": EXIT_DEGRADED, "REFUSED": EXIT_FAILURE}[state]


def _patient(model: str, options: StoreOptions | None) -> tuple[Path, Card | None, Manifest | None, dict[str, Any]]:
    """Return the directory to examine, and what the store knows of it.

    Raises:
        StoreError: ``STORE_MISSING``.
    """
    if Path(model).is_dir():
        return Path(model), None, None, {}
    store: Store = open_store(options, log)
    snapshot = store.current(model)
    outcome = store.read_state(model, "outcome") or {}
    if snapshot is None:
        errors = "; ".join(f"{each['code']}: {each['message']}" for each in outcome.get("errors", []))
        detail = f"{store.root} has no whole generation of it" + (f"; the last resolve said {errors}" if errors else "")
        raise StoreError(Code.STORE_MISSING, detail, subject=model)
    return snapshot.directory, card_from_json(snapshot.manifest.card), snapshot.manifest, outcome


def _print(model: str, directory: Path, findings: tuple[Finding, ...], outcome: dict[str, Any]) -> None:
    console = out()
    console.print("[bold]doctor[/] ", safe(model), sep="")
    console.print("  ", safe(str(directory), "dim"), sep="")
    for finding in findings:
        status = f"[{_COLOURS[finding.status]}]{finding.status.value:<8}[/]"
        lacks = f"lacks {finding.missing}: " if finding.missing else ""
        console.print(f"  {status}  {finding.consumer:<20}", safe(lacks + finding.detail), sep="")
        for label, text in (("who", finding.who_would_have_it), ("mend", finding.mend)):
            if text:
                console.print(f"              [dim]{label:<5}[/]", safe(text), sep="")
    if outcome and outcome.get("state") not in (None, "READY"):
        console.print("  [dim]last resolve[/]  ", safe(str(outcome["state"])), sep="")
        for each in outcome.get("errors", []):
            console.print(f"    [red]{each['code']}[/]  ", safe(each["message"]), sep="")


def _place(uri: str) -> str:
    """Return where a file came from without its own name."""
    return uri.rpartition("/")[0] if not uri.startswith("http") else "/".join(uri.split("/")[:3])
