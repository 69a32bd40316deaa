"""A corpus of URL texts that try to reach 127.0.0.1 or a metadata service past a guard. ``PORT`` stands for the
canary's port.

Source: the forms that resolvers, curl and browsers read as addresses (WHATWG URL standard, host parsing; RFC 6052,
3056, 4291), and the parser differences behind published server-side request forgeries: backslash, userinfo, fragment,
tab and newline.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import product
from typing import Final


def address_forms(address: str) -> Iterator[str]:
    """Yield ways to write an IPv4 address as a host."""
    number = int(IPv4Address(address))
    a, b, c, d = IPv4Address(address).packed
    yield from (address, f"{address}.", str(number), hex(number), hex(number).upper(), oct(number).replace("o", ""))
    yield from (f"{a}.{b}.{c * 256 + d}", f"{a}.{b * 65536 + c * 256 + d}")
    yield from (f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:03}.{b:03}.{c:03}.{d:03}")
    yield from (f"0x{a:x}.{b}.{c}.{d}", f"{a}.{b}.{c}.0x{d:x}", f"{a}.{b}.{c}.0{d:o}")
    yield f"0x{a:x}.{b * 65536 + c * 256 + d}"
    yield from (f"{a + 256}.{b}.{c}.{d}", str(number + (1 << 32)))
    high, low = f"{a:02x}{b:02x}", f"{c:02x}{d:02x}"
    yield from (f"[::ffff:{address}]", f"[::ffff:{high}:{low}]", f"[0:0:0:0:0:ffff:{high}:{low}]", f"[::{address}]")
    yield from (f"[64:ff9b::{high}:{low}]", f"[64:ff9b::{address}]", f"[64:ff9b:1::{high}:{low}]")
    yield from (f"[2002:{high}:{low}::]", f"[2001:0:{high}:{low}::]", f"[::ffff:0:{address}]", f"::ffff:{address}")
    yield address.translate(str.maketrans("0123456789.", "０１２３４５６７８９。"))
    yield address.replace("1", "①").replace("2", "②")
    yield address.replace(".", "%2e")
    yield from (f"[{address}]", f"{address}%00", f"%00{address}", f"{address}%09", f"{address}\t", f"\n{address}")


HOSTS: Final = (
    *address_forms("127.0.0.1"),
    *address_forms("169.254.169.254"),
    *("0", "0.0.0.0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::1%25lo]", "[fe80::1%25lo]", "[fe80::1]", "[fec0::1]"),
    *("localhost", "LOCALHOST", "localhost.", "ip6-localhost", "a.localhost", "127.0.0.1.nip.example", "ⓛocalhost"),
    *("100.100.100.200", "[fd00:ec2::254]", "metadata.google.internal", "224.0.0.1", "255.255.255.255", "[ff02::1]"),
)
TEMPLATES: Final = (
    "http://{host}:PORT/x",
    "http://10.0.0.1@{host}:PORT/x",
    "http://user:pass@{host}:PORT/x",
    "http://10.0.0.1:80\\@{host}:PORT/x",
    "http://{host}:PORT\\@10.0.0.1/x",
    "http://{host}:PORT#@10.0.0.1/x",
    "http://{host}:PORT?@10.0.0.1/x",
    "http:\\\\{host}:PORT\\x",
    "http:///{host}:PORT/x",
    "http:{host}:PORT/x",
    "//{host}:PORT/x",
    "HTTP://{host}:PORT/x",
    " http://{host}:PORT/x",
    "ht\ntp://{host}:PORT/x",
    "gopher://{host}:PORT/x",
    "http://{host}:PORT/x\r\nHost: 10.0.0.1",
)
URLS: Final = tuple(template.replace("{host}", host) for template, host in product(TEMPLATES, HOSTS))

# Source: the table of bad inputs, rows 22 and 23.
NO_URIS: Final = (
    *("ftp://h/x", "gopher://h/x", "javascript:alert(1)", "HTTP://h/x", "hf:/x", "file:x", "data:,x", "h/x", "//h/x"),
    *("", " ", "http", "http:", "http://", "http:///x", " http://h/x", "http://h/x ", "http://h/\nx", "http://h/\tx"),
    *(
        "http://u@h/x",
        "http://u:p@h/x",
        "http://h/x#f",
        "http://h/x?q",
        "http://h:0/x",
        "http://h:65536/x",
        "http://h:/x",
    ),
    *("http://hé/x", "http://h%00/x", "http://h\\x", "http://h/a\\b", "http://h/a%5cb", "http://h:8o/x", "http://h"),
    *("http://h/../x", "http://h/%2e%2e/x", "http://h/%252e%252e/x", "http://h/a%2fb", "http://[::1/x", "http://::1/x"),
)
