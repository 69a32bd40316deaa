from __future__ import annotations

import pytest

from placecard.card import digest_of
from placecard.errors import CardError, Code, VerificationError
from placecard.store import Verifier, looks_like

GOOD = b"the bytes that were promised"


def fed(data: bytes, *, digest: str | None, size: int | None, limit: int = 1000) -> str:
    verifier = Verifier(digest=digest, size=size, limit_bytes=limit, subject="a.json")
    for start in range(0, len(data), 7):
        verifier.feed(data[start : start + 7])
    return verifier.finish()


def test_the_right_bytes_pass_in_any_chunks() -> None:
    assert fed(GOOD, digest=digest_of(GOOD), size=len(GOOD)) == digest_of(GOOD)


def test_unknown_content_gets_its_digest() -> None:
    assert fed(GOOD, digest=None, size=None) == digest_of(GOOD)


def test_an_empty_file_is_a_file() -> None:
    assert fed(b"", digest=digest_of(b""), size=0) == digest_of(b"")


@pytest.mark.parametrize(
    ("data", "size", "limit", "code"),
    [
        (GOOD + b"!", len(GOOD), 1000, Code.SIZE_EXCEEDED),
        (GOOD[:-1], len(GOOD), 1000, Code.SIZE_MISMATCH),
        (b"", len(GOOD), 1000, Code.SIZE_MISMATCH),
        (GOOD[:-1] + b"!", len(GOOD), 1000, Code.DIGEST_MISMATCH),
        (GOOD[:-1], None, 1000, Code.DIGEST_MISMATCH),
        (GOOD, None, len(GOOD) - 1, Code.SIZE_CAP),
        (GOOD, len(GOOD), len(GOOD) - 1, Code.SIZE_CAP),
    ],
)
def test_wrong_bytes_are_named(data: bytes, size: int | None, limit: int, code: Code) -> None:
    with pytest.raises(VerificationError) as caught:
        fed(data, digest=digest_of(GOOD), size=size, limit=limit)
    assert caught.value.code is code
    assert caught.value.subject == "a.json"


def test_a_mismatch_says_both_digests() -> None:
    with pytest.raises(VerificationError, match=f"expected {digest_of(GOOD)}, got {digest_of(b'x')}"):
        fed(b"x", digest=digest_of(GOOD), size=None)


def test_the_first_byte_too_many_is_enough() -> None:
    verifier = Verifier(digest=None, size=4, limit_bytes=1000)
    verifier.feed(b"1234")
    with pytest.raises(VerificationError) as caught:
        verifier.feed(b"5")
    assert caught.value.code is Code.SIZE_EXCEEDED


@pytest.mark.parametrize("digest", ["", "blake3:", "sha256:" + "0" * 64, "blake3:" + "A" * 64, "blake3:../" + "0" * 61])
def test_what_is_no_digest_never_becomes_a_path(digest: str) -> None:
    with pytest.raises(CardError) as caught:
        Verifier(digest=digest, size=None, limit_bytes=10)
    assert caught.value.code is Code.DIGEST_SYNTAX


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"<HTML><head>", "HTML"),
        (b'{"error":"Repository not found"}', "JSON error"),
        (b'{"detail": "Not Found"}', "JSON error"),
    ],
)
def test_the_usual_wrong_answers_are_recognized(head: bytes, words: str) -> None:
    assert words in (looks_like(head) or "")
    with pytest.raises(VerificationError, match=words):
        fed(head, digest=digest_of(GOOD), size=None)


@pytest.mark.parametrize("head", [b'{"model_type": "qwen2"}', b"\x80\x81", b"plain text"])
def test_nothing_is_guessed_of_plain_files(head: bytes) -> None:
    assert looks_like(head) is None
