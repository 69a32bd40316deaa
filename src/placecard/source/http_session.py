"""The one aiohttp session of an :class:`~placecard.source.HttpSource`. Imported late: aiohttp takes its time."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from placecard.errors import Code, SourceError
from placecard.source.addresses import Network, why_forbidden
from placecard.source.base import TransferError
from placecard.source.threads import run_detached

Lookup = Callable[[str, int], Sequence[str]]
"""Host name and port to IP addresses in text; blocking; raises ``OSError``."""

MAX_HEADER_BYTES: Final = 8190
MAX_HEADERS: Final = 128
MAX_ANSWERS: Final = 256
_DIALLED: Final = 8  # addresses of one name that are tried


class ForbiddenAddressError(OSError):
    """The last barrier: a socket was about to be made for an address that may not be connected to."""


def system_lookup(host: str, port: int) -> list[str]:
    """Return what the system's resolver says."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in answers]


def make_session(
    ranges: Sequence[Network], lookup: Lookup, *, connect_timeout_s: float, chunk_bytes: int
) -> aiohttp.ClientSession:
    """Return a session that connects to vetted addresses only, decodes nothing and reads no environment."""

    def vetted_socket(addr_info: Any) -> socket.socket:
        family, kind, proto, _, address = addr_info
        if why := why_forbidden(address[0], ranges):
            raise ForbiddenAddressError(errno.EACCES, f"{address[0]} is {why}")
        return socket.socket(family, kind, proto)

    connector = aiohttp.TCPConnector(
        resolver=_VettingResolver(ranges, lookup, connect_timeout_s),
        use_dns_cache=False,
        limit=0,  # HttpSource counts by itself, so that waiting for a turn is not taken for a slow source
        socket_factory=vetted_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "placecard"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        read_bufsize=chunk_bytes,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
    )


class _VettingResolver(AbstractResolver):
    """Resolves once, vets every answer, and hands on nothing if one of them is forbidden."""

    def __init__(self, ranges: Sequence[Network], lookup: Lookup, deadline_s: float) -> None:
        self._ranges, self._lookup, self._deadline_s = ranges, lookup, deadline_s

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answers = await self._answers(host, port)
        for address in answers:
            if why := why_forbidden(address, self._ranges):
                raise SourceError(Code.DESTINATION_FORBIDDEN, f"{host} resolves to {address}, which is {why}")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in answers[:_DIALLED]
        ]

    async def close(self) -> None:
        """Nothing is held."""

    async def _answers(self, host: str, port: int) -> list[str]:
        try:
            answers = await run_detached(lambda: self._lookup(host, port), deadline_s=self._deadline_s)
        except TimeoutError as error:
            detail = f"the name {host} was not resolved in {self._deadline_s:g} s"
            raise SourceError(Code.CONNECT_FAILED, detail) from error
        except (OSError, UnicodeError) as error:
            raise SourceError(Code.CONNECT_FAILED, f"the name {host} does not resolve: {error}") from error
        if not answers or len(answers) > MAX_ANSWERS:
            raise SourceError(Code.CONNECT_FAILED, f"the name {host} has {len(answers)} addresses")
        return list(dict.fromkeys(answers))


def translated(error: Exception, subject: str, *, started: bool) -> SourceError:  # noqa: PLR0911 - a table
    """Return what a failure of aiohttp means.

    Args:
        error: What was raised.
        subject: The URI.
        started: Whether the head of the answer had arrived.
    """
    match error:
        case SourceError():
            return type(error)(error.code, error.detail, subject=subject)
        case aiohttp.ClientConnectorCertificateError():
            return SourceError(Code.TLS_ERROR, _brief(error.certificate_error), subject=subject)
        case aiohttp.ClientConnectorSSLError():
            return SourceError(Code.TLS_ERROR, _brief(error.os_error), subject=subject)
        case aiohttp.ClientConnectorError(os_error=ForbiddenAddressError() as refused):
            return SourceError(Code.DESTINATION_FORBIDDEN, _brief(refused), subject=subject)
        case aiohttp.ClientConnectorError(os_error=ConnectionError(errno=None)):
            # Only asyncio's TLS layer raises these without a number: TCP was connected by then.
            return SourceError(Code.TLS_ERROR, "the handshake was broken off", subject=subject)
        case aiohttp.ClientConnectorError():
            return SourceError(Code.CONNECT_FAILED, _brief(error.os_error), subject=subject)
        case aiohttp.ConnectionTimeoutError():
            return SourceError(Code.CONNECT_FAILED, "no connection in time", subject=subject)
        case aiohttp.ClientPayloadError() if not _closed_early(error):
            return SourceError(Code.PROTOCOL_ERROR, _brief(error), subject=subject)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            where = "in the middle of the body" if started else "without an answer"
            return SourceError(Code.TRUNCATED, f"the connection was closed {where}", subject=subject)
        case aiohttp.ClientResponseError():
            return SourceError(Code.PROTOCOL_ERROR, _brief(error.message), subject=subject)
        case _:
            return TransferError(
                Code.PROTOCOL_ERROR, f"{type(error).__name__}: {_brief(error)}", subject=subject, transient=True
            )


def _closed_early(error: aiohttp.ClientPayloadError) -> bool:
    """Whether a body broke off, rather than being wrong. aiohttp says so only in words."""
    text = str(error)
    return "ContentLengthError" in text or "Not enough data" in text or "Connection lost" in text


def _brief(error: object) -> str:
    """Return the cause of an error on one bounded line, without what it quotes: that may be our token."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    said = re.split(r"[:\s]+(?:b['\"]|<)", text, maxsplit=1)[0]
    return ascii(" ".join(said.split()))[1:-1][:200] or type(error).__name__
