"""The card's JSON Schema (draft 2020-12), generated from the same structs that read it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from placecard.card.model import MAX_FILES, MAX_SOURCES, SCHEMA, Card


def card_schema() -> dict[str, Any]:
    """Return the JSON Schema of a card. Unknown keys are allowed everywhere: readers keep and ignore them."""
    (reference,), parts = msgspec.json.schema_components([Card], ref_template="#/$defs/{name}")
    for part in parts.values():
        part["description"] = part["description"].partition("\n\n")[0]
        part.get("properties", {}).pop("unknown", None)
        part["additionalProperties"] = True
    card, file, serving = (parts[name]["properties"] for name in ("Card", "CheckedFile", "Serving"))
    text = {"minLength": 1, "maxLength": 1024}
    length = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 2**31 - 1}, {"type": "null"}]}
    card["name"] |= text
    card["schema"] |= {"const": SCHEMA}
    card["files"] |= {"minItems": 1, "maxItems": MAX_FILES}
    file["name"] |= text
    file["role"] |= {"minLength": 1, "maxLength": 128}
    file["digest"] |= {"pattern": "^blake3:[0-9a-f]{64}$"}
    file["size"] = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, {"type": "null"}]}
    file["sources"] |= {"maxItems": MAX_SOURCES}
    serving["aliases"]["items"] |= text
    serving["context_length"] |= length
    serving["kv_block_size"] |= length
    adapters = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    parts["Lora"]["properties"]["max_gpu_lora_count"] |= {"anyOf": [adapters, {"type": "null"}]}
    parts["Card"]["required"] = ["schema", "name", "files"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Placecard model deployment card",
        **reference,
        "$defs": parts,
    }


def card_schema_text() -> str:
    """Return the schema as the text that is committed as ``docs/card.schema.json``."""
    return json.dumps(card_schema(), indent=2, sort_keys=True) + "\n"
