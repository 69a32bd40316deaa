"""Cards as JSON values, and the codes that a reader answers them with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from placecard.card import Card, CheckedFile, decode_card, digest_of
from placecard.errors import CardDefectsError, CardError, Code, flatten


def file_json(name: str = "config.json", content: bytes = b"{}", **changes: Any) -> dict[str, Any]:
    """Return one file entry; ``role`` follows from the name unless it is given."""
    role = {"config.json": "model_info", "tokenizer.json": "tokenizer"}.get(name, "extra")
    return {"name": name, "digest": digest_of(content), "size": len(content), "role": role} | changes


def card_json(*extra: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the smallest card there is, with ``extra`` files and ``changes`` of its own keys."""
    return {"schema": 1, "name": "acme/river", "files": [file_json(), *extra]} | changes


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def decoded(*extra: dict[str, Any], **changes: Any) -> Card:
    return decode_card(as_bytes(card_json(*extra, **changes)))


def checked(name: str, content: bytes = b"x", **changes: Any) -> CheckedFile:
    return CheckedFile(**file_json(name, content, **changes))


def codes(data: bytes | dict[str, Any]) -> list[Code]:
    """Return the codes of all defects that reading ``data`` as a card finds; fails if it finds none."""
    return refusals(lambda: decode_card(data if isinstance(data, bytes) else as_bytes(data)))


def refusals(act: Callable[[], object]) -> list[Code]:
    """Return the codes of the card errors that ``act`` raises."""
    with pytest.raises(CardError) as caught:
        act()
    assert str(caught.value)
    if isinstance(caught.value, CardDefectsError):
        assert caught.value.code is caught.value.defects[0].code
    return [error.code for error in flatten(caught.value)]
