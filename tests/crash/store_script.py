"""What a worker's restart does to the store: ingest, publish, publish again with a changed file, collect.

Run as ``python store_script.py ROOT``. Says ``published 1`` and ``published 2`` when a publish has returned.
"""

from __future__ import annotations

import sys
from pathlib import Path

from placecard.card import Card, CheckedFile, digest_of
from placecard.store import Entry, Origin, Proof, Store

MODEL = "Org/Crash-Test"
FIRST = {
    "config.json": b'{"model_type": "test"}',
    "tokenizer.json": b"t" * 70_000,
    "processor/image/preprocessor_config.json": b'{"size": 224}',
    "empty.txt": b"",
}
SECOND = {**FIRST, "tokenizer.json": b"u" * 70_001}


def publish(store: Store, files: dict[str, bytes]) -> None:
    checked, entries = [], []
    with store.lease() as lease:
        for name, data in files.items():
            digest = digest_of(data)
            lease.pin(digest)
            checked.append(CheckedFile(name=name, digest=digest, size=len(data)))
            entries.append(Entry(name, digest, len(data), "extra", Proof.ADVERTISED, Origin.WORKER))
            if store.find(digest) is None:
                with store.ingest(digest=digest, size=len(data), limit_bytes=1 << 20) as ingest:
                    for start in range(0, len(data), 65_536):
                        ingest.write(data[start : start + 65_536])
                    ingest.commit()
        store.publish(MODEL, entries, card=Card(name=MODEL, files=tuple(checked)))


def main(root: Path) -> None:
    store = Store.open(root)
    for number, files in enumerate((FIRST, SECOND), start=1):
        publish(store, files)
        print(f"published {number}", flush=True)
    store.gc(keep_generations=1)
    print("collected", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
