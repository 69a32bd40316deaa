"""What a generation holds: its entries, each with digest, proof and origin, and the identity that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
from blake3 import blake3

from placecard.card import LeftOut, check_digest, check_name, collisions, hex_of
from placecard.errors import CardError, Code

SCHEMA: Final = 1
MAX_ENTRIES: Final = 4096
MAX_MANIFEST_BYTES: Final = 16 << 20


class Proof(StrEnum):
    """Why a file is believed to be the right one."""

    ADVERTISED = "ADVERTISED"
    """Its digest stands on the card."""
    COMMIT = "COMMIT"
    """Its bytes are those of a hub commit."""
    OBSERVED = "OBSERVED"
    """It was hashed by us when first seen."""


class Origin(StrEnum):
    """Where a file's bytes came from."""

    WORKER = "WORKER"
    PEER = "PEER"
    FILE = "FILE"
    MODEL_PATH = "MODEL_PATH"
    HUB = "HUB"
    OVERLAY = "OVERLAY"
    STORE = "STORE"


class Entry(msgspec.Struct, frozen=True):
    """One name of a model directory.

    Args:
        name: Relative path, ``/`` between parts.
        digest: ``blake3:<64 hex>``.
        size: Bytes.
        role: The slot it fills, a :class:`~placecard.card.Role`.
        uri: Where the bytes were had; empty if the store held them.
        consumers: Who reads it.
    """

    name: str
    digest: str
    size: int
    role: str
    proof: Proof
    origin: Origin
    uri: str = ""
    consumers: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside the ``model/`` directory of a generation.

    Args:
        sequence: One more than any older generation of the model had; orders them without a clock.
        card: The card as JSON values.
    """

    schema: int = SCHEMA
    model: str
    sequence: int
    content_digest: str
    serving_digest: str
    card: dict[str, Any]
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Blob:
    """Proven bytes in the store."""

    digest: str
    size: int
    path: Path


@dataclass(frozen=True)
class Snapshot:
    """A whole generation of a model.

    Args:
        generation: 32 hexadecimal digits over names, digests and proofs.
        directory: The ``model/`` directory; never changed, safe to hand to ``from_pretrained()``.
        card: The newest card that was activated with these files, as JSON values; the manifest's own if none was
            since. The same files can be served in another way, and that makes no new generation.
    """

    model: str
    generation: str
    directory: Path
    manifest: Manifest
    card: dict[str, Any]


@dataclass(frozen=True)
class ModelInfo:
    """A model in the store.

    Args:
        key: Its directory name.
        current: What the stable path points to; None if nothing whole does.
        generations: How many there are.
        bytes: Size of all their blobs, each counted once.
    """

    name: str
    key: str
    current: Snapshot | None
    generations: int
    bytes: int


def checked(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return ``entries`` in the order of their names, all safe to become paths.

    Raises:
        CardError: ``NAME_UNSAFE``, ``NAME_COLLISION``, ``DIGEST_SYNTAX``, ``CARD_RANGE``, ``CARD_TOO_LARGE`` …
    """
    ordered = tuple(sorted(entries, key=lambda entry: entry.name))
    if len(ordered) > MAX_ENTRIES:
        raise CardError(Code.CARD_TOO_LARGE, f"has {len(ordered)} files; at most {MAX_ENTRIES}", subject="snapshot")
    for entry in ordered:
        check_name(entry.name)
        check_digest(entry.digest, subject=entry.name)
        if not 0 <= entry.size < 2**63:
            raise CardError(Code.CARD_RANGE, f"size {entry.size} is impossible", subject=entry.name)
    for one, other in collisions(entry.name for entry in ordered):
        raise CardError(Code.NAME_COLLISION, f"cannot stand beside {other!a}", subject=ascii(one))
    return ordered


def generation_id(entries: Sequence[Entry]) -> str:
    """Return the identity of a generation: 32 hexadecimal digits over name, digest and proof of its entries.

    Entries go in name order. Each field is framed by its length (8 bytes, big-endian), so that no two lists give
    the same bytes.
    """
    hasher = blake3(b"placecard:generation:1")
    for entry in sorted(entries, key=lambda entry: entry.name):
        for text in (entry.name, entry.digest, entry.proof.value):
            payload = text.encode()
            hasher.update(len(payload).to_bytes(8, "big") + payload)
    return hasher.hexdigest()[:32]


def blobs_of(entries: Iterable[Entry]) -> dict[str, int]:
    """Return the hex digits of each distinct blob, and its size."""
    return {hex_of(entry.digest): entry.size for entry in entries}
