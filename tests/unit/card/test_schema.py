"""The published JSON Schema says what the reader does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from placecard.card import card_schema, card_schema_text
from placecard.errors import Code
from tests.unit.card.cards import card_json, codes, decoded, file_json

VALIDATOR = jsonschema.Draft202012Validator(card_schema())
COMMITTED = Path(__file__).parents[3] / "docs" / "card.schema.json"


def test_the_committed_schema_is_the_generated_one() -> None:
    assert COMMITTED.read_text() == card_schema_text(), "run: python docs/generate.py"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(card_schema_text()))


@pytest.mark.parametrize(
    "card",
    [card_json(), card_json(file_json("a.json", b"", size=None, future=1), future=[], serving={"lora": {"name": "l"}})],
)
def test_both_take_a_good_card(card: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors(card)) == []
    assert decoded(**card)


@pytest.mark.parametrize(
    "card",
    [
        card_json(name=None),
        card_json(name=7),
        card_json(name=""),
        card_json(schema="1"),
        card_json(schema=2),
        card_json(schema=0),
        card_json(files={}),
        card_json(files=[]),
        card_json("a.json"),  # type: ignore[arg-type]
        card_json({"name": "a.json"}),
        card_json(file_json("")),
        card_json(file_json("a.json", digest="blake3:0")),
        card_json(file_json("a.json", digest=None)),
        card_json(file_json("a.json", size=-1)),
        card_json(file_json("a.json", size=2**63)),
        card_json(file_json("a.json", size="1")),
        card_json(file_json("a.json", size=True)),
        card_json(file_json("a.json", sources="http://h/x")),
        card_json(file_json("a.json", sources=[""] * 65)),
        card_json(file_json("a.json", consumers=[0])),
        card_json(file_json("a.json", role="")),
        card_json(serving=None),
        card_json(serving={"aliases": [""]}),
        card_json(serving={"kv_block_size": 0}),
        card_json(serving={"context_length": 2**31}),
        card_json(serving={"worker_type": 1}),
        card_json(serving={"image_options": []}),
        card_json(serving={"lora": {}}),
        card_json(serving={"lora": {"name": "l", "max_gpu_lora_count": -1}}),
        card_json(left_out=[{"name": "w.bin"}]),
        card_json(left_out=[1]),
    ],
)
def test_both_refuse_a_card_of_the_wrong_shape(card: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors(card)) != []
    assert codes(card)


def test_what_only_the_reader_sees() -> None:
    """Rules between files, and safe names, are beyond a schema; the reader alone holds them."""
    card = card_json(file_json("../x"))
    assert list(VALIDATOR.iter_errors(card)) == []
    assert codes(card) == [Code.NAME_UNSAFE]
