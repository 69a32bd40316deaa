"""Paths and requests, decided without a server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.card import Card, CheckedFile, check_name, digest_of, hex_of
from placecard.errors import CardError
from placecard.publisher import Catalogue, HostedModel
from placecard.publisher.app import Give, Reply, decide
from placecard.publisher.catalogue import MAX_TARGET_BYTES, path_parts

FILE = CheckedFile(name="config.json", digest=digest_of(b"{}"), size=2, role="model_info")
CATALOGUE = Catalogue([HostedModel(Card(name="org/m", files=(FILE,)), {FILE.digest: Path("/blob")})])
KNOWN = {("v1", "metadata", "org_m", "config.json"), ("v1", "blobs", "blake3", hex_of(FILE.digest))}


@given(st.text(min_size=1, max_size=60))
def test_every_name_of_a_card_comes_back_from_its_path(name: str) -> None:
    try:
        check_name(name)
    except CardError:
        return
    assert path_parts(b"/x/" + quote(name).encode()) == ("x", *name.split("/"))


@given(st.binary(max_size=80).map(b"/".__add__) | st.binary(max_size=80))
def test_no_part_of_a_path_means_anything_but_itself(target: bytes) -> None:
    parts = path_parts(target)
    assert parts is None or all(
        part not in ("", ".", "..") and not set(part) & set("/\\\0\n\r\x7f") and part.encode() for part in parts
    )


@given(
    st.lists(st.sampled_from([b"/", b"%2f", b"%2e", b".", b"v1", b"metadata", b"org_m", b"config.json", b"%", b"%00"]))
)
def test_only_the_plain_path_finds_a_file(pieces: list[bytes]) -> None:
    target = b"".join(pieces)
    answer = decide("GET", target, [], CATALOGUE, None)
    if isinstance(answer, Give):
        assert target == b"/v1/metadata/org_m/config.json"
    else:
        assert answer.status in (400, 404)


def test_a_long_path_is_refused() -> None:
    assert path_parts(b"/" + b"a" * (MAX_TARGET_BYTES - 1)) is not None
    assert path_parts(b"/" + b"a" * MAX_TARGET_BYTES) is None


METHODS = st.sampled_from(["GET", "HEAD", "POST", "", "get"]) | st.text(max_size=5)
TARGETS = st.binary(max_size=40) | st.sampled_from([b"/" + "/".join(parts).encode() for parts in sorted(KNOWN)])
FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"if-none-match", b"content-length", b"range", b"x"]),
        st.binary(max_size=20) | st.sampled_from([b"Bearer t", b"*", b"0"]),
    ),
    max_size=4,
)


@given(METHODS, TARGETS, FIELDS, st.none() | st.just("t"))
def test_no_request_gets_a_file_without_right(
    method: str, target: bytes, fields: list[tuple[bytes, bytes]], token: str | None
) -> None:
    answer = decide(method, target, fields, CATALOGUE, token)
    if isinstance(answer, Give) or (isinstance(answer, Reply) and answer.status == 304):
        assert method in ("GET", "HEAD")
        assert path_parts(target) in KNOWN
        assert token is None or [value for name, value in fields if name == b"authorization"] == [b"Bearer t"]
    else:
        assert isinstance(answer, Reply)
        assert b"/blob" not in answer.body


@pytest.mark.parametrize("value", [b"", b"1", b"00", b"-1", b"0, 0", b"x"])
def test_a_request_with_a_body_is_refused(value: bytes) -> None:
    answer = decide("GET", b"/v1/metadata/org_m/config.json", [(b"content-length", value)], CATALOGUE, None)
    assert isinstance(answer, Reply)
    assert answer.status == 400
