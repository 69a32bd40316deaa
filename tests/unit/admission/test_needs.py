"""What consumers need, told without opening anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.admission import Consumer, Unmet, needs, unmet

VL = {"config.json": {"model_type": "qwen2_vl", "vision_config": {}, "image_token_id": 5}}
MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def missing(
    configs: dict[str, Any], names: set[str], consumers: Mapping[str, tuple[str, ...]] | None = None
) -> set[str]:
    return {f"{lack.consumer}: {lack.missing}" for lack in unmet(needs(configs, names, consumers or {}), names)}


@pytest.mark.parametrize(
    "config",
    [
        {"vision_config": {"depth": 2}},
        {"image_token_id": 151655},
        {"image_token_index": 32000},
        {"vision_start_token_id": 7},
        {"model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"]},
        {"model_type": "phi_vision", "architectures": ["PhiVisionForConditionalGeneration"]},
    ],
    ids=str,
)
def test_a_vision_model_needs_its_image_processor(config: dict[str, Any]) -> None:
    assert missing({"config.json": config}, {"config.json"}) == {"image_processor: preprocessor_config.json"}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]},
        {"vision_config": None},
        {"image_token_id": "5"},
        {"architectures": "LlavaForConditionalGeneration", "model_type": "llava"},
        {"model_type": ["llava"]},
    ],
    ids=str,
)
def test_a_text_model_does_not(config: dict[str, Any]) -> None:
    assert missing({"config.json": config}, {"config.json"}) == set()


def test_either_file_of_an_image_processor_will_do() -> None:
    assert missing(VL, {"config.json", "preprocessor_config.json"}) == set()
    assert missing(VL, {"config.json", "processor_config.json"}) == set()


def test_a_processor_file_without_the_part_will_not_do() -> None:
    names = {"config.json", "processor_config.json"}
    assert missing(VL | {"processor_config.json": {"image_processor": {"size": 1}}}, names) == set()
    assert missing(VL | {"processor_config.json": {"processor_class": "P"}}, names) == {
        "image_processor: preprocessor_config.json"
    }


def test_each_module_with_a_configuration_is_needed() -> None:
    assert missing({"modules.json": MODULES}, {"config.json", "modules.json"}) == {"pooling: 1_Pooling/config.json"}
    assert missing({"modules.json": MODULES}, {"config.json", "modules.json", "1_Pooling/config.json"}) == set()


@pytest.mark.parametrize(
    "modules",
    [{}, "x", [1], [{"path": 3, "type": "Pooling"}], [{"path": "../../etc", "type": "a.Pooling"}], [None]],
    ids=str,
)
def test_modules_that_make_no_sense_need_nothing(modules: Any) -> None:
    assert missing({"modules.json": modules}, {"config.json", "modules.json"}) == set()


def test_no_tokenizer_at_all_is_allowed() -> None:
    assert missing({"config.json": {"model_type": "llama"}}, {"config.json"}) == set()


@pytest.mark.parametrize("sign", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_a_tokenizer_that_is_meant_is_needed(sign: str) -> None:
    assert missing({}, {"config.json", sign}) == {"tokenizer: tokenizer.json"}
    for names in ({"tokenizer.json"}, {"qwen.tiktoken"}, {"vocab.json", "merges.txt"}, {"spiece.model"}, {"vocab.txt"}):
        assert missing({}, {"config.json", sign} | names) == set()


def test_a_tokenizer_is_meant_by_the_configuration_or_the_card() -> None:
    assert missing({"config.json": {"tokenizer_class": "T"}}, {"config.json"}) == {"tokenizer: tokenizer.json"}
    card = {"tokenizer.json": ("tokenizer",)}
    assert missing({}, {"config.json"}, card) == {"tokenizer: tokenizer.json"}


def test_the_nearest_alternative_is_named() -> None:
    assert missing({}, {"config.json", "tokenizer_config.json", "merges.txt"}) == {"tokenizer: vocab.json"}


def test_what_the_publishers_consumer_opened_is_needed() -> None:
    card = {"preprocessor_config.json": ("image_processor",), "extra/notes.json": ("pooling", "config")}
    assert missing({}, {"config.json"}, card) == {
        "image_processor: preprocessor_config.json",
        "pooling: extra/notes.json",
        "config: extra/notes.json",
    }
    assert missing({}, {"config.json", *card}, card) == set()


def test_a_directory_without_configuration_lacks_it() -> None:
    assert missing({}, {"tokenizer.json"}) == {"config: config.json"}
    assert missing({}, {"params.json", "tekken.json"}) == set()


def test_a_mend_names_the_file_and_who_has_it() -> None:
    names = {"config.json"}
    hints = {"preprocessor_config.json": "the hub repository acme/x has it"}
    (lack,) = unmet(needs(VL, names, {}), names, hints=hints)
    assert lack == Unmet(
        Consumer.IMAGE_PROCESSOR,
        "preprocessor_config.json",
        "config.json takes images (vision_config)",
        "Put preprocessor_config.json into the worker's model directory and publish again; "
        "the hub repository acme/x has it.",
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_NAMES = st.sampled_from(
    ["config.json", "modules.json", "tokenizer_config.json", "processor_config.json", "vocab.json"]
)


@given(
    configs=st.dictionaries(_NAMES, _JSON), names=st.sets(_NAMES), consumers=st.dictionaries(_NAMES, st.just(("x",)))
)
def test_whatever_the_files_hold_all_needs_can_be_met(
    configs: dict[str, Any], names: set[str], consumers: dict[str, tuple[str, ...]]
) -> None:
    wanted = needs(configs, names, consumers)
    everything = names | {name for need in wanted for files in need.any_of for name in files}
    assert unmet(wanted, everything) == ()
    assert {lack.missing for lack in unmet(wanted, names)} & names == set()
