"""``placecard card``: build, read, check and compare cards."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import anyio
from cyclopts import Parameter

from placecard.admission import Loader
from placecard.card import (
    MAX_CARD_BYTES,
    Card,
    Serving,
    card_schema_text,
    content_digest,
    decode_card,
    digest_stream,
    encode_card,
    read_json,
    serving_digest,
    to_json,
)
from placecard.card import (
    diff as card_diff,
)
from placecard.card import (
    lint as card_lint,
)
from placecard.cli.main import EXIT_FAILURE, EXIT_OK
from placecard.cli.options import JsonFlag, path_or_stdin
from placecard.cli.output import err, out, print_errors, print_json, safe, size_text
from placecard.config import environment
from placecard.discovery import NO_WORKER, Record
from placecard.errors import Code, PlacecardError, UsageError, flatten
from placecard.publisher import BuildReport, build_from
from placecard.source import HubSource
from placecard.telemetry import log

CardFile = Annotated[
    Path,
    Parameter(
        name="CARD",
        help="A file with a card, or - for standard input.",
        converter=path_or_stdin,
        allow_leading_hyphen=True,
    ),
]


def build(
    directory: Annotated[str, Parameter(name="DIR", help="A model directory, or hf://REPO[@REV].")],
    /,
    *,
    name: str | None = None,
    alias: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    context_length: int | None = None,
    kv_block_size: int | None = None,
    chat_template: Path | None = None,
    load_test: bool = True,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    json: JsonFlag = False,
) -> int:
    """Build the card of a directory or hub repository.

    Parameters
    ----------
    name
        The name that clients ask for; by default that of the directory or repository.
    alias
        A further name; repeatable.
    context_length
        Tokens a request may hold; by default what the configuration says.
    kv_block_size
        Tokens of one KV cache block of the engine.
    chat_template
        The operator's own template in place of the model's.
    load_test
        Open the directory to record which consumer reads which file.
    output
        Write the card into this file.
    json
        Print the card as JSON.
    """
    serving = Serving(aliases=alias, context_length=context_length, kv_block_size=kv_block_size)

    async def work() -> tuple[Card, BuildReport]:
        env = environment()
        hub = HubSource(offline=env.hub_offline, cache_dir=env.hub_cache, observe=log)
        async with Loader() as loader:
            used = loader if load_test else None
            return await build_from(
                directory, hub=hub, loader=used, name=name, serving=serving, template=chat_template, observe=log
            )

    card, report = anyio.run(work)
    if output is not None:
        output.write_bytes(encode_card(card, indent=2) + b"\n")
    if json:
        print_json(to_json(card))
    elif output is None:
        _print_card(card)
    for fact in report.degraded:
        err().print(f"[yellow]{fact.code.value}[/]  ", safe(fact.detail), sep="")
    print_errors(report.errors, json=False)
    return EXIT_OK


def show(card: CardFile, /, *, json: JsonFlag = False) -> int:
    """Show a card.

    Parameters
    ----------
    json
        Print the card with its digests as one JSON object.
    """
    value = read_card_file(card).card
    if json:
        digests = {"content_digest": content_digest(value), "serving_digest": serving_digest(value)}
        print_json({"card": to_json(value), "slug": value.slug, **digests})
    else:
        _print_card(value)
    return EXIT_OK


def verify(
    card: CardFile, directory: Annotated[Path | None, Parameter(name="DIR")] = None, /, *, json: JsonFlag = False
) -> int:
    """Check the files of a directory against their card.

    Parameters
    ----------
    directory
        The model directory; by default the folder of the card's file.
    json
        Print the result as one JSON object.
    """
    value = read_card_file(card).card
    folder = directory or card.absolute().parent
    rows: list[dict[str, Any]] = []
    for file in value.files:
        try:
            with _open_regular(folder / file.name) as opened:
                digest, size = digest_stream(opened)
        except OSError as error:
            rows.append({"name": file.name, "ok": False, "code": Code.NOT_FOUND.value, "message": error.strerror})
            continue
        ok = digest == file.digest
        message = "" if ok else f"expected {file.digest}, got {digest} ({size} bytes)"
        rows.append({"name": file.name, "ok": ok, "code": "" if ok else Code.DIGEST_MISMATCH.value, "message": message})
    wrong = [row for row in rows if not row["ok"]]
    if json:
        print_json({"ok": not wrong, "files": rows})
    else:
        for row in wrong:
            out().print(f"[red]{row['code']}[/]  ", safe(f"{row['name']}: {row['message']}"), sep="")
        out().print(f"{len(rows) - len(wrong)} of {len(rows)} files are as the card says")
    return EXIT_FAILURE if wrong else EXIT_OK


def diff(
    left: Annotated[Path, Parameter(name="A")],
    right: Annotated[Path, Parameter(name="B")],
    /,
    *,
    hints: Annotated[bool, Parameter(negative=())] = False,
    json: JsonFlag = False,
) -> int:
    """Name every field and file that differs between two cards; exit code 1 if any does.

    Parameters
    ----------
    hints
        Show sources and consumers, too, which no digest covers.
    json
        Print the differences as one JSON object.
    """
    one, other = read_card_file(left).card, read_card_file(right).card
    differences = card_diff(one, other)
    binding = [d for d in differences if d.part != "hints"]
    if json:
        rows = [{"part": d.part, "where": d.where, "a": d.left, "b": d.right} for d in differences]
        same = {
            "same_content": content_digest(one) == content_digest(other),
            "same_serving": serving_digest(one) == serving_digest(other),
        }
        print_json(same | {"differences": rows})
        return EXIT_FAILURE if binding else EXIT_OK
    for d in differences if hints else binding:
        out().print(f"[bold]{d.part:<8}[/] ", safe(f"{d.where}: {_side(d.left)} → {_side(d.right)}"), sep="")
    if not binding:
        out().print("same content, same serving")
    if len(differences) > len(binding) and not hints:
        out().print(
            f"[dim]{len(differences) - len(binding)} hints differ, which no digest covers: --hints shows them[/]"
        )
    return EXIT_FAILURE if binding else EXIT_OK


def lint(card: CardFile, /, *, json: JsonFlag = False) -> int:
    """Report all defects of a card, and advice.

    Parameters
    ----------
    json
        Print the findings as one JSON object.
    """
    defects: tuple[PlacecardError, ...] = ()
    notes: tuple[PlacecardError, ...] = ()
    try:
        notes = card_lint(read_card_file(card).card)
    except PlacecardError as error:
        if isinstance(error, UsageError):
            raise
        defects = tuple(flatten(error))
    if json:
        print_json({"defects": [e.as_json() for e in defects], "notes": [n.as_json() for n in notes]})
    else:
        print_errors(defects, json=False)
        for note in notes:
            out().print(f"[yellow]{note.code.value}[/]  ", safe(str(note)), sep="")
        counts = Counter(note.code.value for note in notes)
        found = f"{len(defects)} defect{'s' * (len(defects) != 1)}, {counts.total()} note{'s' * (counts.total() != 1)}"
        out().print(found)
    return EXIT_FAILURE if defects else EXIT_OK


def schema() -> int:
    """Print the JSON Schema of a card."""
    sys.stdout.write(card_schema_text())
    return EXIT_OK


def read_card_file(path: Path) -> Record:
    """Return the card in ``path`` as a record without a worker; a card of Dynamo is told by its keys.

    Raises:
        UsageError: The file cannot be read.
        CardError: It holds no valid card.
    """
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_CARD_BYTES + 1)
        else:
            with _open_regular(path) as file:
                data = file.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise UsageError(Code.USAGE, f"{path} cannot be read: {error.strerror}") from error
    raw = read_json(data)
    own = "schema" in raw and "files" in raw  # whatever else stands there: a newer release may add any key
    if not own and ("display_name" in raw or "card_json" in raw):
        from placecard.dynamo import card_from_dynamo

        card, info = card_from_dynamo(raw)
        return Record(NO_WORKER, card, complete=info.lists_extra_files)
    return Record(NO_WORKER, decode_card(data))


def _open_regular(path: Path) -> BinaryIO:
    """Open a file without waiting for one that would keep the reader waiting.

    Raises:
        OSError: It cannot be opened, or is a pipe, a device or a folder.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is not a regular file; - reads a pipe from standard input")
    return file


