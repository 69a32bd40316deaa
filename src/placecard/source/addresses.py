"""Which addresses a front end may connect to: an explicit table, because the standard library's predicates have holes.

Source: ``ipaddress`` of CPython 3.11 calls ``64:ff9b::7f00:1``, ``2002:7f00:1::`` and ``::127.0.0.1`` global, which all
lead to 127.0.0.1 where translation is at work; the tables are IANA's special-purpose registries (RFC 6890) and the
clouds' own manuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_RANGES: Final[tuple[Network, ...]] = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
"""Loopback and private networks. Carrier-grade NAT (100.64.0.0/10) must be asked for."""

_LOOPBACK = IPv6Address("::1")

# Never, whatever the operator's ranges say. The first match names the reason.
_NEVER: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(text), why)
    for text, why in (
        ("0.0.0.0/8", "unspecified"),
        ("169.254.0.0/16", "link-local or a metadata service"),
        ("100.100.100.200/32", "a metadata service"),  # Alibaba Cloud
        ("192.0.0.192/32", "a metadata service"),  # Oracle Cloud at Customer
        ("168.63.129.16/32", "a metadata service"),  # Azure wire server
        ("192.88.99.0/24", "a 6to4 relay"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
        ("::/128", "unspecified"),
        ("fd00:ec2::/32", "a metadata service"),  # AWS: fd00:ec2::254 and its neighbours
        ("fd20:ce::254/128", "a metadata service"),  # Google Cloud
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local, which is deprecated"),
        ("ff00::/8", "multicast"),
        ("100::/64", "discard-only"),
        ("::/96", "an IPv4-compatible form"),
        ("::ffff:0:0/96", "an IPv4-mapped form"),
        ("::ffff:0:0:0/96", "an IPv4-translated form"),
        ("64:ff9b::/96", "a NAT64 form"),
        ("64:ff9b:1::/48", "a NAT64 form"),
        ("2001::/32", "a Teredo form"),
        ("2002::/16", "a 6to4 form"),
    )
)


def why_forbidden(address: str, ranges: Sequence[Network]) -> str | None:
    """Return why no connection may be made to ``address``, or None if one may.

    Args:
        address: An IP address in text, as the resolver or the system writes it; a zone (``%eth0``) is refused.
        ranges: The operator's ranges.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "not an IP address"
    if isinstance(parsed, IPv6Address) and parsed.scope_id is not None:
        return "link-local"
    if parsed != _LOOPBACK:
        for network, why in _NEVER:
            if parsed in network:
                return why
    if not any(parsed in network for network in ranges):
        return "outside the allowed ranges"
    return None


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
