"""The two digests of a card: rows 11 and 12 of the bad-input table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from placecard.card import Card, content_digest, decode_card, digest_of, serving_digest
from tests.unit.card.cards import as_bytes, card_json, checked, decoded, file_json


def test_row11_key_order_and_white_space_change_neither_digest() -> None:
    whole = card_json(
        file_json("tokenizer.json"), serving={"image_options": {"a": 1, "b": {"c": 2, "d": 3}}, "aliases": ["x"]}
    )
    backwards = json.dumps(_backwards(whole), indent=3, separators=(" ,", "\t:\r\n")).encode()
    one, other = decode_card(as_bytes(whole)), decode_card(backwards)
    assert content_digest(one) == content_digest(other)
    assert serving_digest(one) == serving_digest(other)


def test_row12_moving_a_letter_between_name_and_alias_gives_another_digest() -> None:
    cuts = [("org/m", "odel"), ("org/mo", "del"), ("org/mod", "el")]
    digests = {serving_digest(decoded(name=name, serving={"aliases": [alias]})) for name, alias in cuts}
    assert len(digests) == len(cuts)


def test_row12_one_digest_in_two_slots_gives_two_cards() -> None:
    tokenizer = decoded(file_json("tokenizer.json", b"x", role="tokenizer"))
    extra = decoded(file_json("tokenizer.json", b"x", role="extra"))
    generation = decoded(file_json("generation_config.json", b"x", role="generation_config"))
    assert len({content_digest(card) for card in (tokenizer, extra, generation, decoded())}) == 4


def test_row12_a_field_that_imitates_its_neighbour_stays_a_field() -> None:
    plain, forged = (
        Card(name="m", files=(checked("config.json", b"{}"), checked("a.json", b"x", role=role)))
        for role in ("extra", "extra" + "4size" + "00000001" + "1")
    )
    assert content_digest(plain) != content_digest(forged)


@pytest.mark.parametrize(
    "changes",
    [
        {"context_length": 4096},
        {"kv_block_size": 16},
        {"worker_type": "decode"},
        {"tool_parser": "hermes"},
        {"reasoning_parser": "hermes"},
        {"lora": {"name": "hermes"}},
        {"aliases": ["hermes"]},
        {"aliases": ["a", "b"]},
        {"aliases": ["ab"]},
        {"image_options": {"max_pixels": 1}},
        {"image_options": {"max_pixels": 1.0}},
        {"image_options": {"max_pixels": True}},
        {"image_options": {"max_pixels": "1"}},
        {"image_options": {"max_pixels": None}},
    ],
)
def test_each_way_of_serving_has_its_own_digest(changes: dict[str, Any]) -> None:
    others = [
        {}, {"context_length": 16}, {"kv_block_size": 4096}, {"worker_type": "hermes"}, {"aliases": ["b", "a", "c"]},
    ]  # fmt: skip
    digest = serving_digest(decoded(serving=changes))
    assert digest not in {serving_digest(decoded(serving=other)) for other in others}
    assert digest != serving_digest(decoded(name="other", serving=changes))


def test_all_ways_of_serving_are_told_apart() -> None:
    values: list[Any] = [1, 1.0, True, "1", None, [], {}, 0, False, "", [[]], [1]]
    cards = [decoded(serving={"image_options": {"v": value}}) for value in values]
    assert len({serving_digest(card) for card in cards}) == len(values)


def test_the_order_of_aliases_means_nothing() -> None:
    one, other = (decoded(serving={"aliases": aliases}) for aliases in (["a", "b"], ["b", "a"]))
    assert serving_digest(one) == serving_digest(other)


@pytest.mark.parametrize("size", [None, 0, 1])
def test_an_absent_size_is_not_zero(size: int | None) -> None:
    sizes: set[int | None] = {None, 0, 1}
    cards = [decoded(file_json("a", b"x", size=each)) for each in sizes - {size}]
    assert content_digest(decoded(file_json("a", b"x", size=size))) not in {content_digest(card) for card in cards}


def test_the_content_digest_says_nothing_of_serving_and_the_reverse() -> None:
    one = decoded(serving={"kv_block_size": 16})
    other = decoded(file_json("a.json"))
    assert content_digest(one) == content_digest(decoded())
    assert serving_digest(other) == serving_digest(decoded())


def test_a_framing_written_by_hand() -> None:
    """Source: the encoding stated in ``card/identity.py``, spelled out byte by byte."""
    card = Card(name="m", files=(checked("config.json", b"{}"),))
    fields = (("name", "config.json"), ("role", "model_info"), ("digest", digest_of(b"{}")), ("size", "2"))
    file = b"".join(_framed(tag, text.encode()) for tag, text in fields)
    assert content_digest(card) == digest_of(_framed("placecard", b"content:1") + _framed("file", file))
    served = _framed("placecard", b"serving:1") + _framed("name", b"m") + _framed("image_options", b"{}")
    assert serving_digest(card) == digest_of(served)


def _framed(tag: str, payload: bytes) -> bytes:
    return bytes([len(tag)]) + tag.encode("ascii") + len(payload).to_bytes(8, "big") + payload


def _backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _backwards(value[key]) for key in reversed(value)}
    return [_backwards(each) for each in value] if isinstance(value, list) else value
