"""Advice on a valid card: what will hurt a front end later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from placecard.card.filenames import Kind, Role, kind_of
from placecard.card.model import Card
from placecard.card.uri import HubUri, parse_uri
from placecard.errors import CardError, Code

# Words by which a card might try to set the front end's policy. Policy is the front end's alone.
_POLICY_KEYS: Final = frozenset(
    {"allow_private_ips", "allow_redirects", "allow_direct_ip", "file_roots", "trust_remote_code", "fetch_policy"}
    | {"policy", "verify", "strict", "worker_ranges", "allow_code", "budgets"}
)


def lint(card: Card) -> tuple[CardError, ...]:
    """Return notes on ``card``, each with its code and mend; none of them stops a front end by itself."""
    return tuple(_notes(card))


def _notes(card: Card) -> Iterator[CardError]:
    unknown = {"$": card.unknown, "$.serving": card.serving.unknown}
    unknown |= {f"$.files[{index}]": file.unknown for index, file in enumerate(card.files)}
    for where, keys in unknown.items():
        for place in _policy(keys, where):
            yield CardError(Code.CARD_POLICY_IGNORED, "a card cannot set policy", subject=place)
    if card.slot(Role.TOKENIZER) is None:
        mend = "Put tokenizer.json into the model directory, or let the engine tokenize."
        yield CardError(Code.CARD_INCOMPLETE, "the slot is empty", subject="slot tokenizer", mend=mend)
    for file in card.files:
        if not file.understood:
            yield CardError(Code.CARD_SCHEMA, f"role {file.role!r} is unknown here: skipped", subject=file.name)
        if file.size is None:
            yield CardError(Code.CARD_SCHEMA, "no size: the per-file cap alone bounds it", subject=file.name)
        if (kind := kind_of(file.name)) is not Kind.METADATA:
            yield CardError(Code.CARD_SCHEMA, f"front ends leave it out ({kind.value})", subject=file.name)
        if not file.sources:
            yield CardError(Code.NO_CANDIDATE, "names no source", subject=file.name)
        for text in file.sources:
            uri = parse_uri(text)
            if isinstance(uri, HubUri) and not uri.pinned:
                yield CardError(Code.REVISION_NOT_PINNED, f"{text} can move", subject=file.name)


def _policy(value: object, where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in sorted(value.items()):
            place = f"{where}.{ascii(key)[1:-1]}"
            if key in _POLICY_KEYS:
                yield place
            else:
                yield from _policy(inner, place)
