"""A worker process for the benchmarks: pins a directory, self-hosts it, prints its record as one line, waits for
SIGTERM."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from placecard.card import Card, CheckedFile, assign_slots, digest_stream
from placecard.discovery import Record
from placecard.discovery.record import encode_record
from placecard.publisher import HostedModel, advertised, serve_metadata


async def main(directory: Path) -> None:
    """Serve ``directory`` until the process is ended."""
    names = sorted(path.name for path in directory.iterdir())
    roles = assign_slots(names)
    files, blobs = [], {}
    for name in names:
        with (directory / name).open("rb") as file:
            digest, size = digest_stream(file)
        files.append(CheckedFile(name=name, digest=digest, size=size, role=roles[name].value))
        blobs[digest] = directory / name
    card = Card(name="bench/model", files=tuple(files))
    async with serve_metadata([HostedModel(card, blobs)], host="127.0.0.1") as server:
        record = Record("1" * 32, advertised(card, server.url), server.url)
        sys.stdout.write(encode_record(record).decode() + "\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
