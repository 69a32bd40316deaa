"""No text of a URL leads to a forbidden address: neither past the grammar nor past the connection."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest

from placecard.card import HttpUri, parse_uri
from placecard.errors import CardError, Code, PlacecardError
from placecard.source import HttpSource
from tests.simulator.faulty import canary
from tests.unit.source.tools import failure, source_with
from tests.unit.source.urls import HOSTS, NO_URIS, TEMPLATES, URLS

ELSEWHERE = (ip_network("10.99.0.0/16"),)  # nothing that the corpus can reach


def worst_lookup(host: str, port: int) -> Sequence[str]:
    """Return what a system would that reads any text as an address, and finds the canary behind any name."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return ["127.0.0.1"]
    return [str(address[0]) for *_, address in answers]


async def refused(source: HttpSource, text: str) -> Code:
    """Return the code that ``text`` ends in, parsed as a card's URI is."""
    try:
        uri = parse_uri(text)
    except CardError as error:
        return error.code
    assert isinstance(uri, HttpUri)
    return (await failure(source, uri)).code


def test_the_corpus_is_large() -> None:
    assert len(set(URLS)) == len(TEMPLATES) * len(set(HOSTS)) > 1000


async def test_row27_no_url_text_reaches_the_canary() -> None:
    async with canary("0.0.0.0") as bird, source_with(ranges=ELSEWHERE, lookup=worst_lookup) as source:
        codes = {await refused(source, text.replace("PORT", str(bird.port))) for text in URLS}
        assert bird.connections == 0
    assert codes == {Code.URI_FORBIDDEN, Code.DESTINATION_FORBIDDEN}


async def test_row27_no_host_reaches_the_canary_even_past_the_grammar() -> None:
    async with canary("0.0.0.0") as bird, source_with(ranges=ELSEWHERE, lookup=worst_lookup) as source:
        for host in HOSTS:
            text = f"http://{host}:{bird.port}/x"
            uri = HttpUri("http", host.strip("[]"), bird.port, text)
            with pytest.raises(PlacecardError):
                async with source.open(uri):
                    pytest.fail(f"{text!r} was opened")
        assert bird.connections == 0


async def test_row27_what_the_grammar_lets_pass_is_read_by_others_the_same_way() -> None:
    for text in URLS:
        try:
            uri = parse_uri(text.replace("PORT", "81"))
        except CardError:
            continue
        assert isinstance(uri, HttpUri)
        parts = urlsplit(uri.url)
        assert (parts.scheme, (parts.hostname or "").lower(), parts.port) == (uri.scheme, uri.host.lower(), 81)
        assert parts.username is None and parts.query == parts.fragment == ""


@pytest.mark.parametrize("text", NO_URIS[: NO_URIS.index("http://u@h/x")])
def test_row22_what_is_no_uri_is_forbidden(text: str) -> None:
    with pytest.raises(CardError) as caught:
        parse_uri(text)
    assert caught.value.code is Code.URI_FORBIDDEN


@pytest.mark.parametrize("text", NO_URIS[NO_URIS.index("http://u@h/x") :])
def test_row23_parts_that_a_source_has_no_use_for_are_forbidden(text: str) -> None:
    with pytest.raises(CardError) as caught:
        parse_uri(text)
    assert caught.value.code in (Code.URI_FORBIDDEN, Code.PATH_ESCAPE)
