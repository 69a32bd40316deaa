"""Cards of older Dynamo workers: paths of another host, no sizes, no extra files, hub names without a commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from placecard.card import digest_of
from tests.e2e.commands import Host, host
from tests.simulator.hub import LocalHub
from tests.simulator.models import VL_FILES, write_vl_model

SLOTS = {
    "model_info": ("hf_config_json", "config.json"),
    "tokenizer": ("hf_tokenizer_json", "tokenizer.json"),
    "prompt_formatter": ("hf_tokenizer_config_json", "tokenizer_config.json"),
    "gen_config": ("hf_generation_config_json", "generation_config.json"),
}


def old_card(model: Path, place: str) -> dict[str, object]:
    """The card that a worker of 2025 wrote of ``model``; ``place`` is put before each file's name."""
    card: dict[str, object] = {
        "display_name": "acme/river",
        "slug": "acme_river",
        "source_path": "acme/river",
        "kv_cache_block_size": 16,
        "migration_limit": 0,
        "model_type": "Chat | Completions",
        "model_input": "Tokens",
        "context_length": 32768,
    }
    for slot, (kind, name) in SLOTS.items():
        card[slot] = {kind: {"path": place + name, "checksum": digest_of((model / name).read_bytes())}}
    return card


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    write_vl_model(tmp_path / "hub" / "acme" / "river")
    with LocalHub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "hub" / "acme" / "river"


@pytest.fixture
def front_end(tmp_path: Path, hub: LocalHub) -> Host:
    return host(tmp_path, "front-end", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")


@pytest.mark.parametrize("place", ["/models/on/another/host/", "hf://acme/river/"])
def test_an_old_card_is_completed_from_the_hub(front_end: Host, hub: LocalHub, model: Path, place: str) -> None:
    card = front_end.home / "old.json"
    card.write_text(json.dumps(old_card(model, place)))
    answer = front_end.run("resolve", "old.json", "--json")
    assert answer.code == 0, answer.out
    outcome = answer.json
    directory = Path(outcome["directory"])
    assert {each.name for each in directory.iterdir()} == VL_FILES
    assert (directory / "preprocessor_config.json").read_bytes() == (model / "preprocessor_config.json").read_bytes()
    proofs = {each["name"]: each["proof"] for each in outcome["files"]}
    assert proofs["config.json"] == "ADVERTISED"
    assert proofs["preprocessor_config.json"] == "COMMIT"
    assert not any(request.path.endswith(".safetensors") for request in hub.requests)


def test_an_old_card_is_completed_from_the_model_path_without_the_hub(front_end: Host, model: Path) -> None:
    card = front_end.home / "old.json"
    card.write_text(json.dumps(old_card(model, "/models/on/another/host/")))
    answer = front_end.run("resolve", "old.json", "--json", "--offline", "--model-path", str(model))
    assert answer.code == 0, answer.out
    assert {each["origin"] for each in answer.json["files"]} == {"MODEL_PATH"}
    assert {each["name"] for each in answer.json["files"]} == VL_FILES


def test_row67_a_repository_that_moved_on_is_refused_for_its_digests(
    front_end: Host, hub: LocalHub, model: Path
) -> None:
    card = front_end.home / "old.json"
    card.write_text(json.dumps(old_card(model, "hf://acme/river/")))
    (model / "config.json").write_text("{}")
    answer = front_end.run("resolve", "old.json", "--json")
    assert answer.code == 1
    assert {error["code"] for error in answer.json["errors"]} <= {"DIGEST_MISMATCH", "SIZE_MISMATCH"}


def test_row64_without_hub_and_directory_the_refusal_says_where_it_looked(front_end: Host, model: Path) -> None:
    card = front_end.home / "old.json"
    card.write_text(json.dumps(old_card(model, "/models/on/another/host/")))
    answer = front_end.run("resolve", "old.json", "--json", "--offline")
    assert answer.code == 1
    assert {error["code"] for error in answer.json["errors"]} == {"PATH_FORBIDDEN"}
    assert all("--file-root" in error["mend"] for error in answer.json["errors"])


def test_placeholder_checksums_are_refused_by_name(front_end: Host, model: Path) -> None:
    card = old_card(model, "hf://acme/river/")
    card["tokenizer"] = {"hf_tokenizer_json": {"path": "hf://acme/river/tokenizer.json", "checksum": "blake3:0"}}
    (front_end.home / "old.json").write_text(json.dumps(card))
    answer = front_end.run("resolve", "old.json", "--json")
    assert answer.code == 1
    assert [error["code"] for error in answer.json["errors"]] == ["DIGEST_SYNTAX"]
