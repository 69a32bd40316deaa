"""Reading and writing cards: rows 1-7 of the bad-input table, and what survives the round trip."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from placecard.card import (
    MAX_CARD_BYTES,
    Card,
    CheckedFile,
    LeftOut,
    decode_card,
    encode_card,
    read_json,
    to_json,
)
from placecard.errors import CardDefectsError, CardError, Code
from tests.unit.card.cards import as_bytes, card_json, checked, codes, decoded, file_json, refusals

GOOD = as_bytes(card_json())


@pytest.mark.parametrize(
    "data",
    [b"", b" \n\t", b"\xef\xbb\xbf" + GOOD, GOOD.decode().encode("utf-16"), GOOD.decode().encode("utf-16-le"),
     GOOD.decode().encode("utf-32"), b"\xff" + GOOD, GOOD.replace(b"river", b"ri\xc3er"), GOOD + b"{}", GOOD + b"\0",
     b"[]", b"null", b'"card"', b"1", b"{'name': 1}", b'{"a": 1,}', b"// no\n" + GOOD, b'{"a": "\n"}'],
)  # fmt: skip
def test_row01_not_one_json_object_in_utf8_is_malformed(data: bytes) -> None:
    assert codes(data) == [Code.CARD_MALFORMED]


def test_row01_a_card_cut_at_any_byte_is_malformed() -> None:
    text = json.dumps(card_json(name="große Fluß 🌊"), ensure_ascii=False).encode()
    assert {code for end in range(len(text)) for code in codes(text[:end])} == {Code.CARD_MALFORMED}


@pytest.mark.parametrize(("data", "offset"), [(b'{"\xc3\xa9": x}', 7), (b'{"a": "\xff"}', 7), (b"{} x", 3)])
def test_row01_the_message_names_the_byte(data: bytes, offset: int) -> None:
    with pytest.raises(CardError, match=f"byte {offset}"):
        decode_card(data)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "schema": 1}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": [[{"b": 1, "c": 3, "b": 1}]]}',
        '{"\\u0061": 1, "a": 2}',
        '{"": 1, "": 1}',
    ],
)
def test_row02_a_key_that_stands_twice(text: str) -> None:
    assert codes(text.encode()) == [Code.CARD_DUPLICATE_KEY]


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "-0", "-0.0", "-0e9", "9" * 5000, "-" + "9" * 5000,
     str(2**64), str(-(2**63) - 1), "1" + "0" * 19 + "e99999"],
)  # fmt: skip
def test_row03_a_number_that_is_no_plain_finite_one(number: str) -> None:
    assert codes(b'{"future": ' + number.encode() + b"}") == [Code.CARD_BAD_NUMBER]


@pytest.mark.parametrize("size", [True, False, 2.0, 2.5])
def test_row03_a_size_that_only_looks_like_an_integer(size: object) -> None:
    assert codes(card_json(file_json("a.json", size=size))) == [Code.CARD_BAD_NUMBER]


@pytest.mark.parametrize("schema", [True, 1.0, 0.5])
def test_row03_a_schema_number_that_is_no_integer(schema: object) -> None:
    assert codes(card_json(schema=schema)) == [Code.CARD_BAD_NUMBER]


def test_row03_the_widest_integers_still_pass() -> None:
    assert read_json(f'{{"a": {2**64 - 1}, "b": {-(2**63)}, "c": 1e308}}'.encode())["a"] == 2**64 - 1


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a":['])
@pytest.mark.parametrize("levels", [32, 2_000, 100_000])
def test_row04_nesting_is_refused_before_the_parser_sees_it(opening: bytes, levels: int) -> None:
    deep = (b'{"a":' + opening * levels)[:MAX_CARD_BYTES]
    assert codes(deep) == [Code.CARD_TOO_DEEP]


def test_row04_thirty_two_levels_pass_and_brackets_in_strings_do_not_count() -> None:
    deep = {"a": json.loads("[" * 31 + "]" * 31)}
    assert decoded(future=deep["a"]).unknown == {"future": deep["a"]}
    assert decoded(future='[{"\\' * 1000).unknown == {"future": '[{"\\' * 1000}


def test_row04_closing_brackets_do_not_buy_depth() -> None:
    assert codes(b"]" * 100 + b"[" * 120) == [Code.CARD_MALFORMED]
    assert codes(b'{"a":"]]]]]]","b":' + b"[" * 99) == [Code.CARD_TOO_DEEP]


def test_row05_more_than_a_mebibyte_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", lambda *_args, **_options: pytest.fail("parsed before the size was looked at"))
    assert codes(b"{" + b" " * MAX_CARD_BYTES) == [Code.CARD_TOO_LARGE]


def test_row05_a_million_files() -> None:
    assert codes(b'{"files": [' + b"{}," * 1_000_000 + b"{}]}") == [Code.CARD_TOO_LARGE]
    assert codes(card_json(files=[{}] * 1025)) == [Code.CARD_TOO_LARGE]


def test_row05_a_name_of_a_million_characters() -> None:
    assert codes(card_json(file_json("n" * 1_000_000))) == [Code.NAME_TOO_LONG]
    assert codes(card_json(name="n" * 1_000_000)) == [Code.CARD_BAD_STRING]


def test_row05_a_card_that_nobody_would_read_is_not_written() -> None:
    card = decoded(future="x" * (MAX_CARD_BYTES - 400))
    big = Card(name=card.name, files=card.files, unknown={"future": "x" * MAX_CARD_BYTES})
    assert len(encode_card(card)) <= MAX_CARD_BYTES
    assert refusals(lambda: encode_card(big)) == [Code.CARD_TOO_LARGE]


@pytest.mark.parametrize("bad", ["\x00", "\n", "\x1b[31m", "\x7f", "\u202e", "\u200b", "\u2066", "\u2028", "\x85"])
@pytest.mark.parametrize("key", ["name", "origin"])
def test_row06_what_misleads_a_reader_of_a_name(key: str, bad: str) -> None:
    assert codes(card_json(**{key: f"a{bad}b"})) == [Code.CARD_BAD_STRING]


@pytest.mark.parametrize(
    "serving",
    [
        {"aliases": ["ok", "a\u202eb"]},
        {"lora": {"name": "\x00"}},
        {"worker_type": "\n"},
        {"tool_parser": "\x1b"},
        {"reasoning_parser": ""},
    ],
)
def test_row06_what_misleads_a_reader_of_the_serving_part(serving: dict[str, Any]) -> None:
    assert codes(card_json(serving=serving)) == [Code.CARD_BAD_STRING]


@pytest.mark.parametrize("changes", [{"role": "a\nb"}, {"role": ""}, {"consumers": ["a\u202e"]}, {"role": "r" * 129}])
def test_row06_what_misleads_a_reader_of_a_file(changes: dict[str, Any]) -> None:
    assert codes(card_json(file_json("a.json", **changes))) == [Code.CARD_BAD_STRING]


@pytest.mark.parametrize(
    "text", ['{"name": "\\ud800"}', '{"\\udfff": 1}', '{"a": [{"b": "x\\ud83dx"}]}', '{"a": "\\ude0a\\ud83d"}']
)
def test_row06_a_lone_surrogate_anywhere(text: str) -> None:
    assert codes(text.encode()) == [Code.CARD_BAD_STRING]


def test_row06_a_pair_of_surrogates_is_one_character() -> None:
    assert read_json(b'{"a": "\\ud83d\\ude0a"}') == {"a": "😊"}


def test_row06_a_file_that_stays_out_is_shown_escaped() -> None:
    card = decoded(left_out=[{"name": "a\u202eb\n.bin", "reason": "wei\x1bghts"}])
    assert card.left_out == (LeftOut("a\\u202eb\\n.bin", "wei\\x1bghts"),)
    assert LeftOut("\udcff", "hidden").name == "\\udcff"
    assert LeftOut(card.left_out[0].name, "weights").name == card.left_out[0].name


def test_row07_unknown_keys_come_back_where_they_were() -> None:
    whole = card_json(
        file_json("a.json", future={"x": [1, 2.5, None, True, "ü"]}),
        future={"unknown": {"nested": []}},
        unknown="even this one",
        size=1.5,
        serving={"lora": {"name": "l", "rank": 8}, "future": [0]},
        left_out=[{"name": "w.bin", "reason": "weights", "bytes": 9}],
    )
    assert to_json(decode_card(as_bytes(whole))) == whole
    assert json.loads(encode_card(decode_card(as_bytes(whole)), indent=2)) == whole


def test_row07_an_unknown_role_is_kept_and_not_understood() -> None:
    card = decoded(file_json("voice.json", role="voice_config"))
    file = card.file("voice.json")
    assert file is not None
    assert (file.understood, file.typed) == (False, False)
    assert b'"voice_config"' in encode_card(card)


@pytest.mark.parametrize("schema", [2, 3, 2**63])
def test_row07_a_newer_schema_is_named_before_its_defects(schema: int) -> None:
    assert codes({"schema": schema, "files": "not ours to judge"}) == [Code.CARD_VERSION_UNSUPPORTED]


@pytest.mark.parametrize("schema", [0, -1])
def test_a_schema_that_never_was(schema: int) -> None:
    assert codes(card_json(schema=schema)) == [Code.CARD_RANGE]


@pytest.mark.parametrize("changes", [{"schema": None}, {"schema": "1"}, {"schema": [1]}])
def test_a_schema_of_another_type(changes: dict[str, Any]) -> None:
    assert codes(card_json(**changes)) == [Code.CARD_SCHEMA]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": 1}, "$.name"),
        ({"name": None}, "$.name"),
        ({"files": {}}, "$.files"),
        ({"files": [file_json(), []]}, "$.files[1]"),
        ({"files": [file_json(), file_json("a", sources="file:///a")]}, "$.files[1].sources"),
        ({"files": [file_json(), file_json("a", sources=[1])]}, "$.files[1].sources[0]"),
        ({"files": [file_json(), {"name": "a"}]}, "$.files[1]"),
        ({"files": [file_json(), file_json("a", size="2")]}, "$.files[1].size"),
        ({"files": [file_json(), file_json("a", role=None)]}, "$.files[1].role"),
        ({"serving": []}, "$.serving"),
        ({"serving": None}, "$.serving"),
        ({"serving": {"aliases": "a"}}, "$.serving.aliases"),
        ({"serving": {"kv_block_size": "16"}}, "$.serving.kv_block_size"),
        ({"serving": {"lora": "a"}}, "$.serving.lora"),
        ({"serving": {"lora": {}}}, "$.serving.lora"),
        ({"left_out": [["w.bin", "weights"]]}, "$.left_out[0]"),
        ({"left_out": {"w.bin": "weights"}}, "$.left_out"),
    ],
)
def test_row09_a_value_of_another_type_is_located(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(CardDefectsError) as caught:
        decode_card(as_bytes(card_json(**changes)))
    assert [(defect.code, defect.subject) for defect in caught.value.defects] == [(Code.CARD_SCHEMA, where)]


def test_every_defect_is_reported_at_once() -> None:
    found = codes(
        card_json(
            file_json("../x", sources=["ftp://h/x", "file:///a/../b"]),
            file_json("a.json", digest="md5:0", size=-1),
            "not a file",  # type: ignore[arg-type]
            name="",
            serving={"kv_block_size": 0, "aliases": ["\n"]},
        )
    )
    assert found == [
        Code.NAME_UNSAFE, Code.URI_FORBIDDEN, Code.PATH_ESCAPE, Code.DIGEST_SYNTAX, Code.CARD_RANGE, Code.CARD_SCHEMA,
        Code.CARD_BAD_STRING, Code.CARD_RANGE, Code.CARD_BAD_STRING,
    ]  # fmt: skip


def test_the_message_counts_the_rest() -> None:
    with pytest.raises(CardDefectsError, match="and 1 more defect"):
        decoded(file_json("a.json", digest="x", size=-1))


def test_keys_are_written_sorted_and_empty_ones_left_out() -> None:
    card = Card(name="m", files=(checked("config.json", b"{}"),))
    assert encode_card(card).decode() == (
        '{"files": [{"digest": "blake3:6e46dd10defc9b56c29a6ec56b508c21f54c08192194e4df25bf36f0c9c3c279", '
        '"name": "config.json", "role": "model_info", "size": 2}], "name": "m", "schema": 1, "serving": {}}'
    )  # Source of the digest: `printf '{}' | b3sum`


def test_a_size_of_nothing_is_not_nothing() -> None:
    card = decoded(file_json("empty.txt", b""))
    assert to_json(card)["files"][1]["size"] == 0


def test_reading_does_not_lean_on_the_recursion_limit() -> None:
    limit = sys.getrecursionlimit()
    assert codes(b'{"a":' * 150_000) == [Code.CARD_TOO_DEEP]
    assert sys.getrecursionlimit() == limit


def test_another_bound_may_be_given() -> None:
    assert refusals(lambda: read_json(b'{"a": 1}', max_bytes=7)) == [Code.CARD_TOO_LARGE]


def test_files_stay_in_the_order_they_were_written() -> None:
    names = ["config.json", "b.json", "a/c.json", "A.txt"]
    card = decoded(*(file_json(name, name.encode()) for name in names[1:]))
    assert [file.name for file in card.files] == names
    assert all(isinstance(file, CheckedFile) for file in card.files)


def test_the_bounds_themselves_pass() -> None:
    assert read_json(b'{"a": 1}', max_bytes=8) == {"a": 1}
    assert read_json(b'{"a": 0.0, "b": -1.5, "c": 0, "d": -1}') == {"a": 0.0, "b": -1.5, "c": 0, "d": -1}
    card = decoded(
        file_json("a.json", sources=["http://h/" + "x" * 4087] + ["http://h/x"] * 63, role="r" * 128),
        name="n" * 1024,
        serving={"kv_block_size": 2**31 - 1, "context_length": 1, "lora": {"name": "l", "max_gpu_lora_count": 0}},
    )
    assert len(card.name) == 1024


def test_the_key_that_stands_twice_is_named() -> None:
    with pytest.raises(CardError, match=r"^'twice': "):
        decode_card(b'{"once": 1, "twice": 2, "also": 3, "twice": 2}')


def test_the_first_of_two_equal_extra_files_stands() -> None:
    card = decoded(file_json("a.json", sources=["http://h/1"]), file_json("a.json", sources=["http://h/2"]))
    assert [file.sources for file in card.files[1:]] == [("http://h/1",)]
