"""The envelope of a record: what is read, and what is refused with which code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from placecard.card import Card, CheckedFile, digest_of
from placecard.discovery import MAX_RECORD_BYTES, Record, decode_record, encode_record
from placecard.errors import CardDefectsError, CardError, Code, DiscoveryError, PlacecardError

CARD = Card(name="org/m", files=(CheckedFile(name="config.json", digest=digest_of(b"{}"), size=2, role="model_info"),))
RECORD = Record(instance="0123456789abcdef" * 2, card=CARD, address="http://10.0.0.1:8080")


def body(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(encode_record(RECORD))
    return raw | changes


def code_of(raw: object) -> Code:
    with pytest.raises(PlacecardError) as caught:
        decode_record(json.dumps(raw).encode())
    return caught.value.code


def test_a_record_comes_back_as_it_went() -> None:
    for record in (RECORD, Record(RECORD.instance, CARD), Record(RECORD.instance, CARD, None, complete=False)):
        assert decode_record(encode_record(record)) == record


def test_the_wire_form_is_the_documented_one() -> None:
    raw = json.loads(encode_record(RECORD))
    card = {
        "schema": 1,
        "name": "org/m",
        "files": [{"name": "config.json", "digest": digest_of(b"{}"), "size": 2, "role": "model_info"}],
        "serving": {},
    }
    assert raw == {
        "schema": 1,
        "instance": "0123456789abcdef0123456789abcdef",
        "address": "http://10.0.0.1:8080",
        "complete": True,
        "card": card,
    }


def test_keys_of_a_newer_release_are_passed_over() -> None:
    assert decode_record(json.dumps(body(later={"a": [1]})).encode()) == RECORD


@pytest.mark.parametrize(
    "address", ["https://w", "http://w:1", "http://[fd00::1]:80", "http://10.0.0.1", "http://a_b.c-d:65535"]
)
def test_an_address_is_a_base_url(address: str) -> None:
    assert decode_record(json.dumps(body(address=address)).encode()).address == address


@pytest.mark.parametrize(
    "address",
    [
        "", "w:1", "http://", "http://w:1/", "http://w:1/x", "http://u@w", "ftp://w", "http://w:0", "http://w:65536", "file:///x",
        "hf://org/m", "http://w?x", "http://w#x", "http://w\n", "http://ü", 1, True, {}, ["http://w"], "http://1.2.3",
    ],
)  # fmt: skip
def test_another_address_is_refused(address: object) -> None:
    assert code_of(body(address=address)) == Code.RECORD_MALFORMED


@pytest.mark.parametrize("key", ["instance", "address", "complete", "card", "schema"])
def test_row75_a_key_that_is_absent_is_told(key: str) -> None:
    raw = body()
    del raw[key]
    with pytest.raises(DiscoveryError, match=f"{key}.*absent") as caught:
        decode_record(json.dumps(raw).encode())
    assert caught.value.code == Code.RECORD_MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"instance": "x"}, {"instance": "A" * 32}, {"instance": 1}, {"instance": None}, {"instance": "0" * 31 + "\n"},
        {"complete": 1}, {"complete": "true"}, {"complete": None}, {"card": None}, {"card": "x"}, {"card": []},
        {"schema": 0}, {"schema": -1}, {"schema": "1"}, {"schema": True}, {"schema": 1.0}, {"schema": None},
    ],
)  # fmt: skip
def test_row75_a_value_of_the_wrong_kind_is_refused(change: dict[str, Any]) -> None:
    assert code_of(body(**change)) == Code.RECORD_MALFORMED


def test_a_newer_schema_says_to_upgrade() -> None:
    assert code_of(body(schema=2)) == Code.CARD_VERSION_UNSUPPORTED


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.CARD_MALFORMED),
        (b"null", Code.CARD_MALFORMED),
        (b"[1]", Code.CARD_MALFORMED),
        (b"\xff\xfe{}", Code.CARD_MALFORMED),
        (b"\x00" * 64, Code.CARD_MALFORMED),
        (b'{"schema":1,"schema":1}', Code.CARD_DUPLICATE_KEY),
        (b'{"schema":NaN}', Code.CARD_BAD_NUMBER),
        (b'{"a":' * 40 + b"1" + b"}" * 40, Code.CARD_TOO_DEEP),
        (b'{"a":"\\ud800"}', Code.CARD_BAD_STRING),
        (b" " * (MAX_RECORD_BYTES + 1), Code.CARD_TOO_LARGE),
    ],
)
def test_row75_bytes_that_are_no_strict_json_are_refused(data: bytes, code: Code) -> None:
    with pytest.raises(CardError) as caught:
        decode_record(data)
    assert caught.value.code == code


def test_all_defects_of_the_card_inside_are_told() -> None:
    card = json.loads(encode_record(RECORD))["card"]
    card["files"][0]["digest"] = "blake3:x"
    card["files"].append({"name": "../x", "digest": digest_of(b"{}")})
    with pytest.raises(CardDefectsError) as caught:
        decode_record(json.dumps(body(card=card)).encode())
    assert {defect.code for defect in caught.value.defects} == {Code.DIGEST_SYNTAX, Code.NAME_UNSAFE}


def test_every_truncation_of_a_record_is_refused() -> None:
    whole = encode_record(RECORD)
    for length in range(len(whole)):
        with pytest.raises(CardError):
            decode_record(whole[:length])


def test_what_no_reader_would_take_is_not_written() -> None:
    large = Card(name="m", files=CARD.files, unknown={"x": "y" * MAX_RECORD_BYTES})
    with pytest.raises(CardError) as caught:
        encode_record(Record(RECORD.instance, large))
    assert caught.value.code == Code.CARD_TOO_LARGE
    surrogate = Card(name="m", files=CARD.files, unknown={"x": "\ud800"})
    with pytest.raises(DiscoveryError):
        encode_record(Record(RECORD.instance, surrogate))
    with pytest.raises(DiscoveryError):
        encode_record(Record("x", CARD))
    with pytest.raises(DiscoveryError):
        encode_record(Record(RECORD.instance, CARD, "nowhere"))
