"""What is served still is what was pinned, or the worker says so and takes it from the model directory again."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from anyio import to_thread

from placecard.card import Card, CheckedFile, digest_of, hex_of
from placecard.errors import Code
from placecard.publisher.app import CHUNK_BYTES, MIN_RATE, RATE_WINDOW_S, Limits
from placecard.publisher.catalogue import Catalogue, HostedModel
from placecard.publisher.host import serve_metadata
from placecard.publisher.pinned import Pinned
from placecard.publisher.pins import RETRY_S, ChangedError, Pins
from placecard.store import Store
from placecard.telemetry import Degraded, Fact, Fallback

CONFIG = b'{"model_type":"llama"}'
FILE = CheckedFile(name="config.json", digest=digest_of(CONFIG), size=len(CONFIG), role="model_info")
CARD = Card(name="org/Model", files=(FILE,))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / hex_of(FILE.digest)
    path.write_bytes(CONFIG)
    return path


def pins_of(blob: Path, clock: Clock, restore: Callable[[CheckedFile], Path | None] | None = None) -> Pins:
    catalogue = Catalogue([HostedModel(CARD, {FILE.digest: blob}, restore)])
    return Pins(catalogue.files, mend_after_s=30, clock=clock)


def read(pins: Pins) -> bytes:
    fd, size = pins.open(FILE.digest)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def change(blob: Path) -> bytes:
    """Flip a bit, keep the size."""
    flipped = bytes([CONFIG[0] ^ 1]) + CONFIG[1:]
    blob.write_bytes(flipped)
    os.utime(blob, ns=(1, 1))
    return flipped


def test_an_unchanged_file_is_served_and_nothing_is_wrong(blob: Path, clock: Clock) -> None:
    pins = pins_of(blob, clock)
    pins.check()
    assert (read(pins), pins.wrong(), pins.facts()) == (CONFIG, {}, [])


def test_row51_a_changed_file_is_told_once_and_mended_when_it_is_due(blob: Path, clock: Clock) -> None:
    def restore(file: CheckedFile) -> Path:
        blob.write_bytes(CONFIG)
        return blob

    pins = pins_of(blob, clock, restore)
    flipped = change(blob)
    assert (read(pins), read(pins)) == (flipped, flipped)  # the front end refuses it by its digest
    pins.check()
    (fact,) = pins.facts()
    assert isinstance(fact, Degraded)
    assert (fact.code, fact.missing) == (Code.STORE_CORRUPT, "config.json") and "Restart the publisher" in fact.mend
    assert pins.wrong() == {Code.STORE_CORRUPT: 1}
    clock.now += 31
    pins.check()
    assert (read(pins), pins.wrong()) == (CONFIG, {})
    assert [fact.kind for fact in pins.facts() if isinstance(fact, Fallback)] == ["pinned_again"]


@pytest.mark.parametrize("harm", ["gone", "short", "directory"])
def test_row51_a_lost_file_is_taken_again_at_once(blob: Path, clock: Clock, tmp_path: Path, harm: str) -> None:
    other = tmp_path / "other"
    other.write_bytes(CONFIG)
    pins = pins_of(blob, clock, lambda file: other)
    blob.unlink()
    if harm == "short":
        blob.write_bytes(CONFIG[:-1])
    elif harm == "directory":
        blob.mkdir()
    assert (read(pins), pins.wrong()) == (CONFIG, {})
    assert [type(fact) for fact in pins.facts()] == [Fallback]


def test_row51_a_file_that_nobody_has_any_more_is_an_error_and_not_sought_for_each_request(
    blob: Path, clock: Clock
) -> None:
    asked: list[str] = []

    def restore(file: CheckedFile) -> None:
        asked.append(file.name)

    pins = pins_of(blob, clock, restore)
    blob.unlink()
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            read(pins)
    assert asked == ["config.json"] and pins.wrong() == {Code.STORE_MISSING: 1}
    clock.now += RETRY_S
    blob.write_bytes(CONFIG[1:])
    with pytest.raises(ChangedError):
        read(pins)
    assert len(asked) == 2


def test_row51_a_look_states_a_lost_file_once(blob: Path, clock: Clock) -> None:
    pins = pins_of(blob, clock)
    blob.unlink()
    pins.check()
    pins.check()
    assert [fact.code for fact in pins.facts() if isinstance(fact, Degraded)] == [Code.STORE_MISSING]


@pytest.fixture
async def client() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_health_is_red_while_a_file_is_wrong_and_green_when_it_is_back(
    blob: Path, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    original = tmp_path / "original"
    facts: list[Fact] = []
    model = HostedModel(CARD, {FILE.digest: blob}, lambda file: original if original.exists() else None)
    limits = Limits(check_s=0.01, mend_after_s=0.0)
    async with serve_metadata([model], host="127.0.0.1", limits=limits, observe=facts.append) as server:
        change(blob)
        red = await health(client, server.url, 503)
        assert red["status"] == "failing" and str(tmp_path) not in str(red)
        assert [(each["code"], each["files"]) for each in red["reasons"]] == [("STORE_CORRUPT", 1)]
    original.write_bytes(CONFIG)
    async with serve_metadata([model], host="127.0.0.1", limits=limits, observe=facts.append) as server:
        blob.unlink()
        async with client.get(f"{server.url}/v1/metadata/org_model/config.json") as answer:
            assert (answer.status, await answer.read()) == (200, CONFIG)
        assert await health(client, server.url, 200) == {"status": "ok"}
    assert [type(fact).__name__ for fact in facts] == ["Degraded", "Fallback"]


async def health(client: aiohttp.ClientSession, url: str, wanted: int) -> dict[str, Any]:
    with anyio.fail_after(10):
        while True:
            async with client.get(f"{url}/healthz") as answer:
                if answer.status == wanted:
                    body: dict[str, Any] = await answer.json()
                    return body
            await anyio.sleep(0.01)


async def test_a_copy_is_restored_from_the_store_or_from_an_original_of_that_digest(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    directory = tmp_path / "model"
    directory.mkdir()
    original = directory / "config.json"
    original.write_bytes(CONFIG)
    lease = store.lease()
    pinned = Pinned(store, lease, directory=directory)
    assert await to_thread.run_sync(pinned.pin, original) == (FILE.digest, FILE.size)
    (blob,) = pinned.blobs(CARD).values()
    assert await to_thread.run_sync(pinned.restore, FILE) == blob
    blob.unlink()
    assert await to_thread.run_sync(pinned.restore, FILE) == blob
    assert blob.read_bytes() == CONFIG
    for harm in (lambda: original.write_bytes(b"{}"), original.unlink, lambda: os.mkfifo(original)):
        blob.unlink(missing_ok=True)
        harm()
        assert await to_thread.run_sync(pinned.restore, FILE) is None
    lease.release()


def test_the_least_rate_is_one_chunk_in_its_window() -> None:
    assert Limits().stall_s == RATE_WINDOW_S and CHUNK_BYTES == MIN_RATE * RATE_WINDOW_S == 80 << 10
