"""Under which address front ends reach a worker's files, and how that stands on the card."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import msgspec

from placecard.card import Card, CheckedFile, HttpUri, digest_of, hex_of, parse_uri
from placecard.card.model import MAX_SOURCES
from placecard.errors import CardError, Code, DiscoveryError, UsageError

SELF_TEST_S: Final = 10.0
MAX_TEST_BYTES: Final = 64 << 20
_MEND: Final = "Pass --advertise HOST:PORT with a name or address of this host that front ends reach."


@dataclass(frozen=True)
class Advertise:
    """What ``--advertise`` says: a host as in a URL (IPv6 in brackets), and a port or None for the one bound."""

    host: str
    port: int | None = None


def parse_advertise(text: str) -> Advertise:
    """Return the parts of ``HOST:PORT`` or ``HOST``; an IPv6 address stands in brackets.

    Raises:
        UsageError: It is neither, or names every address of a host at once.
    """
    shown = f"--advertise {text[:80]!a}"
    try:
        uri = parse_uri(f"http://{text}/v1")
    except CardError as error:
        raise UsageError(Code.USAGE, error.detail, subject=shown, mend=_MEND) from error
    if not isinstance(uri, HttpUri) or uri.url.count("/") != 3:
        raise UsageError(Code.USAGE, "is not HOST or HOST:PORT", subject=shown, mend=_MEND)
    if _is_wildcard(uri.host):
        detail = "is where to listen, not where to be reached"
        raise UsageError(Code.USAGE, detail, subject=shown, mend=_MEND)
    bare = f"[{uri.host}]" if ":" in uri.host else uri.host
    return Advertise(bare, None if text == bare else uri.port)


def base_url(listen_host: str, listen_port: int, advertise: Advertise | None) -> str:
    """Return the base URL under which a server that listens on ``listen_host`` is advertised.

    Nothing is guessed: of several addresses of a host only its operator knows which one others reach; ``172.17.0.1``,
    the address of a container bridge, exists on every container host, and there it is another machine.

    Raises:
        UsageError: It listens on all addresses, and ``advertise`` names none of them.
    """
    if advertise is not None:
        return f"http://{advertise.host}:{advertise.port or listen_port}"
    if _is_wildcard(listen_host):
        detail = (
            f"listening on {listen_host} does not tell which of this host's addresses front ends reach, and a guess "
            "(a container bridge such as 172.17.0.1) can be another machine's"
        )
        raise UsageError(Code.USAGE, detail, mend=_MEND)
    return f"http://{url_host(listen_host)}:{listen_port}"


def url_host(host: str) -> str:
    """Return ``host`` as it stands in a URL."""
    bare = host.strip("[]")
    return f"[{bare}]" if ":" in bare else bare


def advertised(card: Card, base: str) -> Card:
    """Return ``card`` with the worker's own address first among the sources of each file, the others behind it.

    An earlier address of the same worker's files (another port after a restart) is replaced.

    Args:
        base: ``http://HOST:PORT``.
    """
    return msgspec.structs.replace(card, files=tuple(_with_source(file, card.slug, base) for file in card.files))


async def self_test(
    base: str, card: Card, token: str | None = None, *, listens_on: str = "", timeout_s: float = SELF_TEST_S
) -> None:
    """Fetch the smallest file of ``card`` through the advertised address, as a front end would, and check its digest.

    Args:
        listens_on: ``HOST:PORT`` where the server really is, for the error: often the advertised port is another.

    Raises:
        DiscoveryError: ``ADVERTISE_UNREACHABLE``, with what was seen instead.
    """
    file = min(card.files, key=lambda file: (not file.size, file.size or 0, file.name))  # an empty one proves little
    url = own_uri(file, card.slug, base)
    limit_bytes = MAX_TEST_BYTES if file.size is None else file.size
    try:
        data = await _get(url, token, timeout_s=timeout_s, limit_bytes=limit_bytes)
        if (actual := digest_of(data)) != file.digest:
            raise _unreachable(url, f"answered with {len(data)} bytes of {actual}, not {file.digest}")
    except DiscoveryError as error:
        if not listens_on:
            raise
        raise _unreachable(url, f"{error.detail}; this worker listens on {listens_on}") from error


def own_uri(file: CheckedFile, slug: str, base: str) -> str:
    """Return the URL of ``file`` on the worker: by name for people who read a card, else by digest.

    A few names cannot stand in a source URI (they look encoded twice), and a model of symbols alone has no slug.
    """
    by_name = f"{base}/v1/metadata/{slug}/{quote(file.name)}"
    try:
        parse_uri(by_name)
    except CardError:
        return f"{base}/v1/blobs/blake3/{hex_of(file.digest)}"
    return by_name


def _with_source(file: CheckedFile, slug: str, base: str) -> CheckedFile:
    own = own_uri(file, slug, base)
    path = own.removeprefix(base)
    others = (uri for uri in file.sources if not (uri.startswith("http://") and _path(uri) == path))
    return msgspec.structs.replace(file, sources=(own, *others)[:MAX_SOURCES])


def _path(uri: str) -> str:
    return "/" + uri.split("/", 3)[3]


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return host == ""


async def _get(url: str, token: str | None, *, timeout_s: float, limit_bytes: int) -> bytes:
    import aiohttp

    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False, auto_decompress=False) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise _unreachable(url, f"answered with status {answer.status}")
            data = b""
            async for chunk in answer.content.iter_chunked(1 << 18):
                data += chunk
                if len(data) > limit_bytes:
                    raise _unreachable(url, f"answered with more than {limit_bytes} bytes")
    except TimeoutError as error:
        raise _unreachable(url, f"did not answer within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise _unreachable(url, f"did not answer: {error}") from error
    return data


def _unreachable(url: str, seen: str) -> DiscoveryError:
    return DiscoveryError(Code.ADVERTISE_UNREACHABLE, seen, subject=url)
