"""Laws of the card: what holds for every card, name, URI and every sequence of bytes."""

from __future__ import annotations

import json
import ntpath
import posixpath
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from placecard.card import (
    Card,
    CheckedFile,
    FileUri,
    HubUri,
    card_schema,
    check_digest,
    check_name,
    collisions,
    content_digest,
    decode_card,
    diff,
    digest_of,
    encode_card,
    identity,
    kind_of,
    lint,
    name_key,
    parse_uri,
    read_json,
    serving_digest,
    slugify,
    to_json,
)
from placecard.errors import CardError, Code, flatten
from tests.property.strategies import COMMITS, JSON, NAMES, PATHS, cards, uris

VALIDATOR = jsonschema.Draft202012Validator(card_schema())
KEYS = sorted({*Card.__struct_fields__, *CheckedFile.__struct_fields__, "aliases", "lora", "kv_block_size"})
replace = msgspec.structs.replace
laws = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@laws
@given(cards())
def test_a_card_survives_the_wire(card: Card) -> None:
    for indent in (None, 2):
        again = decode_card(encode_card(card, indent=indent))
        assert again == card
        assert to_json(again) == to_json(card)


@laws
@given(cards())
def test_the_schema_takes_every_card(card: Card) -> None:
    assert list(VALIDATOR.iter_errors(json.loads(encode_card(card)))) == []


@laws
@given(cards(), st.data())
def test_what_the_schema_refuses_the_reader_refuses(card: Card, data: st.DataObject) -> None:
    body = json.loads(encode_card(card))
    spot, key = data.draw(st.sampled_from(list(_spots(body))))
    spot[key] = data.draw(JSON)
    if list(VALIDATOR.iter_errors(body)):
        with pytest.raises(CardError):
            decode_card(json.dumps(body).encode())


def _spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a JSON value where another value could stand."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _spots(value[key])


def _only_card_errors(data: bytes) -> None:
    try:
        card = decode_card(data)
    except CardError as error:
        assert all(isinstance(found.code, Code) and str(found) for found in flatten(error))
        str(error).encode()  # a message can always be printed
    else:
        assert decode_card(encode_card(card)) == card
        lint(card)


@laws
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_card_error(data: bytes) -> None:
    _only_card_errors(data)


@laws
@given(st.recursive(JSON, lambda inner: st.dictionaries(st.sampled_from(KEYS), inner | JSON), max_leaves=12))
def test_no_json_raises_anything_but_a_card_error(value: Any) -> None:
    _only_card_errors(json.dumps(value).encode())


@laws
@given(cards(), st.data())
def test_no_damaged_card_raises_anything_but_a_card_error(card: Card, data: st.DataObject) -> None:
    encoded = bytearray(encode_card(card))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(encoded) - 1))
        encoded[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=3) | st.just(b'\\ud800"'))
        encoded += b" "
    _only_card_errors(bytes(encoded))


@laws
@given(cards(), st.data())
def test_no_replaced_value_raises_anything_but_a_card_error(card: Card, data: st.DataObject) -> None:
    body = json.loads(encode_card(card))
    spot, key = data.draw(st.sampled_from(list(_spots(body))))
    spot[key] = data.draw(JSON | st.text() | st.lists(JSON))
    _only_card_errors(json.dumps(body).encode())


@laws
@given(cards(), st.randoms(use_true_random=False))
def test_the_content_digest_ignores_order_and_hints(card: Card, random: Any) -> None:
    shuffled = list(card.files)
    random.shuffle(shuffled)
    bare = tuple(replace(file, sources=(), consumers=(), unknown={}) for file in shuffled)
    other = replace(card, files=bare, origin="elsewhere", left_out=(), unknown={})
    assert content_digest(other) == content_digest(card)
    assert serving_digest(other) == serving_digest(card)
    assert {difference.part for difference in diff(card, other)} <= {"hints"}


@laws
@given(cards(), st.data())
def test_the_content_digest_sees_every_field_of_every_file(card: Card, data: st.DataObject) -> None:
    extra = [file for file in card.files if not file.typed]
    changed = [CheckedFile(name="zz-new", digest=digest_of(b"new"), size=3)]
    if extra:
        file = data.draw(st.sampled_from(extra))
        others = tuple(each for each in card.files if each is not file)
        size = None if file.size is not None else 12345
        role = "extra" if file.role != "extra" else "other"
        for change in ({"name": file.name + "2"}, {"digest": digest_of(b"other one")}, {"size": size}, {"role": role}):
            with suppress(CardError):  # the new name may collide
                assert content_digest(replace(card, files=(*others, replace(file, **change)))) != content_digest(card)
        assert content_digest(replace(card, files=others)) != content_digest(card)
    assert content_digest(replace(card, files=(*card.files, *changed))) != content_digest(card)


