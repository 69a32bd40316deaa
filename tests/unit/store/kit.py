"""What the tests of the store share: small models, ways to publish them, and ways to look at what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from placecard.card import Card, CheckedFile, digest_of
from placecard.store import Blob, Entry, Lease, Origin, Proof, Snapshot, Store

MODEL = "Org/Model-A"
FILES: Mapping[str, bytes] = {
    "config.json": b'{"model_type": "test"}',
    "tokenizer.json": b"tokens" * 500,
    "image processor/größe.json": b'{"size": 224}',
    "empty.txt": b"",
}
OTHER: Mapping[str, bytes] = {**FILES, "tokenizer.json": b"other tokens" * 500}
LIMIT = 1 << 20


def put(store: Store, data: bytes, *, lease: Lease | None = None) -> Blob:
    with store.ingest(digest=digest_of(data), size=len(data), limit_bytes=LIMIT, lease=lease) as ingest:
        ingest.write(data)
        return ingest.commit()


def card_of(files: Mapping[str, bytes], model: str = MODEL) -> Card:
    checked = (CheckedFile(name=name, digest=digest_of(data), size=len(data)) for name, data in files.items())
    return Card(name=model, files=tuple(checked))


def entries_of(files: Mapping[str, bytes], proof: Proof = Proof.ADVERTISED) -> list[Entry]:
    return [
        Entry(name, digest_of(data), len(data), "extra", proof, Origin.WORKER, "http://10.0.0.1:9/x")
        for name, data in files.items()
    ]


def publish(store: Store, files: Mapping[str, bytes] = FILES, model: str = MODEL) -> Snapshot:
    with store.lease() as lease:
        for data in files.values():
            lease.pin(digest_of(data))
            put(store, data)
        return store.publish(model, entries_of(files), card=card_of(files, model))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def blob_path(store: Store, data: bytes) -> Path:
    return store.root / "blobs-v1" / digest_of(data).removeprefix("blake3:")


def tamper(path: Path, data: bytes | None = None) -> None:
    """Overwrite a stored file; by default with as many other bytes.

    Before Linux 6.13 file times advance in ticks of up to 10 ms, and a change within the tick of the seal is not seen.
    """
    time.sleep(0.011)
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size if data is None else data)


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Act as another user for a while; only root can."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
