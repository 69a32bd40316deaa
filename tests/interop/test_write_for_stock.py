"""We publish a card and files; a stock Dynamo front end fetches, verifies and lists the model."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import pytest

from placecard.card import Card, CheckedFile, Lora, Serving, assign_slots, digest_of, kind_of
from placecard.discovery import Record
from placecard.dynamo import DynamoFileRegistry, card_to_dynamo, mdcsum
from tests.interop.stock import PYTHON, StockFleet, listed, stock_fleet
from tests.simulator.models import write_text_model, write_vl_model

pytestmark = pytest.mark.interop
INSTANCE = "00112233445566778899aabbccddeeff"


def card_of(model: Path, name: str) -> tuple[Card, dict[str, bytes]]:
    """Return the card of a model directory, and the bytes to serve for it."""
    roles = assign_slots(path.name for path in model.iterdir())
    content = {n: (model / n).read_bytes() for n in roles if kind_of(n) == "metadata" and n != "README.md"}
    files = tuple(
        CheckedFile(name=n, digest=digest_of(data), size=len(data), role=roles[n].value) for n, data in content.items()
    )
    serving = Serving(aliases=(f"{name}-alias",), context_length=32768, kv_block_size=16)
    return Card(name=name, origin=str(model), files=files, serving=serving), content


@contextmanager
def hosted(card: Card, content: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve ``content`` as a publisher does; yield the base URL and the paths that were asked for."""
    asked: list[str] = []
    paths = {f"/v1/metadata/{card.slug}/{quote(name)}": data for name, data in content.items()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = paths.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


async def front_end_lists(fleet: StockFleet, record: Record, *, log: str = "") -> list[str]:
    """Publish ``record`` until a stock front end lists a model, or until its log says ``log``; return what it lists."""
    async with DynamoFileRegistry(fleet.kv) as registry:
        await registry.put(record)
        base = await anyio.to_thread.run_sync(fleet.frontend)
        with anyio.fail_after(60):
            while True:
                assert await registry.refresh(record.instance)
                models = await anyio.to_thread.run_sync(listed, base)
                if models or (log and log in fleet.log("frontend")):
                    return models
                await anyio.sleep(0.2)


@pytest.mark.parametrize("write", [write_text_model, write_vl_model], ids=["text", "vl"])
async def test_stock_front_end_lists_what_we_publish(tmp_path: Path, write: Any) -> None:
    card, content = card_of(write(tmp_path / "tiny"), "Our/Model")
    with stock_fleet(tmp_path / "fleet") as fleet, hosted(card, content) as (address, asked):
        models = await front_end_lists(fleet, Record(INSTANCE, card, address=address))
        log = fleet.log("frontend")
    assert models == ["Our/Model", "Our/Model-alias"], log
    assert set(asked) == {f"/v1/metadata/our_model/{quote(name)}" for name in content}
    written = card_to_dynamo(card, base_url=address, namespace="dynamo", component="backend", endpoint="generate")
    laid_out = fleet.metadata_cache / "by-slug/our_model" / mdcsum(written)
    assert {path.name: path.read_bytes() for path in laid_out.iterdir()} == content


async def test_stock_front_end_refuses_a_flipped_byte(tmp_path: Path) -> None:
    card, content = card_of(write_text_model(tmp_path / "tiny"), "ours")
    flipped = bytearray(content["tokenizer.json"])
    flipped[-3] ^= 1
    content["tokenizer.json"] = bytes(flipped)
    with stock_fleet(tmp_path / "fleet") as fleet, hosted(card, content) as (address, _):
        models = await front_end_lists(fleet, Record(INSTANCE, card, address=address), log="checksum mismatch")
    assert models == []


async def test_stock_front_end_reads_paths_where_nobody_hosts(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "tiny text")
    card, content = card_of(model, "ours")
    files = tuple(
        CheckedFile(
            name=f.name, digest=f.digest, size=f.size, role=f.role, sources=(f"{model.as_uri()}/{quote(f.name)}",)
        )
        for f in card.files
    )
    with stock_fleet(tmp_path / "fleet") as fleet:
        models = await front_end_lists(fleet, Record(INSTANCE, Card(name="ours", origin=str(model), files=files)))
        (laid_out,) = fleet.metadata_cache.glob("by-slug/ours/*")
        assert (laid_out / "vocab.json").read_bytes() == content["vocab.json"]
    assert models == ["ours"]


async def test_stock_front_end_drops_the_model_when_we_withdraw(tmp_path: Path) -> None:
    card, content = card_of(write_text_model(tmp_path / "tiny"), "ours")
    with stock_fleet(tmp_path / "fleet") as fleet, hosted(card, content) as (address, _):
        async with DynamoFileRegistry(fleet.kv) as registry:
            await registry.put(Record(INSTANCE, card, address=address))
            base = await anyio.to_thread.run_sync(fleet.frontend)
            with anyio.fail_after(60):
                while not await anyio.to_thread.run_sync(listed, base):
                    assert await registry.refresh(INSTANCE)
                    await anyio.sleep(0.1)
                await registry.delete(INSTANCE)
                while await anyio.to_thread.run_sync(listed, base):
                    await anyio.sleep(0.1)
    assert fleet.records() == []


def test_the_wheel_keeps_all_that_we_write(tmp_path: Path) -> None:
    card, _ = card_of(write_vl_model(tmp_path / "tiny"), "ours")
    serving = Serving(
        aliases=("a", "b"),
        context_length=77,
        kv_block_size=32,
        worker_type="prefill",
        tool_parser="hermes",
        reasoning_parser="qwen3",
        lora=Lora(name="My.Adapter", max_gpu_lora_count=4),
    )
    written = card_to_dynamo(
        Card(name="ours", files=card.files, serving=serving),
        base_url="http://127.0.0.1:9",
        namespace="dynamo",
        component="backend",
        endpoint="generate",
        user_data={"placecard": {"a": 1}},
    )
    reread = json.loads(
        subprocess.run(
            [PYTHON, "-c", "import sys; from dynamo._core import ModelDeploymentCard as M;"
             "print(M.from_json_str(sys.stdin.read()).to_json_str())"],
            input=json.dumps(written), capture_output=True, text=True, check=True, timeout=60,
        ).stdout
    )  # fmt: skip
    runtime, reread_runtime = written.pop("runtime_config"), reread.pop("runtime_config")
    assert reread | written == reread
    assert reread_runtime | runtime == reread_runtime
