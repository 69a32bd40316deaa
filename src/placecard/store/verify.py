"""The proof that bytes are the ones asked for. No disk, no network: bytes in, a digest or an error out."""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from placecard.card import check_digest
from placecard.card.digest import PREFIX
from placecard.errors import Code, VerificationError

_HEAD_BYTES: Final = 256
# Source: git-lfs, docs/spec.md: the first line of every pointer file.
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


class Verifier:
    """Takes the bytes of one file chunk by chunk and tells whether together they are the file that was asked for.

    Args:
        digest: ``blake3:<64 hex>`` that the bytes must have; None to accept any content and learn its digest.
        size: Bytes the file must have; None if nobody knows.
        limit_bytes: Bytes that any file may have at most.
        subject: What errors name: a file name or a URI.

    Raises:
        CardError: ``DIGEST_SYNTAX``.
        VerificationError: ``SIZE_CAP`` if ``size`` alone is over the limit.
    """

    def __init__(self, *, digest: str | None, size: int | None, limit_bytes: int, subject: str = "") -> None:
        if digest is not None:
            check_digest(digest, subject=subject)
        self._digest, self._size, self._limit_bytes, self._subject = digest, size, limit_bytes, subject
        self._hasher = blake3()
        self._head = b""
        self.received = 0
        if size is not None and size > limit_bytes:
            raise self._error(Code.SIZE_CAP, f"has {size} bytes; at most {limit_bytes}")

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            VerificationError: ``SIZE_EXCEEDED`` or ``SIZE_CAP``, at the first byte too many.
        """
        self.received += len(chunk)
        if self._size is not None and self.received > self._size:
            raise self._error(Code.SIZE_EXCEEDED, f"expected {self._size} bytes, got at least {self.received}")
        if self.received > self._limit_bytes:
            raise self._error(Code.SIZE_CAP, f"is over {self._limit_bytes} bytes")
        self._hasher.update(chunk)
        if len(self._head) < _HEAD_BYTES:
            self._head += bytes(chunk[: _HEAD_BYTES - len(self._head)])

    def finish(self) -> str:
        """Return the digest of what was fed, which is the one asked for.

        Raises:
            VerificationError: ``SIZE_MISMATCH`` if bytes are missing, else ``DIGEST_MISMATCH``.
        """
        if self._size is not None and self.received != self._size:
            raise self._error(Code.SIZE_MISMATCH, f"expected {self._size} bytes, got {self.received}{self._hint()}")
        actual = PREFIX + self._hasher.hexdigest()
        if self._digest is not None and actual != self._digest:
            raise self._error(Code.DIGEST_MISMATCH, f"expected {self._digest}, got {actual}{self._hint()}")
        return actual

    def _hint(self) -> str:
        looks = looks_like(self._head)
        return f"; the bytes look like {looks}" if looks else ""

    def _error(self, code: Code, detail: str) -> VerificationError:
        return VerificationError(code, detail, subject=self._subject)


def looks_like(head: bytes) -> str | None:
    """Say what the first bytes of a wrong file resemble: the usual suspects of a digest mismatch; None if nothing."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "an empty answer"
    if head.startswith(_LFS_POINTER):
        return "a git-lfs pointer, not the file it points to"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, as a proxy or login page would send"
    if text.startswith(b"{") and (b'"error' in text or b'"detail"' in text or b'"message"' in text):
        return "a JSON error"
    return None
