"""The frozen tables say what the installed transformers says."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")  # it would tell that there is no torch
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

from placecard.admission.families import (
    FOREIGN_IMAGE_TYPES,
    IMAGE_PROCESSOR_TYPES,
    NO_FILE_TOKENIZERS,
    NO_FILE_TYPES,
    PROCESSOR_ARGUMENTS,
    PROCESSOR_OF_TYPE,
    TOKENIZER_OF_TYPE,
    VOCABULARY_OF_TOKENIZER,
)


def test_types_with_an_image_processor() -> None:
    assert frozenset(IMAGE_PROCESSOR_MAPPING_NAMES) == IMAGE_PROCESSOR_TYPES
    assert NO_FILE_TYPES < IMAGE_PROCESSOR_TYPES and not FOREIGN_IMAGE_TYPES & IMAGE_PROCESSOR_TYPES


def test_processors_that_compute_with_an_argument_that_has_no_default() -> None:
    assert dict(found_arguments()) == PROCESSOR_ARGUMENTS


def test_types_of_those_processors() -> None:
    mapped = {kind: name for kind, name in PROCESSOR_MAPPING_NAMES.items() if name in PROCESSOR_ARGUMENTS}
    assert mapped == PROCESSOR_OF_TYPE


@pytest.mark.parametrize("name", sorted(VOCABULARY_OF_TOKENIZER))
def test_tokenizers_read_that_file(name: str) -> None:
    kind: Any = tokenizer_class_from_name(name)
    if kind is None:
        # Code of repositories, and of mistral-common.
        assert name in ("QWenTokenizer", "TikTokenTokenizer", "MistralCommonTokenizer")
    else:
        assert kind.vocab_files_names["vocab_file"] == VOCABULARY_OF_TOKENIZER[name]


def test_tokenizers_that_read_no_file() -> None:
    assert all(not tokenizer_class_from_name(name).vocab_files_names for name in NO_FILE_TOKENIZERS)


def test_types_of_tokenizers() -> None:
    assert {kind: TOKENIZER_MAPPING_NAMES[kind] for kind in TOKENIZER_OF_TYPE} == TOKENIZER_OF_TYPE
    assert set(TOKENIZER_OF_TYPE.values()) <= VOCABULARY_OF_TOKENIZER.keys()


def found_arguments() -> Iterator[tuple[str, str]]:
    """Yield processor class and argument, as the sources of transformers say."""
    for path in sorted(models().glob("*/processing_*.py")):
        for kind in ast.parse(path.read_text()).body:
            if isinstance(kind, ast.ClassDef) and kind.name.endswith("Processor"):
                computed, guarded = uses(kind)
                yield from ((kind.name, name) for name in without_default(kind) if name in computed - guarded)


@cache
def models() -> Path:
    spec = find_spec("transformers.models")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def without_default(kind: ast.ClassDef) -> Iterator[str]:
    """Yield the numbers that ``__init__`` takes, and that are None where they are not given."""
    for method in kind.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            arguments = method.args.args[-len(method.args.defaults) :] if method.args.defaults else []
            for argument, default in zip(arguments, method.args.defaults, strict=True):
                is_number = argument.arg == "patch_size" or argument.arg.startswith("num_")
                if is_number and isinstance(default, ast.Constant) and default.value is None:
                    yield argument.arg


def uses(kind: ast.ClassDef) -> tuple[set[str], set[str]]:
    """Return the attributes of self that are computed with, and those that are compared with None."""
    computed, guarded = set[str](), set[str]()
    for node in ast.walk(kind):
        if isinstance(node, ast.BinOp):
            computed |= attributes(node.left) | attributes(node.right)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sqrt":
            computed |= set[str]().union(*map(attributes, node.args))
        elif isinstance(node, ast.Compare):
            guarded |= attributes(node.left)
    return computed, guarded


def attributes(node: ast.expr) -> set[str]:
    is_own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return {node.attr} if is_own and isinstance(node, ast.Attribute) else set()
