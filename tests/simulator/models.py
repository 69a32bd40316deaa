"""Small model directories: a text model and a Qwen2-VL style one, as an engine would find them on disk.

Both hold a real byte-level BPE and every file that ships with a model of that kind, weights included. They are made
without the network in well under a second, and are the same bytes each time::

    python -m tests.simulator.models DIRECTORY     # writes DIRECTORY/tiny-text and DIRECTORY/tiny-vl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL_TOKENS: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
VOCAB_TOKENS: Final = 512  # at most: 256 bytes, merges, special tokens
CONTEXT_TOKENS: Final = 32768

TEXT_FILES: Final = frozenset(
    {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"}
    | {"vocab.json", "merges.txt", "LICENSE", "README.md", "model.safetensors.index.json"}
)
"""Names that :func:`write_text_model` writes, without weights and hidden files."""

VL_FILES: Final = TEXT_FILES | {"preprocessor_config.json", "chat_template.json"}
"""Names that :func:`write_vl_model` writes, without weights and hidden files."""

_CORPUS: Final = (
    "A worker publishes a card, and the front end reads it. You are a helpful assistant. What is in the image? "
    "The quick brown fox jumps over the lazy dog; the cache holds the longest prefix of the prompt. "
    "def main(argument: int) -> None: return print(argument + 1)\n"
) * 8

# Source: the pattern of Qwen2's tokenizer.json.
_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXT_TEMPLATE: Final = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VL_TEMPLATE: Final = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_text_model(directory: Path) -> Path:
    """Write a Qwen2 style model into ``directory`` (made if need be) and return it."""
    tokenizer = _write_common(directory, TEXT_TEMPLATE)
    config = _base_config(tokenizer) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "max_window_layers": 2,
        "sliding_window": CONTEXT_TOKENS,
        "use_sliding_window": False,
    }
    _dump(directory / "config.json", config)
    return directory


def write_vl_model(directory: Path) -> Path:
    """Write a Qwen2-VL style model into ``directory`` (made if need be) and return it.

    An image of ``h`` x ``w`` pixels that both divide by 28 costs ``(h / 28) * (w / 28)`` tokens.
    """
    tokenizer = _write_common(directory, VL_TEMPLATE)
    config = _base_config(tokenizer) | {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
        "vision_token_id": tokenizer.token_to_id("<|vision_pad|>"),
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "vision_config": {
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": 64,
            "mlp_ratio": 4,
            "num_heads": 4,
            "in_chans": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "model_type": "qwen2_vl",
        },
    }
    _dump(directory / "config.json", config)
    preprocessor = {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
    }
    _dump(directory / "preprocessor_config.json", preprocessor)
    _dump(directory / "chat_template.json", {"chat_template": VL_TEMPLATE})
    return directory


def _write_common(directory: Path, template: str) -> Tokenizer:
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    text = tokenizer.to_str(pretty=True)
    (directory / "tokenizer.json").write_text(text, encoding="utf-8")
    bpe = json.loads(text)["model"]
    _dump(directory / "vocab.json", bpe["vocab"])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    end, stop = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    _dump(directory / "tokenizer_config.json", _tokenizer_config(tokenizer, template))
    _dump(
        directory / "generation_config.json",
        {"bos_token_id": end, "pad_token_id": end, "eos_token_id": [stop, end], "do_sample": True, "top_k": 20},
    )
    _dump(
        directory / "special_tokens_map.json",
        {
            "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
        },
    )
    (directory / "LICENSE").write_text("Permission is granted.\n" * 10)
    (directory / "README.md").write_text("# tiny\n")
    (directory / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    weights = "model-00001-of-00001.safetensors"
    _dump(directory / "model.safetensors.index.json", {"metadata": {"total_size": 4096}, "weight_map": {"a": weights}})
    (directory / weights).write_bytes(bytes(4096))
    return tokenizer


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_TOKENS - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_CORPUS], trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _tokenizer_config(tokenizer: Tokenizer, template: str) -> dict[str, Any]:
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in SPECIAL_TOKENS
    }
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": CONTEXT_TOKENS,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def _base_config(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "max_position_embeddings": CONTEXT_TOKENS,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": tokenizer.get_vocab_size(),
    }


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    print(write_text_model(Path(sys.argv[1]) / "tiny-text"))
    print(write_vl_model(Path(sys.argv[1]) / "tiny-vl"))
