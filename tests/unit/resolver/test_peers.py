"""Who holds which digest."""

from __future__ import annotations

from placecard.card import digest_of
from placecard.discovery import Record
from placecard.resolver import Peers
from placecard.resolver.peers import MAX_PEERS_TRIED

from .world import FILES, make_card

CONFIG = digest_of(FILES["config.json"])


def test_a_worker_that_self_hosts_is_asked_for_its_digests() -> None:
    peers = Peers()
    peers.add(Record("a" * 32, make_card(), "http://10.0.0.1:9"))
    assert peers.urls(CONFIG) == (f"http://10.0.0.1:9/v1/blobs/blake3/{CONFIG.removeprefix('blake3:')}",)


def test_a_worker_without_address_and_an_unknown_digest_give_nothing() -> None:
    peers = Peers()
    peers.add(Record("a" * 32, make_card(), None))
    assert peers.urls(CONFIG) == ()
    assert peers.urls(digest_of(b"other")) == ()


def test_at_most_eight_peers_are_tried_however_many_there_are() -> None:
    peers = Peers()
    for index in range(64):
        peers.add(Record(f"{index:032x}", make_card(), f"http://10.0.0.{index}:9"))
    assert len(peers.urls(CONFIG)) == MAX_PEERS_TRIED


def test_different_digests_start_at_different_peers() -> None:
    peers = Peers()
    for index in range(64):
        peers.add(Record(f"{index:032x}", make_card(), f"http://10.0.0.{index}:9"))
    first = {peers.urls(digest_of(data))[0].partition("/v1/")[0] for data in FILES.values()}
    assert len(first) > 1


def test_the_last_worker_can_always_leave() -> None:
    peers = Peers()
    peers.add(Record("a" * 32, make_card(), "http://10.0.0.1:9"))
    peers.drop("a" * 32)
    peers.drop("a" * 32)
    assert peers.urls(CONFIG) == ()


def test_a_restarted_worker_replaces_what_it_said_before() -> None:
    peers = Peers()
    peers.add(Record("a" * 32, make_card(), "http://10.0.0.1:9"))
    peers.add(Record("a" * 32, make_card(), "http://10.0.0.2:9"))
    assert [url.partition("/v1/")[0] for url in peers.urls(CONFIG)] == ["http://10.0.0.2:9"]
