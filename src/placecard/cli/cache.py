"""``placecard cache``: look after the store of proven files."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from cyclopts import Parameter

from placecard.cli.main import EXIT_FAILURE, EXIT_OK
from placecard.cli.options import JsonFlag, Repeat, StoreOptions, path_or_stdin
from placecard.cli.output import err, out, print_json, safe, size_text
from placecard.cli.wiring import open_store
from placecard.errors import Code, StoreError, UsageError
from placecard.store import Store
from placecard.telemetry import log

ModelName = Annotated[str, Parameter(name="NAME", help="The model's name.")]
_COLOURS = {"READY": "green", "DEGRADED": "yellow", "REFUSED": "red"}


def ls(*, store: StoreOptions | None = None, json: JsonFlag = False) -> int:
    """List the models of the store.

    Parameters
    ----------
    json
        Print the list as one JSON object.
    """
    opened = open_store(store, log)
    rows = [_row(opened, info) for info in opened.models()]
    if json:
        print_json({"root": str(opened.root), "models": rows})
        return EXIT_OK
    if not rows:
        out().print(safe(f"{opened.root} holds no model yet: placecard resolve NAME"))
        return EXIT_OK
    for row in rows:
        _print_row(row)
    return EXIT_OK


def path(model: ModelName, /, *, store: StoreOptions | None = None, json: JsonFlag = False) -> int:
    """Print the stable directory of a model: always the newest whole generation.

    Parameters
    ----------
    json
        Print the path, and the generation it points to, as one JSON object.
    """
    opened = open_store(store, log)
    snapshot = opened.current(model)
    if snapshot is None:
        raise StoreError(Code.STORE_MISSING, f"{opened.root} has no whole generation of it", subject=model)
    stable = opened.stable_path(model)
    if json:
        print_json({"model": model, "path": str(stable), "generation": str(snapshot.directory)})
    else:
        out().print(safe(str(stable)))
    return EXIT_OK


def verify(*, store: StoreOptions | None = None, json: JsonFlag = False) -> int:
    """Hash every stored file again; what is wrong is set aside.

    Parameters
    ----------
    json
        Print the result as one JSON object.
    """
    opened = open_store(store, log)
    report = opened.verify()
    if json:
        print_json(report.as_json())
    else:
        for problem in report.problems:
            out().print("[red]✗[/] ", safe(problem), sep="")
        out().print(f"{report.blobs} files hashed, {size_text(report.bytes)}; {len(report.problems)} problems")
        if report.models:
            out().print("  [dim]mend[/]  resolve again: ", safe(", ".join(report.models)), sep="")
    return EXIT_FAILURE if report.problems else EXIT_OK


def gc(
    *,
    keep: int = 2,
    target_bytes: int | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    store: StoreOptions | None = None,
    json: JsonFlag = False,
) -> int:
    """Delete old generations that nobody uses, and files that no generation needs.

    Parameters
    ----------
    keep
        Generations to keep of each model.
    target_bytes
        Drop more old generations, oldest first, until the store holds no more than this; current ones always stay.
    dry_run
        Say what would go, and delete nothing.
    json
        Print the result as one JSON object.
    """
    report = open_store(store, log).gc(keep_generations=keep, target_bytes=target_bytes, dry_run=dry_run)
    if json:
        print_json(report.as_json())
    else:
        verb = "would free" if dry_run else "freed"
        out().print(f"{verb} {size_text(report.bytes)}: {report.generations} generations, {report.blobs} files")
    return EXIT_OK


def export(
    model: ModelName,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    store: StoreOptions | None = None,
) -> int:
    """Write a model as one bundle, for a host without network.

    Parameters
    ----------
    output
        The bundle; by default standard output.
    """
    opened = open_store(store, log)
    if output is None:
        if sys.stdout.isatty():
            raise UsageError(Code.USAGE, "a bundle is binary: give -o FILE, or redirect standard output")
        report = opened.export(model, sys.stdout.buffer)
    else:
        report = _write_whole(output, lambda file: opened.export(model, file))
    err().print(f"{report.files} files, {size_text(report.bytes)}")
    return EXIT_OK


def import_(
    bundle: Annotated[
        Path,
        Parameter(
            name="FILE", help="A bundle, or - for standard input.", converter=path_or_stdin, allow_leading_hyphen=True
        ),
    ],
    /,
    *,
    allow_code: Annotated[tuple[str, ...], Repeat] = (),
    store: StoreOptions | None = None,
    json: JsonFlag = False,
) -> int:
    """Read a bundle into the store; every file is proven, and all of it comes in or nothing.

    Parameters
    ----------
    allow_code
        The digest of a code file on the bundle's card that may come in; repeatable. No code is ever run.
    json
        Print the model and its directory as one JSON object.
    """
    opened = open_store(store, log)
    try:
        if str(bundle) == "-":
            snapshot = opened.import_(sys.stdin.buffer, allow_code=allow_code)
        else:
            with bundle.open("rb") as file:
                snapshot = opened.import_(file, allow_code=allow_code)
    except OSError as error:
        raise UsageError(Code.USAGE, f"{bundle} cannot be read: {error.strerror}") from error
    if json:
        print_json({"model": snapshot.model, "directory": str(snapshot.directory)})
    else:
        err().print("[green]imported[/] ", safe(snapshot.model), sep="")
        out().print(safe(str(snapshot.directory)))
    return EXIT_OK


def rm(model: ModelName, /, *, store: StoreOptions | None = None) -> int:
    """Remove a model; its files go at the next `cache gc`."""
    opened = open_store(store, log)
    if not opened.remove(model):
        raise StoreError(Code.STORE_MISSING, f"{opened.root} has no such model", subject=model)
    err().print("removed; `placecard cache gc` frees what no other model needs")
    return EXIT_OK


def _print_row(row: dict[str, Any]) -> None:
    """Print one model: its state and size, then its directory whole on a line of its own, to be copied."""
    console, generations = out(), row["generations"]
    facts = f"{row['files']} files · {size_text(row['bytes'])} · {generations} generation{'s' * (generations != 1)}"
    console.print(
        safe(row["state"].ljust(9), _COLOURS.get(row["state"], "dim")), safe(row["model"], "bold"), f"[dim]{facts}[/]"
    )
    if row["directory"]:
        console.print("          ", safe(row["directory"]), sep="")
    if row["last_attempt"] not in (None, row["state"]):
        codes = ", ".join(sorted({str(error.get("code")) for error in row["errors"]}))
        console.print("          ", safe(f"the last attempt was {row['last_attempt']}: {codes}", "yellow"), sep="")


def _row(opened: Store, info: Any) -> dict[str, Any]:
    outcome = opened.read_state(info.name, "outcome") or {}
    current = info.current
    return {
        "model": info.name,
        "state": str((outcome.get("serving") or "IMPORTED") if current else outcome.get("state", "EMPTY")),
        "last_attempt": outcome.get("state"),
        "directory": str(opened.stable_path(info.name)) if current else None,
        "files": len(current.manifest.entries) if current else 0,
        "bytes": info.bytes,
        "generations": info.generations,
        "degraded": _objects(outcome.get("degraded")),
        "errors": _objects(outcome.get("errors")),
    }


def _objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a remembered list; a state file is only a note, and may be damaged."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _write_whole(target: Path, write: Any) -> Any:
    """Write a file that is there whole or not at all."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            report = write(file)
            _sync(file)
        temporary.replace(target)
    except OSError as error:
        raise UsageError(Code.USAGE, f"{target} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return report


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
