"""Files that workers and front ends serve: ``http(s)://`` URIs, within the operator's address ranges."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

import anyio

from placecard.card import HttpUri, Uri
from placecard.errors import Code, SourceError
from placecard.source.addresses import DEFAULT_RANGES, Network, is_address, why_forbidden
from placecard.source.base import TransferError
from placecard.source.pace import Pace

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

    from placecard.source.http_session import Lookup

CHUNK_BYTES: Final = 1 << 20


class HttpSource:
    """Asks workers for files. Use with ``async with``: connections are kept and reused until it is left.

    A host name is resolved once for a connection, every answer is vetted, and the connection goes to a vetted address.
    No redirect is followed, no body decoded, no proxy or other environment read.

    Args:
        ranges: Networks that may be connected to; link-local, metadata, multicast and translated addresses never may.
        token: Bearer token of the workers; sent to addresses within ``ranges`` alone, and shown nowhere.
        token_origins: ``scheme://host:port`` of those who may have the token; everyone within ``ranges`` if None.
        allowed_origins: ``scheme://host:port`` of all that may be asked at all, for a card may name what nobody
            registered; everyone within ``ranges`` if None.
        connect_timeout_s: For the look-up of a name, and again for TCP and TLS.
        header_timeout_s: From the request to the end of the answer's head.
        total_timeout_s: Of waiting for one file's bytes; time that the consumer takes does not count.
        min_rate_bytes_s: Rate that each window must reach.
        rate_window_s: Length of the window, and the longest silence.
        per_host: Connections to one host and port; more requests wait for their turn.
        lookup: Host name and port to addresses; the system's resolver if omitted.
        tls: Trust for ``https``; the system's if omitted.
    """

    def __init__(
        self,
        *,
        ranges: Sequence[Network] = DEFAULT_RANGES,
        token: str | None = None,
        token_origins: Collection[str] | None = None,
        allowed_origins: Collection[str] | None = None,
        connect_timeout_s: float = 5.0,
        header_timeout_s: float = 10.0,
        total_timeout_s: float = 300.0,
        min_rate_bytes_s: float = 8192.0,
        rate_window_s: float = 10.0,
        per_host: int = 16,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._ranges = tuple(ranges)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._token_origins = None if token_origins is None else frozenset(token_origins)
        self._allowed_origins = None if allowed_origins is None else frozenset(allowed_origins)
        self._connect_timeout_s = connect_timeout_s
        self._header_timeout_s = header_timeout_s
        self._new_pace: Callable[[], Pace] = lambda: Pace(min_rate_bytes_s, rate_window_s, total_timeout_s)
        self._per_host = per_host
        self._turns: dict[tuple[str, int], anyio.Semaphore] = {}
        self._lookup = lookup
        self._tls = tls
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        from placecard.source.http_session import make_session, system_lookup

        self._session = make_session(
            self._ranges,
            self._lookup or system_lookup,
            connect_timeout_s=self._connect_timeout_s,
            chunk_bytes=CHUNK_BYTES,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def open(self, uri: Uri) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of the file at ``uri`` as they arrive.

        Raises:
            SourceError: ``DESTINATION_FORBIDDEN``, ``CONNECT_FAILED``, ``TLS_ERROR``, ``PROTOCOL_ERROR``,
                ``NOT_FOUND``, ``UNAUTHORIZED``, ``HTTP_STATUS``, ``REDIRECT_FORBIDDEN`` or ``ENCODING_FORBIDDEN`` on
                entry; ``TRUNCATED``, ``PROTOCOL_ERROR`` or ``SLOW_SOURCE`` at any time.
        """
        assert isinstance(uri, HttpUri)
        if self._allowed_origins is not None and uri.origin not in self._allowed_origins:
            mend = f"If this is a worker's address all the same, allow it with --worker-origin {uri.origin}."
            detail = "no worker registered this address"
            raise SourceError(Code.DESTINATION_FORBIDDEN, detail, subject=str(uri), mend=mend)
        if is_address(uri.host) and (why := why_forbidden(uri.host, self._ranges)):
            raise SourceError(Code.DESTINATION_FORBIDDEN, f"the address is {why}", subject=str(uri))
        async with self._turn(uri):
            answer = await self._ask(uri)
            try:
                judge(uri, answer.status, _values(answer, "Content-Encoding"), _values(answer, "Transfer-Encoding"))
                async with aclosing(self._body(uri, answer, self._new_pace())) as chunks:
                    yield chunks
            finally:
                answer.close()  # an answer read to its end has given its connection back by now

    def _headers_for(self, uri: HttpUri) -> dict[str, str]:
        return self._headers if self._token_origins is None or uri.origin in self._token_origins else {}

    @asynccontextmanager
    async def _turn(self, uri: HttpUri) -> AsyncIterator[None]:
        key = (uri.host, uri.port)
        turns = self._turns.setdefault(key, anyio.Semaphore(self._per_host))
        try:
            async with turns:
                yield
        finally:
            if turns.value == self._per_host:
                self._turns.pop(key, None)

    async def _ask(self, uri: HttpUri) -> ClientResponse:
        from yarl import URL

        if self._session is None:
            raise RuntimeError("HttpSource is used outside `async with`")
        if uri.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        request = self._session.get(
            URL(uri.url, encoded=True), allow_redirects=False, headers=self._headers_for(uri), ssl=self._tls or True
        )
        try:
            async with asyncio.timeout(self._header_timeout_s) as scope:
                answer = await request
        except TimeoutError as error:
            if not scope.expired():
                raise _translated(error, uri, started=False) from error
            detail = f"no answer in {self._header_timeout_s:g} s"
            raise SourceError(Code.SLOW_SOURCE, detail, subject=str(uri)) from error
        except Exception as error:  # the edge: whatever the client raises becomes a SourceError
            raise _translated(error, uri, started=False) from error
        return answer

    async def _body(self, uri: HttpUri, answer: ClientResponse, pace: Pace) -> AsyncGenerator[bytes, None]:
        while chunk := await self._chunk(uri, answer, pace):
            yield chunk

    async def _chunk(self, uri: HttpUri, answer: ClientResponse, pace: Pace) -> bytes:
        """Return the next chunk, empty at the end."""
        while True:
            began = time.monotonic()
            chunk: bytes | None = None
            try:
                async with asyncio.timeout(pace.patience_s()) as scope:
                    chunk = await answer.content.read(CHUNK_BYTES)
            except TimeoutError as error:
                if not scope.expired():
                    raise _translated(error, uri, started=True) from error
                chunk = _arrived(answer, uri)
            except Exception as error:
                raise _translated(error, uri, started=True) from error
            slow = pace.waited(time.monotonic() - began, len(chunk or b""))
            if chunk == b"":
                return chunk
            if slow:
                raise SourceError(Code.SLOW_SOURCE, slow, subject=str(uri))
            if chunk is not None:
                return chunk


