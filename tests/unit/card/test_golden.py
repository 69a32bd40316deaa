"""Golden cards: bytes and digests that must never change under schema 1.

The digests are computed here a second time, from the JSON alone and by the encoding that ``card/identity.py`` states.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from placecard.card import content_digest, decode_card, encode_card, serving_digest

GOLDEN = Path(__file__).parents[2] / "golden" / "card"
DIGESTS: dict[str, dict[str, str]] = json.loads((GOLDEN / "digests.json").read_text())


@pytest.fixture(params=sorted(DIGESTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_golden_card_has_its_digests() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} - {"digests"} == set(DIGESTS)


def test_the_digests_are_those_of_release_0_1(name: str) -> None:
    card = decode_card((GOLDEN / f"{name}.json").read_bytes())
    assert {"content": content_digest(card), "serving": serving_digest(card)} == DIGESTS[name]


def test_a_second_reading_of_the_encoding_agrees(name: str) -> None:
    raw = json.loads((GOLDEN / f"{name}.json").read_text())
    assert {"content": _content(raw), "serving": _serving(raw)} == DIGESTS[name]


def test_a_golden_card_is_written_as_it_was_read(name: str) -> None:
    data = (GOLDEN / f"{name}.json").read_bytes()
    assert encode_card(decode_card(data), indent=2) + b"\n" == data


def _frame(tag: str, payload: bytes) -> bytes:
    return bytes([len(tag)]) + tag.encode() + len(payload).to_bytes(8, "big") + payload


def _blake3(data: bytes) -> str:
    return f"blake3:{blake3(data).hexdigest()}"


def _content(raw: dict[str, Any]) -> str:
    body = _frame("placecard", b"content:1")
    for file in sorted(raw["files"], key=lambda file: str(file["name"])):
        fields = [file["name"], file.get("role", "extra"), file["digest"], str(file.get("size", ""))]
        tags = ("name", "role", "digest", "size")
        body += _frame("file", b"".join(_frame(tag, text.encode()) for tag, text in zip(tags, fields, strict=True)))
    return _blake3(body)


def _serving(raw: dict[str, Any]) -> str:
    serving = raw["serving"]
    options = json.dumps(serving.get("image_options", {}), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    fields = [("name", raw["name"]), *(("alias", alias) for alias in sorted(serving.get("aliases", [])))]
    keys = ("context_length", "kv_block_size", "worker_type", "tool_parser", "reasoning_parser")
    fields += [(key, str(serving[key])) for key in keys if key in serving]
    fields += [("lora", serving["lora"]["name"])] if "lora" in serving else []
    fields += [("image_options", options)]
    return _blake3(_frame("placecard", b"serving:1") + b"".join(_frame(tag, text.encode()) for tag, text in fields))
