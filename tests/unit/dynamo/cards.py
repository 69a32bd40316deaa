"""Dynamo cards as JSON values, for tests that change one thing in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from placecard.card import Card, digest_of
from placecard.dynamo import DynamoInfo, card_from_dynamo
from placecard.errors import Code, PlacecardError, flatten

GOLDEN: Final = Path(__file__).parents[2] / "golden/dynamo"
HOST: Final = "http://10.4.7.21:9090/v1/metadata/prod/backend/generate/river/_base"


def checked(path: str, content: bytes = b"x", **changes: Any) -> dict[str, Any]:
    """Return a file of a Dynamo card."""
    return {"path": path, "checksum": digest_of(content), "size": len(content)} | changes


def dynamo_card(*extras: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a small valid card with ``extras`` and with ``changes`` of its own keys."""
    card = {
        "display_name": "river",
        "slug": "river",
        "source_path": "/models/river",
        "model_info": {"hf_config_json": checked(f"{HOST}/config.json", b"{}")},
        "tokenizer": {"hf_tokenizer_json": checked(f"{HOST}/tokenizer.json")},
        "context_length": 4096,
        "kv_cache_block_size": 16,
        "migration_limit": 0,
        "model_type": "Chat | Completions",
        "model_input": "Tokens",
        "worker_type": "aggregated",
        "needs": [],
    }
    return copy.deepcopy(card) | ({"extra_files": list(extras)} if extras else {}) | changes


def record(card: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the discovery record of a card."""
    body = {"type": "Model", "namespace": "prod", "component": "backend", "endpoint": "generate", "instance_id": 255}
    return body | {"card_json": dynamo_card() if card is None else card} | changes


def read(*extras: dict[str, Any], **changes: Any) -> tuple[Card, DynamoInfo]:
    return card_from_dynamo(dynamo_card(*extras, **changes))


def refusals(act: Callable[[], object]) -> list[Code]:
    """Return the codes of what ``act`` raises; fails if it raises nothing."""
    with pytest.raises(PlacecardError) as caught:
        act()
    return [error.code for error in flatten(caught.value)]


def refused(*extras: dict[str, Any], **changes: Any) -> list[Code]:
    """Return the codes of every defect of a card."""
    return refusals(lambda: read(*extras, **changes))


def golden(pattern: str) -> list[Any]:
    """Return the golden files that match, each as a test parameter called by its name."""
    paths = sorted(GOLDEN.glob(pattern))
    assert paths, pattern
    return [pytest.param(json.loads(path.read_bytes()), id=path.stem) for path in paths]
