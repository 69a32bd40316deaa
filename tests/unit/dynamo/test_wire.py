"""Every wire form of a Dynamo card reads as a card of ours; what is not one is refused with all its defects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.card import (
    Card,
    Role,
    content_digest,
    decode_card,
    digest_of,
    encode_card,
    serving_digest,
)
from placecard.dynamo import DynamoInfo, card_from_dynamo, mdcsum
from placecard.errors import CardDefectsError, CardError, Code
from tests.unit.dynamo.cards import HOST, checked, dynamo_card, golden, read, record, refusals, refused


@pytest.mark.parametrize("form", golden("form-*.json"))
def test_every_form_reads_as_its_source_says(form: dict[str, Any]) -> None:
    expect = form["expect"]
    card, info = card_from_dynamo(json.dumps(form["record"]).encode())
    assert sorted(file.name for file in card.files) == expect["names"]
    assert (model_info := card.slot(Role.MODEL_INFO)) is not None
    assert model_info.sources == (expect["config_source"],)
    assert card.serving.context_length == expect["context_length"]
    assert card.serving.worker_type == expect["worker_type"]
    assert (info.source_path, info.lists_extra_files) == (expect["source_path"], expect["complete"])
    assert card.origin == expect["origin"]
    assert list(info.custom_templates) == expect.get("custom", [])
    assert len(info.notes) == expect.get("notes", 0), info.notes


@pytest.mark.parametrize("recorded", golden("stock-*.json"))
def test_what_the_real_worker_wrote_reads_without_a_note(recorded: dict[str, Any]) -> None:
    card, info = card_from_dynamo(recorded)
    body = recorded["card_json"]
    assert (card.name, info.slug, info.notes) == (body["display_name"], body["slug"], ())
    assert (info.namespace, info.component, info.endpoint) == (recorded["namespace"], "backend", "generate")
    assert (info.instance_id, info.model_suffix) == (recorded["instance_id"], recorded.get("model_suffix"))
    assert info.mdcsum == mdcsum(body)
    assert info.raw == body
    assert all(len(file.sources) == 1 and file.size for file in card.files)


def test_bytes_and_mapping_and_record_give_the_same_card() -> None:
    body = dynamo_card(checked(f"{HOST}/vocab.json"))
    card, info = card_from_dynamo(body)
    assert card_from_dynamo(json.dumps(body).encode()) == (card, info)
    assert card_from_dynamo(record(body))[0].files == card.files


def test_parsers_aliases_and_adapter_are_taken_over() -> None:
    card, _ = read(
        aliases=["a", "b", "a"],
        lora={"name": "tuned", "max_gpu_lora_count": 4},
        runtime_config={"tool_call_parser": "hermes", "reasoning_parser": "qwen3"},
    )
    assert card.serving.aliases == ("a", "b")
    assert (card.serving.tool_parser, card.serving.reasoning_parser) == ("hermes", "qwen3")
    assert card.serving.lora is not None
    assert (card.serving.lora.name, card.serving.lora.max_gpu_lora_count) == ("tuned", 4)


@pytest.mark.parametrize(
    ("runtime", "architecture", "legacy", "expected"),
    [(1, 2, 3, 1), (None, 2, 3, 2), (None, None, 3, 3), (0, 2, 3, 2), (0, 0, 0, None), (None, None, None, None)],
)
def test_context_length_is_of_the_runtime_then_the_architecture_then_the_old_key(
    runtime: int | None, architecture: int | None, legacy: int | None, expected: int | None
) -> None:
    card, _ = read(
        runtime_config={"context_length": runtime}, architectural_max_context_length=architecture, context_length=legacy
    )
    assert card.serving.context_length == expected


def test_a_length_that_means_no_limit_is_none_and_noted() -> None:
    card, info = read(context_length=2**32 - 1)
    assert card.serving.context_length is None
    assert "no limit" in info.notes[0]


def test_what_has_no_place_on_our_card_is_kept() -> None:
    card, info = read(needs=[["prefill"]], future={"a": 1}, tokenizer={"of_tomorrow": {"x": 1}})
    kept = card.unknown["dynamo"]["kept"]
    assert (kept["needs"], kept["future"], kept["tokenizer"]) == ([["prefill"]], {"a": 1}, {"of_tomorrow": {"x": 1}})
    assert card.slot(Role.TOKENIZER) is None
    assert info.mdcsum is None or len(info.mdcsum) == 64


def test_what_is_kept_never_changes_the_identity_of_our_card() -> None:
    plain, other = read()[0], read(needs=[["prefill"]], media_fetcher={"allow_direct_ip": True}, future=[1])[0]
    assert plain.unknown != other.unknown
    assert content_digest(plain) == content_digest(other)
    assert serving_digest(plain) == serving_digest(other)


def test_our_card_of_a_dynamo_card_survives_our_own_registry() -> None:
    card, _ = read(future={"a": [1]}, chat_template_file={"hf_chat_template": checked("/m/chat_template.jinja")})
    assert decode_card(encode_card(card)) == card


def test_a_custom_template_keeps_its_name_and_is_marked() -> None:
    file = checked("/etc/mine.jinja")
    card, info = read(chat_template_file={"hf_chat_template": {"is_custom": True, "file": file}})
    assert (template := card.slot(Role.CHAT_TEMPLATE)) is not None
    assert (template.name, template.sources, template.unknown) == (
        "mine.jinja",
        ("file:///etc/mine.jinja",),
        {"is_custom": True},
    )
    assert info.custom_templates == ("mine.jinja",)


def test_a_custom_template_of_another_suffix_is_an_extra_file_and_noted() -> None:
    file = checked("/etc/mine.txt")
    card, info = read(chat_template_file={"hf_chat_template": {"is_custom": True, "file": file}})
    assert card.slot(Role.CHAT_TEMPLATE) is None
    assert (extra := card.file("mine.txt")) is not None
    assert extra.unknown == {"is_custom": True}
    assert "kept as an extra file" in info.notes[0]


def test_the_same_file_again_is_one_file() -> None:
    card, _ = read(checked(f"{HOST}/vocab.json"), checked(f"{HOST}/vocab.json"), checked(f"{HOST}/tokenizer.json"))
    assert [file.name for file in card.files] == ["config.json", "tokenizer.json", "vocab.json"]
    assert (tokenizer := card.file("tokenizer.json")) is not None
    assert tokenizer.role == Role.TOKENIZER


@pytest.mark.parametrize("kind", ["gguf", "hf_config_yaml"])
def test_a_card_without_a_model_info_that_we_know_is_incomplete(kind: str) -> None:
    assert refused(model_info={kind: checked("/m/config.json")}) == [Code.CARD_INCOMPLETE]
    assert refused(model_info=None) == [Code.CARD_INCOMPLETE]


def test_an_extra_file_cannot_take_the_place_of_a_slot() -> None:
    assert refused(checked(f"{HOST}/config.json", b"LICENSE")) == [Code.CARD_NAME_CONFLICT]


def test_two_slots_cannot_hold_one_file() -> None:
    codes = refused(gen_config={"hf_generation_config_json": checked(f"{HOST}/config.json", b"{}")})
    assert codes == [Code.SLOT_TYPE_MISMATCH]


@pytest.mark.parametrize(
    "checksum",
    [
        "",
        "placeholder",
        "blake3:",
        "blake3:" + "0" * 63,
        "blake3:" + "A" * 64,
        "sha256:" + "0" * 64,
        "blake3:../../../../etc/passwd",
        "blake3:blake3:" + "0" * 64,
        "0" * 64,
        "blake3:" + "0" * 64 + "\n",
    ],
)
def test_a_placeholder_checksum_is_refused(checksum: str) -> None:
    assert refused(checked(f"{HOST}/vocab.json", checksum=checksum)) == [Code.DIGEST_SYNTAX]
    assert refused(model_info={"hf_config_json": checked("/m/config.json", checksum=checksum)}) == [Code.DIGEST_SYNTAX]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"display_name": None}, Code.CARD_SCHEMA),
        ({"display_name": 7}, Code.CARD_SCHEMA),
        ({"display_name": ""}, Code.CARD_BAD_STRING),
        ({"display_name": "a\u202eb"}, Code.CARD_BAD_STRING),
        ({"slug": "../../../evil"}, Code.CARD_BAD_STRING),
        ({"slug": "River"}, Code.CARD_BAD_STRING),
        ({"source_path": ["a"]}, Code.CARD_SCHEMA),
        ({"model_info": []}, Code.CARD_SCHEMA),
        ({"model_info": {}}, Code.CARD_SCHEMA),
        ({"model_info": {"hf_config_json": None}}, Code.CARD_SCHEMA),
        ({"model_info": {"hf_config_json": {"path": "/m/config.json"}}}, Code.CARD_SCHEMA),
        ({"model_info": {"hf_config_json": {"path": 1, "checksum": "x"}}}, Code.CARD_SCHEMA),
        ({"tokenizer": {"hf_tokenizer_json": checked("/m/a"), "tik_token_model": checked("/m/b")}}, Code.CARD_SCHEMA),
        ({"tokenizer": {"hf_tokenizer_json": checked("/m/vocab.txt")}}, Code.SLOT_TYPE_MISMATCH),
        ({"tokenizer": {"hf_tokenizer_json": checked("/m/tokenizer.json", b"")}}, Code.SLOT_EMPTY),
        ({"tokenizer": {"hf_tokenizer_json": checked("/m/tokenizer.json", size=True)}}, Code.CARD_BAD_NUMBER),
        ({"tokenizer": {"hf_tokenizer_json": checked("/m/tokenizer.json", size=1.5)}}, Code.CARD_BAD_NUMBER),
        ({"tokenizer": {"hf_tokenizer_json": checked("/m/tokenizer.json", size=-1)}}, Code.CARD_RANGE),
        ({"chat_template_file": {"hf_chat_template": {"is_custom": "no", "file": {}}}}, Code.CARD_SCHEMA),
        ({"extra_files": {}}, Code.CARD_SCHEMA),
        ({"extra_files": ["vocab.json"]}, Code.CARD_SCHEMA),
        ({"extra_files": [{}] * 5000}, Code.CARD_TOO_LARGE),
        ({"runtime_config": [1]}, Code.CARD_SCHEMA),
        ({"runtime_config": {"context_length": "4096"}}, Code.CARD_RANGE),
        ({"runtime_config": {"tool_call_parser": 1}}, Code.CARD_SCHEMA),
        ({"context_length": -1}, Code.CARD_RANGE),
        ({"context_length": 2**32}, Code.CARD_RANGE),
        ({"kv_cache_block_size": 1.5}, Code.CARD_RANGE),
        ({"kv_cache_block_size": True}, Code.CARD_RANGE),
        ({"worker_type": 4}, Code.CARD_SCHEMA),
        ({"model_type": ["Chat"]}, Code.CARD_SCHEMA),
        ({"aliases": "river"}, Code.CARD_SCHEMA),
        ({"aliases": [1]}, Code.CARD_SCHEMA),
        ({"aliases": ["\x00"]}, Code.CARD_BAD_STRING),
        ({"lora": "tuned"}, Code.CARD_SCHEMA),
        ({"lora": {"name": "a", "max_gpu_lora_count": "4"}}, Code.CARD_RANGE),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_malformed_card_is_refused(changes: dict[str, Any], code: Code) -> None:
    assert refused(**changes) == [code]


def test_all_defects_are_reported_at_once() -> None:
    codes = refused(
        checked(f"{HOST}/a.json", checksum="x"),
        checked(f"{HOST}/..%2Fb.json"),
        checked(f"{HOST}/con"),
        slug="No!",
        context_length=-5,
        worker_type=[],
    )
    assert codes == [
        Code.DIGEST_SYNTAX,
        Code.NAME_UNSAFE,
        Code.NAME_RESERVED,
        Code.CARD_RANGE,
        Code.CARD_SCHEMA,
        Code.CARD_BAD_STRING,
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.CARD_MALFORMED),
        (b"[]", Code.CARD_MALFORMED),
        (b"\xff", Code.CARD_MALFORMED),
        (b'{"display_name": "a", "display_name": "b"}', Code.CARD_DUPLICATE_KEY),
        (b'{"a": NaN}', Code.CARD_BAD_NUMBER),
        (b'{"a":' * 40 + b"1" + b"}" * 40, Code.CARD_TOO_DEEP),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', Code.CARD_TOO_LARGE),
        (b'{"display_name": "\\ud800"}', Code.CARD_BAD_STRING),
    ],
)
def test_text_is_read_strictly(data: bytes, code: Code) -> None:
    assert refusals(lambda: card_from_dynamo(data)) == [code]


@pytest.mark.parametrize(
    "value",
    [{"a": object()}, {"a": float("nan")}, {1: {2: b""}}, {"a": {"b": {3}}}],
    ids=["object", "nan", "bytes", "set"],
)
def test_a_mapping_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(CardError) as caught:
        card_from_dynamo(value)
    assert caught.value.code in (Code.CARD_MALFORMED, Code.CARD_BAD_NUMBER)


@pytest.mark.parametrize(
    "changes", [{"card_json": []}, {"type": "Endpoint"}, {"instance_id": -1}, {"instance_id": "7"}, {"namespace": 1}]
)
def test_an_envelope_that_is_no_model_record_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CardError):
        card_from_dynamo(record(**changes))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = sorted([*dynamo_card(), "prompt_formatter", "chat_template_file", "gen_config", "extra_files", "runtime_config"])


def reads_or_refuses(data: Any) -> tuple[Card, DynamoInfo] | None:
    try:
        return card_from_dynamo(data)
    except CardError:
        return None


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(KEYS), JSON, max_size=6))
def test_any_json_object_is_a_card_or_a_card_error(data: dict[str, Any]) -> None:
    reads_or_refuses(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_card_or_a_card_error(data: bytes) -> None:
    reads_or_refuses(data)


@given(key=st.sampled_from(KEYS), value=JSON)
def test_a_card_with_any_value_anywhere_is_a_card_or_a_card_error(key: str, value: Any) -> None:
    found = reads_or_refuses(dynamo_card(**{key: value}))
    if found is not None:
        assert found[0].file("config.json") is not None


@given(path=st.text(max_size=80) | st.from_regex(r"(https?|hf|file|s3)://[a-z/%.@#?0-9A-F]{0,60}", fullmatch=True))
def test_any_path_gives_a_safe_name_or_a_card_error(path: str) -> None:
    found = reads_or_refuses(dynamo_card({"path": path, "checksum": digest_of(b""), "size": 0}))
    if found is not None:
        for file in found[0].files:
            assert ".." not in file.name.split("/")
            assert not file.name.startswith("/")


@given(st.lists(st.sampled_from(["checksum", "size", "path", None]), min_size=1, max_size=4))
def test_a_defect_never_hides_behind_another(broken: list[str | None]) -> None:
    files = [checked(f"{HOST}/f{index}.json", checksum="bad") for index in range(len(broken))]
    for key, file in zip(broken, files, strict=True):
        file |= {} if key is None else {key: [1.5]}
    with pytest.raises(CardDefectsError) as caught:
        read(*files)
    assert len(caught.value.defects) == len(broken)
