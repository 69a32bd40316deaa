"""The whole way on one host: build a card while pinning its bytes, register it, find it, resolve it, and once more.

Run as ``python pipeline_script.py ROOT``. The front end's store is ROOT; worker's store, registry and model directory
lie beside it. Says ``published 1`` and ``published 2`` when a resolve has returned, and ``collected`` at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from placecard.discovery import FileRegistry, Record
from placecard.publisher.build import build_card
from placecard.resolver import Admission, Resolver, ResolveSettings, Sources, State
from placecard.source import HttpSource, HubSource, LocalSource
from placecard.store import Snapshot, Store

MODEL = "Org/Crash-Test"
FIRST = {
    "config.json": b'{"model_type": "test"}',
    "tokenizer.json": b"t" * 70_000,
    "processor/image/preprocessor_config.json": b'{"size": 224}',
    "empty.txt": b"",
}
SECOND = {**FIRST, "empty.txt": b"no longer"}


class NoLoadTest:
    async def warm(self) -> None:
        return

    async def admit(self, snapshot: Snapshot, record: Record) -> Admission:
        return Admission((), (), "off")


def pin_into(store: Store, path: Path) -> tuple[str, int]:
    with path.open("rb") as file, store.ingest(digest=None, size=None, limit_bytes=1 << 20) as ingest:
        ingest.write(file.read())
        blob = ingest.commit()
    return blob.digest, blob.size


async def publish_and_resolve(root: Path, files: dict[str, bytes]) -> None:
    model, worker = root.parent / "model", Store.open(root.parent / "worker")
    for name, data in files.items():
        path = model / name
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    card, _ = await build_card(
        model, name=MODEL, sources=lambda name: ((model / name).as_uri(),), digester=lambda path: pin_into(worker, path)
    )
    settings = ResolveSettings(parallel=1)
    sources = Sources(LocalSource([model]), HttpSource(), HubSource(offline=True, cache_dir=root.parent / "hub"))
    store = Store.open(root)
    async with FileRegistry(root.parent / "registry", inotify=False) as registry:
        await registry.put(Record("1" * 32, card))
        (record,) = await registry.list()
        async with Resolver(store, sources, settings, admit=NoLoadTest()) as resolver:
            outcome = await resolver.resolve(record)
    if outcome.state is not State.READY:
        raise SystemExit(str(outcome.errors))


async def main(root: Path) -> None:
    for number, files in enumerate((FIRST, SECOND), start=1):
        await publish_and_resolve(root, files)
        print(f"published {number}", flush=True)
    Store.open(root).gc(keep_generations=1)
    print("collected", flush=True)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