def judge(uri: HttpUri, status: int, encodings: Sequence[str], transfers: Sequence[str]) -> None:
    """Raise unless an answer with this head is followed by the plain bytes of the file.

    Args:
        uri: What was asked for.
        status: HTTP status.
        encodings: Values of ``Content-Encoding``.
        transfers: Values of ``Transfer-Encoding``.

    Raises:
        SourceError: See :meth:`HttpSource.open`.
    """
    subject = str(uri)
    if status == 206:
        raise SourceError(
            Code.PROTOCOL_ERROR, "answered with a part (206) though the whole was asked for", subject=subject
        )
    if status < 200 or status == 304:
        raise SourceError(Code.PROTOCOL_ERROR, f"answered {status}, which was not asked for", subject=subject)
    if status < 300:
        if any(encoding.strip().lower() not in ("", "identity") for encoding in encodings):
            shown = ascii(", ".join(encodings))[:60]
            raise SourceError(Code.ENCODING_FORBIDDEN, f"the body is encoded as {shown}", subject=subject)
        if any(transfer.strip().lower() != "chunked" for transfer in transfers):
            raise SourceError(Code.PROTOCOL_ERROR, "a transfer encoding other than chunked", subject=subject)
        return
    if status < 400:
        raise SourceError(Code.REDIRECT_FORBIDDEN, f"answered {status}", subject=subject)
    if status in (401, 403):
        raise SourceError(Code.UNAUTHORIZED, f"answered {status}", subject=subject)
    if status in (404, 410):
        raise SourceError(Code.NOT_FOUND, f"answered {status}", subject=subject)
    raise TransferError(
        Code.HTTP_STATUS, f"answered {status}", subject=subject, transient=status >= 500 or status in (408, 429)
    )


def _arrived(answer: ClientResponse, uri: HttpUri) -> bytes | None:
    """Return what came while nobody looked, for this process may have been what was slow; None if nothing did."""
    try:
        chunk = answer.content.read_nowait(CHUNK_BYTES)
    except Exception as error:
        raise _translated(error, uri, started=True) from error
    return chunk if chunk or answer.content.at_eof() else None


def _values(answer: ClientResponse, name: str) -> list[str]:
    return list(answer.headers.getall(name, []))


def _translated(error: Exception, uri: HttpUri, *, started: bool) -> SourceError:
    from placecard.source.http_session import translated

    return translated(error, str(uri), started=started)
