"""What differs between two cards, field by field and file by file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from placecard.card.identity import canonical
from placecard.card.model import Card, CheckedFile

_SERVED: Final = (
    "context_length", "kv_block_size", "worker_type", "tool_parser", "reasoning_parser", "image_options",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One field that differs; ``part`` is ``content``, ``serving`` or ``hints`` (which no digest covers).

    ``left`` and ``right`` are plain JSON values; None where one side has nothing.
    """

    part: str
    where: str
    left: Any
    right: Any


def diff(left: Card, right: Card) -> tuple[Difference, ...]:
    """Return every difference, content first. Empty exactly when the cards say the same."""
    return (*_content(left, right), *_serving(left, right), *_hints(left, right))


def _content(left: Card, right: Card) -> Iterator[Difference]:
    lefts, rights = _by_name(left), _by_name(right)
    for name in sorted(lefts.keys() | rights.keys()):
        one, other = lefts.get(name), rights.get(name)
        if one is None or other is None:
            yield Difference("content", f"files[{name}]", one and one.digest, other and other.digest)
            continue
        for key in ("digest", "size", "role"):
            yield from _compare("content", f"files[{name}].{key}", getattr(one, key), getattr(other, key))


def _serving(left: Card, right: Card) -> Iterator[Difference]:
    yield from _compare("serving", "name", left.name, right.name)
    yield from _compare("serving", "serving.aliases", sorted(left.serving.aliases), sorted(right.serving.aliases))
    for key in _SERVED:
        yield from _compare("serving", f"serving.{key}", getattr(left.serving, key), getattr(right.serving, key))
    one, other = left.serving.lora, right.serving.lora
    yield from _compare("serving", "serving.lora.name", one and one.name, other and other.name)


def _hints(left: Card, right: Card) -> Iterator[Difference]:
    for key in ("schema", "origin", "left_out", "unknown"):
        yield from _compare("hints", key, getattr(left, key), getattr(right, key))
    yield from _compare("hints", "serving.unknown", left.serving.unknown, right.serving.unknown)
    one, other = left.serving.lora, right.serving.lora
    if one is not None and other is not None:
        for key in ("max_gpu_lora_count", "unknown"):
            yield from _compare("hints", f"serving.lora.{key}", getattr(one, key), getattr(other, key))
    lefts, rights = _by_name(left), _by_name(right)
    for name in sorted(lefts.keys() & rights.keys()):
        for key in ("sources", "consumers", "unknown"):
            yield from _compare("hints", f"files[{name}].{key}", getattr(lefts[name], key), getattr(rights[name], key))


def _compare(part: str, where: str, left: object, right: object) -> Iterator[Difference]:
    if canonical(left) != canonical(right):  # Python takes 1, 1.0 and True for equal; JSON does not
        yield Difference(part, where, msgspec.to_builtins(left), msgspec.to_builtins(right))


def _by_name(card: Card) -> dict[str, CheckedFile]:
    return {file.name: file for file in card.files}
