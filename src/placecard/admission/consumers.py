"""Consumers: who opens a model directory, and the files by which each is known."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Consumer(StrEnum):
    """Who opens a model directory, in the order of a load test: the template, which may not end, comes last.

    The words stand on cards, in facts and in every ``--json`` answer.
    """

    CONFIG = "config"
    GENERATION_CONFIG = "generation_config"
    POOLING = "pooling"
    TOKENIZER = "tokenizer"
    IMAGE_PROCESSOR = "image_processor"
    PROCESSOR = "processor"
    CHAT_TEMPLATE = "chat_template"


# What any one of can make a tokenizer; each line is a set of files that belong together.
# Source: transformers 5.23, `vocab_files_names` of its tokenizer classes; tiktoken names from Qwen and Kimi models.
TOKENIZER_FILES: Final[tuple[tuple[str, ...], ...]] = (
    ("tokenizer.json",),
    ("tiktoken.model",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tekken.json",),
    ("tokenizer.model.v3",),
    ("vocab.json",),
    ("spm.model",),
    ("sentencepiece.model",),
    ("spm_char.model",),
    ("bpe.codes",),
    ("byte_maps.json",),
    ("prophetnet.tokenizer",),
)
# Of models in Mistral's own form, which engines open without transformers. Source: mistral-common, tokens/tokenizers.
MISTRAL_TOKENIZER_FILES: Final = (("tekken.json",), ("tokenizer.model.v3",), ("tokenizer.model",))

# Source: transformers 5.23, utils/__init__.py: IMAGE_PROCESSOR_NAME, PROCESSOR_NAME.
IMAGE_PROCESSOR_FILES: Final = ("preprocessor_config.json", "processor_config.json")

# What a processor reads beside the files of its tokenizer and image processor.
# Source: transformers 5.23, utils/__init__.py: PROCESSOR_NAME, VIDEO_PROCESSOR_NAME.
PROCESSOR_FILES: Final = ("processor_config.json", "video_preprocessor_config.json")

# Source: transformers 5.23, utils/hub.py: CHAT_TEMPLATE_FILE, LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE.
CHAT_TEMPLATE_FILES: Final = ("chat_template.jinja", "chat_template.json")

# Source: sentence-transformers 5, SentenceTransformer.py and models/Transformer.py.
POOLING_FILES: Final = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json")

# Names that each consumer is known to open: for systems where opens by native code cannot be watched.
KNOWN_NAMES: Final[dict[Consumer, frozenset[str]]] = {
    Consumer.CONFIG: frozenset({"config.json", "params.json"}),
    Consumer.GENERATION_CONFIG: frozenset({"generation_config.json"}),
    Consumer.POOLING: frozenset(POOLING_FILES),
    Consumer.TOKENIZER: frozenset(
        {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}.union(*TOKENIZER_FILES)
    ),
    Consumer.IMAGE_PROCESSOR: frozenset(IMAGE_PROCESSOR_FILES),
    Consumer.PROCESSOR: frozenset(PROCESSOR_FILES),
    Consumer.CHAT_TEMPLATE: frozenset(CHAT_TEMPLATE_FILES),
}

_ALL_KNOWN: Final = frozenset().union(*KNOWN_NAMES.values())
# A configuration for a release of transformers, which may name it in `configuration_files`.
# Source: transformers 5.23, configuration_utils.py: _re_configuration_file.
_VERSIONED_CONFIG: Final = re.compile(r"(.*/)?config\..*\.json")


def opened_by_name(name: str) -> bool:
    """Whether a consumer is known to open a file of that name; others are opened only where some file names them."""
    return name in _ALL_KNOWN or is_versioned_config(name)


def is_versioned_config(name: str) -> bool:
    """Whether ``name`` is a configuration for some releases: ``config.4.0.0.json``."""
    return _VERSIONED_CONFIG.fullmatch(name) is not None


def has_tokenizer(names: frozenset[str]) -> bool:
    """Whether ``names`` hold what a tokenizer can be made of."""
    return any(names.issuperset(files) for files in TOKENIZER_FILES) or any(map(_is_numbered_tokenizer, names))


def _is_numbered_tokenizer(name: str) -> bool:
    return "/" not in name and (name.endswith(".tiktoken") or name.startswith("tokenizer.model.v"))
