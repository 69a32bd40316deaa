"""What differs between two cards, field by field and file by file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from placecard.card.model import Card, CheckedFile


@dataclass(frozen=True)
class Difference:
    """One field that differs; ``part`` is ``content``, ``serving`` or ``hints`` (which no digest covers)."""

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
            if getattr(one, key) != getattr(other, key):
                yield Difference("content", f"files[{name}].{key}", getattr(one, key), getattr(other, key))


def _serving(left: Card, right: Card) -> Iterator[Difference]:
    if left.name != right.name:
        yield Difference("serving", "name", left.name, right.name)
    for key in left.serving.__struct_fields__:
        one, other = getattr(left.serving, key), getattr(right.serving, key)
        if key == "aliases":
            one, other = tuple(sorted(one)), tuple(sorted(other))
        if one != other:
            yield Difference("serving" if key != "unknown" else "hints", f"serving.{key}", one, other)


def _hints(left: Card, right: Card) -> Iterator[Difference]:
    for key in ("schema", "origin", "left_out", "unknown"):
        if getattr(left, key) != getattr(right, key):
            yield Difference("hints", key, getattr(left, key), getattr(right, key))
    lefts, rights = _by_name(left), _by_name(right)
    for name in sorted(lefts.keys() & rights.keys()):
        for key in ("sources", "consumers", "unknown"):
            one, other = getattr(lefts[name], key), getattr(rights[name], key)
            if one != other:
                yield Difference("hints", f"files[{name}].{key}", one, other)


def _by_name(card: Card) -> dict[str, CheckedFile]:
    return {file.name: file for file in card.files}
