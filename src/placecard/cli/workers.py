"""``placecard workers``: who advertises what."""

from __future__ import annotations

from typing import Any

import anyio

from placecard.card import content_digest, serving_digest
from placecard.cli.main import EXIT_OK
from placecard.cli.notes import Notes
from placecard.cli.options import DiscoveryUrl, JsonFlag
from placecard.cli.output import err, out, print_json, safe, size_text
from placecard.cli.registries import registry_of
from placecard.config import environment
from placecard.discovery import Record
from placecard.telemetry import log, tee


def ls(*, discovery: DiscoveryUrl = None, json: JsonFlag = False) -> int:
    """List the workers of a registry, and what each advertises.

    Parameters
    ----------
    discovery
        Registry URL: file:///dir, dynamo+file:///dir. By default the folder of this user.
    json
        Print the list as one JSON object.
    """
    url, notes = discovery or environment().discovery, Notes()

    async def work() -> tuple[Record, ...]:
        async with registry_of(url, tee(log, notes)) as registry:
            return await registry.list()

    rows = [_row(record) for record in sorted(anyio.run(work), key=lambda record: record.card.name)]
    if json:
        print_json({"discovery": url, "workers": rows, "notices": [note.as_json() for note in notes.notes]})
        return EXIT_OK
    for note in notes.notes:
        err().print("[yellow]note[/]  ", safe(note.cause), sep="")
    if not rows:
        out().print(safe(f"nobody advertises a model in {url}"))
        return EXIT_OK
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("model", "content", "files", "bytes", "address"):
        table.add_column(column, overflow="fold", justify="right" if column in ("files", "bytes") else "left")
    for row in rows:
        names = ", ".join([row["model"], *row["aliases"]])
        address = row["address"] or "not self-hosting"
        table.add_row(
            safe(names), row["content_digest"][7:19], str(row["files"]), size_text(row["bytes"]), safe(address)
        )
    out().print(table)
    return EXIT_OK


def _row(record: Record) -> dict[str, Any]:
    card = record.card
    return {
        "model": card.name,
        "aliases": list(card.serving.aliases),
        "instance": record.instance,
        "address": record.address,
        "content_digest": content_digest(card),
        "serving_digest": serving_digest(card),
        "files": len(card.files),
        "bytes": sum(file.size or 0 for file in card.files),
    }
