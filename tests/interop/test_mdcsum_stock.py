"""Our checksum is Dynamo's, for the cards of the table and for cards we write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from placecard.card import Card, CheckedFile, Role, Serving, digest_of
from placecard.dynamo import card_to_dynamo, mdcsum
from tests.interop.cards import CASES, stock_sums
from tests.interop.stock import REPOSITORY, stock_fleet

pytestmark = pytest.mark.interop


def our_card(*, serving: Serving | None = None, extras: tuple[str, ...] = ()) -> Card:
    named = {
        "config.json": Role.MODEL_INFO,
        "tokenizer.json": Role.TOKENIZER,
        "chat_template.jinja": Role.CHAT_TEMPLATE,
    }
    files = [CheckedFile(name=n, role=role, digest=digest_of(n.encode()), size=9) for n, role in named.items()]
    files += [CheckedFile(name=n, digest=digest_of(n.encode()), size=9) for n in extras]
    return Card(name="acme/river", origin="/models/river", files=tuple(files), serving=serving or Serving())


def test_sums_equal_those_of_a_stock_front_end(tmp_path: Path) -> None:
    ours = {
        "ours": our_card(),
        "ours, extras": our_card(extras=("vocab.json", "a b.json", "河.txt", "a&b+c;d.json", "1_Pooling/config.json")),
        "ours, served": our_card(
            serving=Serving(aliases=("a", "b"), context_length=4096, kv_block_size=32, worker_type="decode")
        ),
        "ours, parsers": our_card(serving=Serving(tool_parser="hermes", reasoning_parser="qwen3", context_length=77)),
    }
    written = {
        name: card_to_dynamo(card, base_url="http://127.0.0.1:9", namespace="n", component="c", endpoint="e")
        for name, card in ours.items()
    }
    cards = CASES | written
    with stock_fleet(tmp_path / "fleet") as fleet:
        sums = stock_sums(fleet, cards)
    assert {name: mdcsum(card) for name, card in cards.items()} == sums


def test_recorded_vectors_are_still_what_the_wheel_says(tmp_path: Path) -> None:
    lines = (REPOSITORY / "tests/golden/dynamo/mdcsum.jsonl").read_text(encoding="utf-8").splitlines()
    vectors = {vector["case"]: vector for vector in map(json.loads, lines)}
    with stock_fleet(tmp_path / "fleet") as fleet:
        sums = stock_sums(fleet, {name: vector["card"] for name, vector in vectors.items()})
    assert sums == {name: vector["mdcsum"] for name, vector in vectors.items()}
