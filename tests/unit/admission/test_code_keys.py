"""Keys that select code are found wherever they stand; others are left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.admission import CodeFinding, Configs, Danger, code_keys
from placecard.admission.configs import MAX_MEMBERS


def found(name: str, value: Any) -> list[tuple[str, Danger]]:
    return [(finding.where, finding.danger) for finding in code_keys({name: value})]


@pytest.mark.parametrize("key", ["auto_map", "custom_pipelines", "auto_mapping", "_target_", "trust_remote_code"])
def test_row125_a_reference_to_code_is_found_at_any_depth(key: str) -> None:
    value = {"text_config": {"parts": [{}, {key: {"AutoModel": "x.Y"}}]}}
    assert found("config.json", value) == [(f"$.text_config.parts[1].{key}", Danger.REFERENCE)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_attn_implementation_internal", "sdpa"),
        ("_experts_implementation_internal", "evil/x"),
        ("attn_implementation", "evil/kernel"),
        ("_attn_implementation", "flash|evil/kernel@main:f"),
        ("tokenizer_class", "../x"),
        ("tokenizer_class", ["x", None]),
        ("image_processor_type", "/tmp/x"),
        ("model_type", "../../x"),
        ("attn_implementation", {"": "evil/kernel"}),
    ],
)
def test_row125_row126_what_has_run_code_in_spite_of_flags_is_a_bypass(key: str, value: Any) -> None:
    assert found("config.json", {"vision_config": {key: value}}) == [(f"$.vision_config.{key}", Danger.BYPASS)]


@pytest.mark.parametrize(
    "value",
    [
        {"auto_map": None},
        {"auto_map": {}},
        {"trust_remote_code": False},
        {"_attn_implementation_internal": None},
        {"attn_implementation": "flash_attention_2", "_attn_implementation": None},
        {"tokenizer_class": "Qwen2TokenizerFast", "model_type": "xlm-roberta"},
        {"tokenizer_class": None},
        {"auto_maps": 1, "Auto_Map": {"a": 1}},
        [],
        "auto_map",
        None,
    ],
    ids=str,
)
def test_ordinary_values_are_not_found(value: Any) -> None:
    assert found("config.json", value) == []


def test_a_module_outside_sentence_transformers_is_code() -> None:
    modules = [{"type": "sentence_transformers.models.Pooling"}, {"type": "custom.Pooling"}]
    assert found("modules.json", modules) == [("$[1].type", Danger.REFERENCE)]
    assert found("config.json", {"rope_scaling": {"type": "mrope"}}) == []


def test_a_finding_shows_file_place_and_a_short_value() -> None:
    (finding,) = code_keys({"config.json": {"auto_map": "é" * 500}})
    assert finding == CodeFinding("config.json", "$.auto_map", finding.value, Danger.REFERENCE)
    assert len(finding.value) == 120 and finding.value.isascii()


def test_a_key_behind_a_million_others_is_found() -> None:
    value: dict[str, Any] = {"a": [{"b": 1}] * 100_000, "z": {"_attn_implementation_internal": "evil/x"}}
    assert found("config.json", value)[-1] == ("$.z._attn_implementation_internal", Danger.BYPASS)


def test_findings_are_bounded() -> None:
    assert len(code_keys({"config.json": [{"auto_map": 1}] * 1000})) == 64


@given(depth=st.integers(0, 300), key=st.sampled_from(["auto_map", "custom_pipelines"]))
def test_no_depth_hides_a_key(depth: int, key: str) -> None:
    value: Any = {key: "x.Y"}
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    assert len(code_keys({"config.json": value})) == 1


def test_a_long_trail_is_told_in_few_characters() -> None:
    long = "k" * 3_000_000
    many = {f"c{number}": {"auto_map": "x"} for number in range(70)}
    findings = code_keys({"config.json": {long: {"auto_map": "x", **many}}})
    assert len(findings) == 64
    assert all(len(finding.where) <= 200 for finding in findings)
    assert findings[1].where.startswith("$.kkk") and findings[1].where.endswith("....c0.auto_map")
    (deep,) = code_keys({"config.json": nested("level" * 5, 300, {"auto_map": "x"})})
    assert len(deep.where) == 200 and deep.where.startswith("$.level") and deep.where.endswith(".auto_map")


def nested(key: str, depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = {key: value}
    return value


@pytest.mark.parametrize("key", ["auto_map", "attn_implementation", "_target_"])
def test_values_within_values_are_not_written_out_each_time(key: str) -> None:
    class Wide(dict[str, Any]):
        def __repr__(self) -> str:
            raise AssertionError("written out whole")

    value: Any = nested(key, 300, Wide({f"k{number}": "x" for number in range(1000)}))
    assert len(code_keys({"config.json": value})) == 64


def test_row125_what_is_too_large_to_search_is_handed_to_no_consumer() -> None:
    (finding,) = code_keys({"config.json": [0] * (MAX_MEMBERS + 1)})
    assert finding.danger is Danger.BYPASS and "too large to search" in finding.value
    assert code_keys({"config.json": [0] * MAX_MEMBERS}) == ()


def test_row126_a_kernel_key_with_more_parts_than_people_write_is_a_bypass() -> None:
    assert found("config.json", {"attn_implementation": dict.fromkeys(map(str, range(64)), "sdpa")}) == []
    hidden = {"attn_implementation": [0] * 64 + ["evil/kernel"]}
    assert found("config.json", hidden) == [("$.attn_implementation", Danger.BYPASS)]
    inner = {"attn_implementation": {"text_config": {"": "evil/kernel"}}}
    assert found("config.json", inner) == [("$.attn_implementation", Danger.BYPASS)]


def test_a_key_cannot_write_to_a_terminal() -> None:
    (finding,) = code_keys({"config.json": {"\x1b[2J\n": {"auto_map": "x"}}})
    assert finding.where == "$.\\x1b[2J\\n.auto_map"


def test_files_that_were_not_searched_are_told_unless_their_consumer_tells() -> None:
    configs = Configs({}, {"notes.json": "2000000 bytes", "config.json": "not JSON", "config.4.0.json": "not JSON"})
    assert code_keys(configs) == (CodeFinding("notes.json", "$", "2000000 bytes", Danger.UNSEARCHED),)
