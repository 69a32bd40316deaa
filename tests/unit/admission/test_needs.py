"""What consumers need, told without opening anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.admission import Consumer, Unmet, needs, unmet
from placecard.admission.needs import wild_modules

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
        {"model_type": "phi3_v", "img_processor": {"name": "clip_vision_model"}},
        {
            "model_type": "phi4mm",
            "embd_layer": {"image_embd_layer": {"crop_size": 448}, "embedding_cls": "image_audio"},
        },
        {"model_type": "molmo"},
        {"model_type": "multi_modality", "language_config": {}},
        {"model_type": "qwen", "visual": {"heads": 16}},
        {"model_type": "llava_llama", "mm_vision_tower": "openai/clip-vit-large-patch14-336"},
        {"model_type": "qwen2_5_omni"},
        {"model_type": "newer_omni", "thinker_config": {"vision_config": {"depth": 2}}},
        {"model_type": "newer", "a_config": {"b_config": {"c_config": {"image_token_id": 7}}}},
        {"model_type": "ovis", "visual_tokenizer_config": {}},
        {"model_type": "chameleon"},
        {"model_type": "newer", "vq_config": {"embed_dim": 4}},
        {"model_type": "emu3"},
        {"model_type": "udop"},
        {"model_type": "minicpmv"},
        {"model_type": "vision-encoder-decoder", "encoder": {"model_type": "donut-swin"}, "decoder": {}},
        {"model_type": "kimi_k25", "architectures": None},
        {"auto_map": {"AutoConfig": "a.B", "AutoProcessor": "c.D"}},
        {"auto_map": {"AutoImageProcessor": "c.D"}},
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
        {"architectures": "NewerVlmForConditionalGeneration", "model_type": "newer_vlm"},
        {"model_type": ["llava"]},
        {"model_type": "timm_wrapper"},
        {"model_type": "perceiver", "architectures": ["PerceiverForMaskedLM"]},
        {"visual": True, "img_processor": None, "mm_vision_tower": None, "embd_layer": {"embedding_cls": "x"}},
        {"vision_note": "none", "vision_token": True, "image_token_id": True},
        {"text_config": {"model_type": "llama", "rope_config": {}}, "encoder": {"model_type": "bert"}},
        {"auto_map": {"AutoConfig": "a.B", "AutoModelForCausalLM": "a.C"}},
        {"auto_map": "x"},
    ],
    ids=str,
)
def test_a_text_model_does_not(config: dict[str, Any]) -> None:
    assert missing({"config.json": config}, {"config.json"}) == set()


def test_code_named_by_another_file_means_an_image_processor() -> None:
    configs = {"config.json": {}, "tokenizer_config.json": {"auto_map": {"AutoProcessor": "processing.P"}}}
    assert missing(configs, {"config.json", "preprocessor_config.json"}) == set()
    assert missing(configs, {"config.json"}) == {"image_processor: preprocessor_config.json"}


def test_a_model_that_takes_audio_needs_its_feature_extractor() -> None:
    configs: dict[str, Any] = {"config.json": {"thinker_config": {"audio_config": {}}}}
    assert missing(configs, {"config.json"}) == {"processor: preprocessor_config.json"}
    assert missing(configs, {"config.json", "preprocessor_config.json"}) == set()
    names = {"config.json", "processor_config.json"}
    assert missing(configs | {"processor_config.json": {"feature_extractor": {}}}, names) == set()
    assert missing(configs | {"processor_config.json": {"processor_class": "P"}}, names) == {
        "processor: preprocessor_config.json"
    }
    both: dict[str, Any] = {"config.json": {"audio_config": {}, "vision_config": {}}}
    assert missing(both, {"config.json"}) == {"image_processor: preprocessor_config.json"}


@pytest.mark.parametrize(
    "configs",
    [
        {"tokenizer_config.json": {"processor_class": "LlavaProcessor"}},
        {"preprocessor_config.json": {"processor_class": "LlavaNextProcessor"}},
        {"config.json": {"model_type": "llava"}},
        {"config.json": {"model_type": "perception_lm"}, "tokenizer_config.json": {"processor_class": None}},
    ],
    ids=str,
)
def test_a_processor_that_computes_with_its_own_file_needs_it(configs: dict[str, Any]) -> None:
    names = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert missing(configs, names) == {"processor: processor_config.json"}
    assert missing(configs, names | {"processor_config.json"}) == set()


def test_a_processor_that_does_not_needs_none() -> None:
    names = {"config.json", "preprocessor_config.json", "tokenizer.json"}
    assert missing({"preprocessor_config.json": {"processor_class": "Qwen2VLProcessor"}}, names) == set()
    named = {
        "config.json": {"model_type": "llava"},
        "preprocessor_config.json": {"processor_class": "PixtralProcessor"},
    }
    assert missing(named, names) == set()


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
    "sign", ["config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json"]
)
def test_what_stands_beside_modules_means_modules(sign: str) -> None:
    assert missing({}, {"config.json", sign}) == {"pooling: modules.json"}
    assert missing({}, {"config.json", sign, "modules.json"}) == set()
    assert missing({}, {"config.json", "original/config.json", "onnx/config.json"}) == set()


@pytest.mark.parametrize(
    ("path", "wild"),
    [(path, False) for path in ("", "1_Pooling", "1_Pooling/")]
    + [(path, True) for path in ("../../etc", "/etc", "a/../b", "a\\b", "..", ".", "/", 5, None)],
)
def test_a_module_lies_within_the_directory(path: Any, wild: bool) -> None:
    modules = [{"path": "", "type": "a.Transformer"}, {"path": path, "type": "a.Pooling"}]
    assert wild_modules({"modules.json": modules}) == ((ascii(path),) if wild else ())


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


@pytest.mark.parametrize(
    ("configs", "file"),
    [
        ({"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}}, "vocab.txt"),
        ({"tokenizer_config.json": {"tokenizer_class": "T5Tokenizer"}}, "spiece.model"),
        ({"config.json": {"tokenizer_class": "XLMRobertaTokenizer"}}, "sentencepiece.bpe.model"),
        ({"tokenizer_config.json": {}, "config.json": {"model_type": "bert"}}, "vocab.txt"),
        ({"tokenizer_config.json": {"tokenizer_class": "TikTokenTokenizer"}}, "tiktoken.model"),
        ({"tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast"}}, "tokenizer.json"),
        ({"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}}, "tokenizer.json"),
        ({"tokenizer_config.json": {"tokenizer_class": ["BertTokenizer"]}}, "tokenizer.json"),
    ],
    ids=str,
)
def test_the_file_that_the_tokenizer_reads_is_named(configs: dict[str, Any], file: str) -> None:
    names = {"config.json", "tokenizer_config.json"}
    assert missing(configs, names) == {f"tokenizer: {file}"}
    assert missing(configs, names | {"tokenizer.json"}) == set()


def test_the_file_that_the_publishers_tokenizer_opened_is_named() -> None:
    card = {"vocab.txt": ("tokenizer",), "tokenizer_config.json": ("tokenizer",)}
    configs = {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}}
    assert missing(configs, {"config.json", "tokenizer_config.json"}, card) == {"tokenizer: vocab.txt"}


def test_a_tokenizer_of_bytes_needs_no_file() -> None:
    configs = {"tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer"}}
    assert missing(configs, {"config.json", "tokenizer_config.json"}) == set()


def test_a_model_in_mistrals_own_form_needs_its_tokenizer() -> None:
    params = {"params.json": {"dim": 4096, "n_layers": 32}}
    for names in ({"params.json"}, {"params.json", "config.json"}):
        assert missing(params, names) == {"tokenizer: tekken.json"}
        for file in ("tekken.json", "tokenizer.model", "tokenizer.model.v7", "tokenizer.json"):
            assert missing(params, names | {file}) == set()
    assert missing({}, {"params.json"}) == {"tokenizer: tekken.json"}
    assert missing({"params.json": {"lr": 1}}, {"params.json", "config.json"}) == set()


def test_what_is_no_model_directory_is_named() -> None:
    configs = {"adapter_config.json": {"base_model_name_or_path": "acme/base"}}
    names = {"adapter_config.json", "adapter_model.safetensors"}
    (adapter,) = unmet(needs(configs, names, {}), names)
    assert adapter.missing == "config.json" and "an adapter of acme/base" in adapter.why
    assert adapter.mend == "Publish the base model of acme/base; the engine loads the adapter."
    (gguf,) = unmet(needs({}, {"model-Q4.GGUF"}, {}), {"model-Q4.GGUF"})
    assert gguf.missing == "config.json" and "GGUF" in gguf.why and "config.json" in gguf.mend
    assert missing(configs, names | {"config.json"}) == set()


def test_what_a_processor_opened_is_told_of_its_parts() -> None:
    card = {"tokenizer.json": ("tokenizer", "processor"), "processor_config.json": ("processor",)}
    assert missing({}, {"config.json"}, card) == {"tokenizer: tokenizer.json", "processor: processor_config.json"}


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


_KEYS = st.sampled_from(
    [
        "model_type",
        "vision_config",
        "audio_config",
        "text_config",
        "visual",
        "auto_map",
        "processor_class",
        "path",
        "type",
        "architectures",
        "tokenizer_class",
        "embd_layer",
        "dim",
        "n_layers",
        "base_model_name_or_path",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12) | _KEYS, inner, max_size=4),
    max_leaves=12,
)
_NAMES = st.sampled_from(
    [
        "config.json",
        "modules.json",
        "tokenizer_config.json",
        "processor_config.json",
        "vocab.json",
        "params.json",
        "adapter_config.json",
        "1_Pooling/config.json",
        "preprocessor_config.json",
    ]
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
