"""Digests: ``blake3:`` and 64 lowercase hexadecimal digits, the identity of content."""

from __future__ import annotations

import re
from typing import BinaryIO, Final

from blake3 import blake3

from placecard.errors import CardError, Code

PREFIX: Final = "blake3:"
_SHAPE = re.compile(r"blake3:[0-9a-f]{64}")
_CHUNK_BYTES: Final = 1 << 20
# Source: the BLAKE3 test vectors (test_vectors.json), input_len 0.
EMPTY_DIGEST: Final = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def check_digest(text: str, *, subject: str) -> None:
    """Raise unless ``text`` has the shape of a digest. The shape is a safety check: the hex becomes a file name.

    Raises:
        CardError: ``DIGEST_SYNTAX``.
    """
    if not _SHAPE.fullmatch(text):
        shown = ascii(text if len(text) <= 80 else text[:77] + "...")
        raise CardError(Code.DIGEST_SYNTAX, f"{shown} is not blake3:<64 lowercase hex digits>", subject=subject)


def hex_of(digest: str) -> str:
    """Return the 64 hexadecimal digits of a checked digest."""
    return digest.removeprefix(PREFIX)


def digest_of(data: bytes) -> str:
    """Return the digest of ``data``."""
    return PREFIX + blake3(data).hexdigest()


def digest_stream(file: BinaryIO) -> tuple[str, int]:
    """Read ``file`` to its end and return its digest and size in bytes; memory stays at one chunk of 1 MiB."""
    hasher, size = blake3(), 0
    while chunk := file.read(_CHUNK_BYTES):
        hasher.update(chunk)
        size += len(chunk)
    return PREFIX + hasher.hexdigest(), size
