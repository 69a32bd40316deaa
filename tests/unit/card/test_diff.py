"""What differs between two cards."""

from __future__ import annotations

from typing import Any

import pytest

from placecard.card import Card, diff
from tests.unit.card.cards import decoded, file_json


def test_a_card_does_not_differ_from_itself() -> None:
    card = decoded(file_json("a.json"), serving={"lora": {"name": "l"}}, future=1)
    assert diff(card, card) == ()


def test_the_order_of_files_and_aliases_is_no_difference() -> None:
    files = [file_json("a.json"), file_json("b.json")]
    one = decoded(*files, serving={"aliases": ["a", "b"]})
    other = decoded(*reversed(files), serving={"aliases": ["b", "a"]})
    assert diff(one, other) == ()


@pytest.mark.parametrize(
    ("changed", "part", "where"),
    [
        ({"name": "other"}, "serving", "name"),
        ({"serving": {"kv_block_size": 32}}, "serving", "serving.kv_block_size"),
        ({"serving": {"aliases": ["a"]}}, "serving", "serving.aliases"),
        ({"serving": {"lora": {"name": "l"}}}, "serving", "serving.lora.name"),
        ({"serving": {"image_options": {"a": 1}}}, "serving", "serving.image_options"),
        ({"serving": {"future": 1}}, "hints", "serving.unknown"),
        ({"origin": "hf://a/b"}, "hints", "origin"),
        ({"future": 1}, "hints", "unknown"),
        ({"left_out": [{"name": "w.bin", "reason": "weights"}]}, "hints", "left_out"),
    ],
)
def test_each_field_is_named_with_its_part(changed: dict[str, Any], part: str, where: str) -> None:
    found = diff(decoded(), decoded(**changed))
    assert [(each.part, each.where) for each in found] == [(part, where)]


@pytest.mark.parametrize(
    ("changes", "part", "key"),
    [
        ({"size": None}, "content", "size"),
        ({"role": "future"}, "content", "role"),
        ({"sources": ["http://h/x"]}, "hints", "sources"),
        ({"consumers": ["config"]}, "hints", "consumers"),
        ({"future": 1}, "hints", "unknown"),
    ],
)
def test_each_field_of_a_file_is_named(changes: dict[str, Any], part: str, key: str) -> None:
    found = diff(decoded(file_json("a.json")), decoded(file_json("a.json", **changes)))
    assert [(each.part, each.where) for each in found] == [(part, f"files[a.json].{key}")]


def test_a_file_that_only_one_card_has() -> None:
    (found,) = diff(decoded(), decoded(file_json("a.json", b"x")))
    assert (found.where, found.left) == ("files[a.json]", None)
    assert str(found.right).startswith("blake3:")


def test_numbers_that_python_takes_for_equal_differ() -> None:
    cards = [decoded(serving={"image_options": {"v": value}}) for value in (1, 1.0, True)]
    assert [len(diff(one, other)) for one in cards for other in cards] == [0, 1, 1, 1, 0, 1, 1, 1, 0]


def test_the_values_are_plain_json() -> None:
    (adapter,) = diff(*(decoded(serving={"lora": {"name": "l", "max_gpu_lora_count": count}}) for count in (1, 2)))
    assert (adapter.part, adapter.left, adapter.right) == ("hints", 1, 2)
    (left_out,) = diff(decoded(), decoded(left_out=[{"name": "w.bin", "reason": "weights"}]))
    assert left_out.right[0]["name"] == "w.bin"


def test_content_comes_before_serving_and_hints() -> None:
    one: Card = decoded(file_json("a.json"), origin="/x")
    other = decoded(file_json("a.json", b"[]"), name="n", origin="/y")
    assert [each.part for each in diff(one, other)] == ["content", "serving", "hints"]
