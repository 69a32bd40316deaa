"""The rules of a card: rows 8-10, 13, 14, 18, 19 and 21 of the bad-input table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from placecard.card import MAX_FILES, Card, CheckedFile, Lora, Role, Serving, digest_of, serving_digest
from placecard.errors import Code
from tests.unit.card.cards import card_json, checked, codes, decoded, file_json, refusals

EMPTY = digest_of(b"")


@pytest.mark.parametrize(
    "files",
    [[], [file_json("tokenizer.json")], [file_json("sub/config.json", role="extra")], [file_json("Config.json")]],
)
def test_row08_no_configuration(files: list[dict[str, Any]]) -> None:
    assert codes(card_json(files=files)) == [Code.CARD_INCOMPLETE]


def test_row08_no_files_at_all() -> None:
    assert codes({"schema": 1, "name": "m"}) == [Code.CARD_INCOMPLETE]


def test_row08_a_tokenizer_may_be_missing_and_mistral_has_its_own_configuration() -> None:
    assert decoded().slot(Role.TOKENIZER) is None
    assert decoded(files=[file_json("params.json", role="extra")]).slot(Role.MODEL_INFO) is None


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("tokenizer.json", "model_info"),
        ("config.json", "tokenizer"),
        ("tokenizer_config.json", "tokenizer"),
        ("tokenizer.json", "tokenizer_config"),
        ("model.safetensors", "tokenizer"),
        ("chat_template.txt", "chat_template"),
        ("generation_config.yaml", "generation_config"),
        ("sub/tokenizer.json", "tokenizer"),
        ("sub/qwen.tiktoken", "tokenizer"),
        ("Tokenizer.json", "tokenizer"),
    ],
)
def test_row09_a_slot_with_the_file_of_another(name: str, role: str) -> None:
    files = [file_json("config.json"), file_json(name, b"other", role=role)]
    assert Code.SLOT_TYPE_MISMATCH in codes(card_json(files=files))


@pytest.mark.parametrize("name", ["tokenizer.json", "tiktoken.model", "qwen.tiktoken", "tokenizer.model"])
def test_each_known_tokenizer_fills_the_slot(name: str) -> None:
    card = decoded(file_json(name, role="tokenizer"))
    assert card.slot(Role.TOKENIZER) == card.file(name)


def test_an_operators_own_template_fills_the_slot() -> None:
    assert decoded(file_json("tool_use.jinja", role="chat_template")).slot(Role.CHAT_TEMPLATE) is not None


def test_row10_the_same_file_as_slot_and_as_extra_stands_once_in_its_slot() -> None:
    extra = file_json("tokenizer.json", role="extra")
    for files in ([file_json("tokenizer.json"), extra], [extra, file_json("tokenizer.json")]):
        card = decoded(*files)
        assert [(file.name, file.role) for file in card.files[1:]] == [("tokenizer.json", "tokenizer")]


@pytest.mark.parametrize(
    "again",
    [file_json("a.json", b"y"), file_json("a.json", b"x", size=7), file_json("a.json", b"x", size=None)],
)
def test_row10_one_name_with_two_contents(again: dict[str, Any]) -> None:
    assert codes(card_json(file_json("a.json", b"x"), again)) == [Code.CARD_NAME_CONFLICT]


def test_row10_one_name_in_two_slots_and_two_names_in_one() -> None:
    twice = [file_json("tokenizer.json"), file_json("tokenizer.json", role="tokenizer_config")]
    assert codes(card_json(*twice)) == [Code.SLOT_TYPE_MISMATCH]  # no name fits two slots
    both = [file_json("tokenizer.json"), file_json("tokenizer.model", role="tokenizer")]
    assert codes(card_json(*both)) == [Code.CARD_NAME_CONFLICT]


def test_row10_a_constructed_card_is_held_to_the_same_rule() -> None:
    twice = (checked("config.json", b"{}"), checked("a.json", b"x"), checked("a.json", b"x"))
    assert Code.CARD_NAME_CONFLICT in refusals(lambda: Card(name="m", files=twice))


@pytest.mark.parametrize("key", ["kv_block_size", "context_length"])
@pytest.mark.parametrize("value", [0, -1, 2**31, 2**63, 1.5, 16.0, True])
def test_row13_a_length_outside_its_range(key: str, value: object) -> None:
    assert codes(card_json(serving={key: value})) == [Code.CARD_RANGE]


def test_row13_another_block_size_is_another_cohort_and_hides_nothing() -> None:
    small, large = (decoded(serving={"kv_block_size": size}) for size in (16, 32))
    assert serving_digest(small) != serving_digest(large)
    assert small.files == large.files


@pytest.mark.parametrize("count", [-1, 2**31, 1.0, True])
def test_an_adapter_count_outside_its_range(count: object) -> None:
    assert codes(card_json(serving={"lora": {"name": "l", "max_gpu_lora_count": count}})) == [Code.CARD_RANGE]


def test_row14_an_absent_worker_type_is_a_state_of_its_own() -> None:
    absent, given = decoded(), decoded(serving={"worker_type": "prefill"})
    assert absent.serving.worker_type is None
    assert serving_digest(absent) != serving_digest(given)
    assert codes(card_json(serving={"worker_type": ""})) == [Code.CARD_BAD_STRING]
    assert decoded(serving={"needs": [["decode"], ["decode"]]}).serving.unknown == {"needs": [["decode"], ["decode"]]}


@pytest.mark.parametrize("size", [0, 1, None])
def test_row18_the_empty_file_fills_no_slot(size: int | None) -> None:
    empty = file_json("tokenizer.json", b"", size=size)
    assert codes(card_json(empty)) == [Code.SLOT_EMPTY]


def test_row18_an_empty_extra_file_is_a_file() -> None:
    file = decoded(file_json("added_tokens.txt", b"")).file("added_tokens.txt")
    assert file is not None
    assert (file.size, file.digest) == (0, EMPTY)


@pytest.mark.parametrize(
    ("size", "code"),
    [(-1, Code.CARD_RANGE), (2**63, Code.CARD_RANGE), (2**64 - 1, Code.CARD_RANGE), (2**64, Code.CARD_BAD_NUMBER)],
)
def test_row19_a_size_outside_its_range(size: int, code: Code) -> None:
    assert codes(card_json(file_json("a.json", size=size))) == [code]


@pytest.mark.parametrize("size", [None, 0, 1, 2**63 - 1])
def test_row19_a_size_may_be_absent_and_as_large_as_files_are(size: int | None) -> None:
    file = decoded(file_json("a.json", b"x", size=size)).file("a.json")
    assert file is not None
    assert file.size == size


def test_row21_one_file_too_many() -> None:
    many = [file_json(f"{number}.json", b"x") for number in range(MAX_FILES)]
    assert codes(card_json(*many)) == [Code.CARD_TOO_LARGE]
    assert len(decoded(*many[1:]).files) == MAX_FILES


def test_row21_too_many_sources_of_one_file() -> None:
    sources = [f"http://10.0.0.1:{port}/x" for port in range(1, 66)]
    assert codes(card_json(file_json("a.json", sources=sources))) == [Code.CARD_TOO_LARGE]


def test_a_card_of_another_schema_cannot_be_made() -> None:
    assert refusals(lambda: Card(name="m", schema=2, files=(checked("config.json"),))) == [
        Code.CARD_VERSION_UNSUPPORTED
    ]


def test_a_part_is_checked_where_it_is_made() -> None:
    assert refusals(lambda: CheckedFile(name="..", digest="x")) == [Code.NAME_UNSAFE, Code.DIGEST_SYNTAX]
    assert refusals(lambda: Serving(kv_block_size=0, aliases=("",))) == [Code.CARD_BAD_STRING, Code.CARD_RANGE]
    assert refusals(lambda: Lora(name="")) == [Code.CARD_BAD_STRING]
    assert refusals(lambda: msgspec.structs.replace(checked("a.json"), name="a.json:b")) == [Code.NAME_RESERVED]


def test_a_card_is_frozen() -> None:
    card = decoded()
    with pytest.raises(AttributeError):
        card.name = "other"  # type: ignore[misc]


def test_slug_and_look_ups() -> None:
    card = decoded(file_json("tokenizer.json"))
    assert card.slug == "acme_river"
    assert card.file("nothing") is None
    assert [card.slot(role) is not None for role in (Role.MODEL_INFO, Role.TOKENIZER, Role.CHAT_TEMPLATE)] == [
        True, True, False,
    ]  # fmt: skip
