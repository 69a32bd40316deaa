"""A stock Dynamo worker publishes; we find its card, and read it right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from placecard.card import Card, Role, digest_of
from placecard.discovery import Joined, Left, Record
from placecard.dynamo import DynamoFileRegistry, mdcsum
from placecard.telemetry import Fact
from tests.interop.stock import StockFleet, placecard, stock_fleet
from tests.simulator.models import write_text_model, write_vl_model

pytestmark = pytest.mark.interop

# Dynamo neither hosts a README nor dotfiles nor weights.
HOSTED_VL = {
    "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.json",
    "preprocessor_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "LICENSE",
    "model.safetensors.index.json",
}  # fmt: skip
TYPED_VL = {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.json"}


async def only_record(fleet: StockFleet, facts: list[Fact]) -> Record:
    async with DynamoFileRegistry(fleet.kv, observe=facts.append) as registry:
        (record,) = await registry.list()
    return record


def assert_files(card: Card, model: Path, names: set[str]) -> None:
    assert {file.name for file in card.files} == names
    for file in card.files:
        data = (model / file.name).read_bytes()
        assert (file.digest, file.size) == (digest_of(data), len(data)), file.name


async def test_self_hosted_worker_is_complete_and_names_addresses(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "tiny-vl")
    facts: list[Fact] = []
    with stock_fleet(tmp_path / "fleet") as fleet:
        raw = fleet.mocker(model, "tiny", self_host=True)
        record = await only_record(fleet, facts)
    assert_files(record.card, model, HOSTED_VL)
    assert all(file.sources[0].startswith("http://127.0.0.1:") for file in record.card.files)
    assert (record.complete, record.address, record.card.name) == (True, None, "tiny")
    assert record.card.slot(Role.CHAT_TEMPLATE) == record.card.file("chat_template.json")
    assert record.card.serving.kv_block_size == 16
    assert record.card.serving.worker_type == "aggregated"
    assert record.card.unknown["dynamo"]["mdcsum"] == mdcsum(raw["card_json"])
    assert facts == []


async def test_worker_without_hosting_names_paths_and_is_incomplete(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "tiny vl")
    facts: list[Fact] = []
    with stock_fleet(tmp_path / "fleet") as fleet:
        fleet.mocker(model, "tiny", self_host=False)
        record = await only_record(fleet, facts)
    assert_files(record.card, model, TYPED_VL)
    assert record.card.files[0].sources == (f"{model.as_uri()}/config.json",)
    assert (record.complete, record.card.origin) == (False, str(model))
    assert facts == []


async def test_watch_sees_a_worker_come_and_a_killed_one_go(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "tiny")
    with stock_fleet(tmp_path / "fleet") as fleet:
        async with DynamoFileRegistry(fleet.kv, ttl_s=5.0, period_s=0.1) as registry:
            changes = registry.watch()
            with anyio.fail_after(60):
                worker = await anyio.to_thread.run_sync(lambda: fleet.mocker(model, "tiny", self_host=False))
                joined = await anext(changes)
                fleet.processes[0].kill()
                left = await anext(changes)
    assert isinstance(joined, Joined)
    assert joined.record.card.unknown["dynamo"]["instance_id"] == worker["instance_id"]
    assert left == Left(joined.record.instance)


@pytest.mark.parametrize("self_host", [True, False], ids=["hosted", "paths"])
def test_resolve_lays_out_a_complete_directory(tmp_path: Path, *, self_host: bool) -> None:
    model = write_vl_model(tmp_path / "tiny-vl")
    with stock_fleet(tmp_path / "fleet") as fleet:
        fleet.mocker(model, "tiny", self_host=self_host)
        result = placecard(
            "resolve", "tiny", "--discovery", f"dynamo+file://{fleet.kv}", "--cache-dir", str(tmp_path / "cache"),
            "--file-root", str(model), "--json", env=fleet.environment,
        )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    assert (answer["state"], answer["errors"]) == ("READY", [])
    directory = Path(answer["directory"])
    for name in HOSTED_VL:
        assert (directory / name).read_bytes() == (model / name).read_bytes(), name
    assert not list(directory.glob("*.safetensors"))
    proofs = {file["name"]: file["proof"] for file in answer["files"]}
    assert proofs["config.json"] == "ADVERTISED"
    assert proofs["preprocessor_config.json"] == ("ADVERTISED" if self_host else "OBSERVED")


def test_resolve_refuses_a_file_that_changed_behind_the_worker(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "tiny-vl")
    with stock_fleet(tmp_path / "fleet") as fleet:
        fleet.mocker(model, "tiny", self_host=True)
        flipped = bytearray((model / "tokenizer.json").read_bytes())
        flipped[-3] ^= 1
        (model / "tokenizer.json").write_bytes(flipped)
        result = placecard(
            "resolve", "tiny", "--discovery", f"dynamo+file://{fleet.kv}", "--cache-dir", str(tmp_path / "cache"),
            "--json", env=fleet.environment,
        )  # fmt: skip
    answer = json.loads(result.stdout)
    assert (result.returncode, answer["state"]) == (1, "REFUSED")
    assert [(error["code"], error["subject"]) for error in answer["errors"]] == [("DIGEST_MISMATCH", "tokenizer.json")]