@laws
@given(cards(), cards())
def test_diff_is_empty_exactly_when_digests_and_hints_agree(one: Card, other: Card) -> None:
    parts = {difference.part for difference in diff(one, other)}
    assert ("content" in parts) == (content_digest(one) != content_digest(other))
    assert ("serving" in parts) == (serving_digest(one) != serving_digest(other))
    assert diff(one, one) == ()
    assert len(diff(one, other)) == len(diff(other, one))


@laws
@given(cards(), cards(), st.booleans(), st.booleans())
def test_diff_tells_the_parts_apart(one: Card, other: Card, take_files: bool, take_serving: bool) -> None:
    mixed = replace(
        one,
        files=other.files if take_files else one.files,
        serving=other.serving if take_serving else one.serving,
    )
    parts = {difference.part for difference in diff(one, mixed)}
    assert take_files or "content" not in parts
    assert take_serving or "serving" not in parts
    assert ("content" in parts) == (content_digest(one) != content_digest(mixed))
    assert ("serving" in parts) == (serving_digest(one) != serving_digest(mixed))


FRAMES = st.lists(st.tuples(st.sampled_from(["name", "role", "rolesize", "size"]), st.binary(max_size=12)), max_size=3)


@laws
@given(FRAMES, FRAMES)
def test_different_fields_never_collide_under_framing(
    one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]
) -> None:
    def framed(fields: list[tuple[str, bytes]]) -> bytes:
        return b"".join(identity._frame(tag, payload) for tag, payload in fields)

    assert (framed(one) == framed(other)) == (one == other)
    if one:  # a payload that holds the bytes of what follows it
        swallowed = [(one[0][0], one[0][1] + framed(one[1:]))]
        assert (framed(swallowed) == framed(one)) == (swallowed == one)


@laws
@given(st.text() | st.lists(st.sampled_from(["..", ".", "a", "", "C:", "\\", "~", "NUL", "é"])).map("/".join))
def test_a_name_that_passes_stays_inside_on_every_system(name: str) -> None:
    try:
        check_name(name)
    except CardError:
        return
    for system, root in ((posixpath, "/root/dir"), (ntpath, "C:\\root\\dir")):
        joined = system.normpath(system.join(root, name))
        assert joined.startswith(root + system.sep)
        assert len(joined) == len(root) + 1 + len(name)  # nothing was collapsed
        assert not system.isabs(name)
    assert unicodedata.normalize("NFKC", name).count("/") == name.count("/")


@laws
@given(NAMES)
def test_a_name_collides_with_all_its_forms(name: str) -> None:
    for form in (name.upper(), name.lower(), name.casefold(), unicodedata.normalize("NFD", name)):
        if name_key(form) == name_key(name) and form != name:
            assert list(collisions([name, form])) == [(name, form)]
    assert name_key(name_key(name)) == name_key(name)
    assert list(collisions([name])) == []
    assert list(collisions([name, name + "/below"])) == [(name, name + "/below")]


@laws
@given(NAMES, st.sampled_from([".bin", ".SafeTensors", ".py", ".json", ".index.json", ".gguf", ""]))
def test_the_kind_of_a_file_does_not_depend_on_case(name: str, suffix: str) -> None:
    whole = name + suffix
    swapped = "".join(c.swapcase() if c.isascii() else c for c in whole)
    assert kind_of(whole) is kind_of(swapped)


@laws
@given(st.text())
def test_a_slug_is_a_slug(name: str) -> None:
    slug = slugify(name)
    assert slugify(slug) == slug
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert not slug.startswith("_")


@laws
@given(uris())
def test_a_uri_survives_being_written(text: str) -> None:
    uri = parse_uri(text)
    assert str(uri) == text
    assert parse_uri(str(uri)) == uri


@laws
@given(COMMITS, PATHS)
def test_a_path_is_what_was_written(commit: str, path: str) -> None:
    hub = HubUri("acme/river", commit, path)
    assert parse_uri(str(hub)) == hub
    assert hub.pinned


@laws
@given(
    st.text(max_size=30)
    | st.lists(
        st.sampled_from(
            ["hf://", "file://", "http://", "/", "..", "%2e", "%252e", "@", ":", "[", "]", "a", "\\", "?", "%00"]
        ),
        max_size=9,
    ).map("".join)
)
def test_no_text_makes_a_dangerous_uri(text: str) -> None:
    try:
        uri = parse_uri(text)
    except CardError as error:
        assert error.code in (Code.URI_FORBIDDEN, Code.PATH_ESCAPE)
        return
    assert parse_uri(str(uri)) == uri
    if isinstance(uri, FileUri):
        assert posixpath.normpath(uri.path) == str(uri.path)
    if isinstance(uri, HubUri):
        assert not {"", ".", ".."} & set(uri.path.split("/"))


@laws
@given(st.text())
def test_only_digests_are_digests(text: str) -> None:
    with pytest.raises(CardError):
        check_digest(text, subject="x")


@laws
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_strict_reading_gives_what_was_written(value: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value