def _print_card(card: Card) -> None:
    from rich.table import Table

    console = out()
    console.print(safe(card.name, "bold"))
    total = sum(file.size or 0 for file in card.files)
    serving = card.serving
    facts = {
        "slug": card.slug,
        "origin": card.origin,
        "content": content_digest(card),
        "serving": serving_digest(card),
        "aliases": ", ".join(serving.aliases) or None,
        "context": serving.context_length and f"{serving.context_length} tokens",
        "kv block": serving.kv_block_size and f"{serving.kv_block_size} tokens",
        "worker type": serving.worker_type,
        "adapter": serving.lora and serving.lora.name,
    }
    for key, value in facts.items():
        if value:
            console.print(f"  [dim]{key:<12}[/]", safe(str(value)), sep="")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    longest = max(len(file.name) for file in card.files)
    table.add_column("file", min_width=min(longest, 40), overflow="fold")
    table.add_column("role", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True, min_width=8)
    table.add_column("blake3", no_wrap=True, min_width=8)
    table.add_column("read by", overflow="fold")
    for file in card.files:
        size = "?" if file.size is None else str(file.size)
        table.add_row(safe(file.name), safe(file.role), size, file.digest[7:15], safe(", ".join(file.consumers)))
    console.print(table)
    console.print(f"  {len(card.files)} files, {size_text(total)}; left out: ", safe(_left_out(card)), sep="")


def _side(value: Any) -> str:
    return "absent" if value is None else str(value)


def _left_out(card: Card) -> str:
    return ", ".join(f"{each.name} ({each.reason})" for each in card.left_out) or "nothing"
