"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from placecard.source import DEFAULT_RANGES, why_forbidden
from placecard.source.addresses import is_address

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.0.1",
        "::1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.9",
        "fc00::1",
        "fd12::7",
    ],
)
def test_loopback_and_private_addresses_are_allowed(address: str) -> None:
    assert why_forbidden(address, DEFAULT_RANGES) is None


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.1",
        "192.169.0.1",
        "11.0.0.1",
        "100.64.0.1",
        "2001:4860:4860::8888",
        "fe00::",
    ],
)
def test_public_and_shared_addresses_must_be_asked_for(address: str) -> None:
    assert why_forbidden(address, DEFAULT_RANGES) == "outside the allowed ranges"
    assert why_forbidden(address, EVERYTHING) is None


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fe80::1%lo",
        "::1%lo",
        "fec0::1",
        "ff02::1",
        "100::1",
        "::127.0.0.1",
        "::2",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2001::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
    ],
)
def test_row27_some_addresses_are_forbidden_whatever_the_ranges_say(address: str) -> None:
    assert why_forbidden(address, EVERYTHING) not in (None, "outside the allowed ranges")
    assert why_forbidden(address, DEFAULT_RANGES) is not None


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "127.0.0.1 ", "[::1]"]
)
def test_what_is_no_address_is_forbidden(text: str) -> None:
    assert why_forbidden(text, EVERYTHING) == "not an IP address"
    assert not is_address(text)


def test_no_ranges_allow_nothing() -> None:
    assert why_forbidden("127.0.0.1", ()) is not None
