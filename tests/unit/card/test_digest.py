"""Digests: row 16 of the bad-input table, and blake3's own vectors."""

from __future__ import annotations

import io

import pytest

from placecard.card import check_digest, digest_of, digest_stream, hex_of
from placecard.card.digest import EMPTY_DIGEST
from placecard.errors import Code
from tests.unit.card.cards import card_json, codes, file_json, refusals

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "digest",
    ["", "blake3:", "blake3:" + HEX[:63], "blake3:" + HEX + "0", "blake3:" + HEX.upper(), "BLAKE3:" + HEX,
     "blake3:blake3:" + HEX, "blake3:" + HEX[:-1] + "g", "blake3:" + HEX[:-1] + "\x00", "blake3:" + HEX + "\n",
     "blake3:../" + HEX[3:], "blake3:" + HEX[:-1] + "/", "sha256:" + HEX, HEX, " blake3:" + HEX, "blake3: " + HEX[1:],
     "blake3:" + "٣" * 64, "blake3:" + "a" * 100_000],
)  # fmt: skip
def test_row16_no_digest(digest: str) -> None:
    assert refusals(lambda: check_digest(digest, subject="x")) == [Code.DIGEST_SYNTAX]
    assert codes(card_json(file_json("a.json", digest=digest))) == [Code.DIGEST_SYNTAX]


def test_row16_an_absent_digest() -> None:
    entry = file_json("a.json")
    del entry["digest"]
    assert codes(card_json(entry)) == [Code.CARD_SCHEMA]


def test_row16_a_long_digest_is_cut_in_the_message() -> None:
    with pytest.raises(Exception, match=r"^x: 'y{77}\.\.\.' is not") as caught:
        check_digest("y" * 10_000, subject="x")
    assert len(str(caught.value)) < 200


def test_a_digest_passes_and_gives_its_hex() -> None:
    check_digest("blake3:" + HEX, subject="x")
    assert hex_of("blake3:" + HEX) == HEX


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
    ],
)
def test_the_vectors_of_blake3(length: int, expected: str) -> None:
    """Source: BLAKE3 repository, test_vectors/test_vectors.json; input byte ``i`` is ``i % 251``."""
    data = bytes(index % 251 for index in range(length))
    assert digest_of(data) == f"blake3:{expected}"
    assert digest_stream(io.BytesIO(data)) == (f"blake3:{expected}", length)


def test_a_stream_of_several_chunks_has_the_digest_of_the_whole() -> None:
    data = b"placecard" * 400_000
    assert digest_stream(io.BytesIO(data)) == (digest_of(data), len(data))


def test_the_empty_digest_is_the_one_of_nothing() -> None:
    assert digest_of(b"") == EMPTY_DIGEST
