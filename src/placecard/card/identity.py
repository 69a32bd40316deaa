"""The two digests of a card, over a tagged, length-framed encoding.

The encoding is ours (version 1). A frame is ``u8 length of tag · tag · u64 big-endian length of payload · payload``;
nothing is concatenated without its frame, so no two different cards give the same bytes, whatever their strings hold.
"""

from __future__ import annotations

import json
from functools import lru_cache

import msgspec

from placecard.card.digest import digest_of
from placecard.card.model import Card


def content_digest(card: Card) -> str:
    """Return the digest of what the model directory holds: name, role, digest and size of each file, in name order."""
    ordered = sorted(card.files, key=lambda file: file.name)
    frames = b"".join(_file(file.name, file.role, file.digest, file.size) for file in ordered)
    return digest_of(_frame("placecard", b"content:1") + frames)


def serving_digest(card: Card) -> str:
    """Return the digest of how the model is served: names, lengths, worker type, parsers, image options, adapter."""
    serving = card.serving
    fields: list[tuple[str, str | int | None]] = [
        ("name", card.name),
        *(("alias", alias) for alias in sorted(serving.aliases)),
        ("context_length", serving.context_length),
        ("kv_block_size", serving.kv_block_size),
        ("worker_type", serving.worker_type),
        ("tool_parser", serving.tool_parser),
        ("reasoning_parser", serving.reasoning_parser),
        ("lora", serving.lora.name if serving.lora else None),
        ("image_options", canonical(serving.image_options)),
    ]
    frames = (_frame(tag, str(value).encode()) for tag, value in fields if value is not None)
    return digest_of(_frame("placecard", b"serving:1") + b"".join(frames))


def canonical(value: object) -> str:
    """Return JSON-like ``value`` as one text: sorted keys, no spaces; ``1``, ``1.0`` and ``true`` stay three things."""
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=4096)  # the workers of a model advertise the same files
def _file(name: str, role: str, digest: str, size: int | None) -> bytes:
    fields = (("name", name), ("role", role), ("digest", digest), ("size", "" if size is None else str(size)))
    return _frame("file", b"".join(_frame(tag, text.encode()) for tag, text in fields))


def _frame(tag: str, payload: bytes) -> bytes:
    name = tag.encode()
    return bytes([len(name)]) + name + len(payload).to_bytes(8, "big") + payload
