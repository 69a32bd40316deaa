"""The worker's metadata server as a raw ASGI application: what is asked, what is answered.

``GET|HEAD /v1/blobs/blake3/{hex}``, ``/v1/metadata/{slug}/{name}`` and ``/healthz``; nothing else. Answers name no
path of this host.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio import to_thread

from placecard.errors import Code, UsageError
from placecard.publisher.catalogue import Catalogue, Hosted, path_parts
from placecard.publisher.pins import MEND, MEND_AFTER_S, ChangedError, Pins, lost
from placecard.telemetry import Observe, ignore

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
Fields = Sequence[tuple[bytes, bytes]]

MIN_RATE: Final = 8 << 10
"""Bytes a second that a client must take."""
RATE_WINDOW_S: Final = 10.0
CHUNK_BYTES: Final = int(MIN_RATE * RATE_WINDOW_S)
CHECK_S: Final = 10.0
MAX_FIELD_BYTES: Final = 16 << 10
_JSON: Final = (b"content-type", b"application/json")
_CLOSE: Final = (b"connection", b"close")


@dataclass(frozen=True)
class Limits:
    """How much one server does at a time.

    Args:
        requests: File requests in flight; further ones are told to come back.
        stall_s: Seconds that a client may take for one chunk of 80 KiB; a slower one is given up.
        check_s: Seconds between two looks at the files that are served.
        mend_after_s: As for :class:`~placecard.publisher.pins.Pins`.
    """

    requests: int = 64
    stall_s: float = RATE_WINDOW_S
    check_s: float = CHECK_S
    mend_after_s: float = MEND_AFTER_S


@dataclass(frozen=True)
class Reply:
    """An answer that is known without looking at a file."""

    status: int
    body: bytes = b""
    headers: Headers = ()


@dataclass(frozen=True)
class Give:
    """The answer is a file."""

    file: Hosted


def decide(
    method: str,
    target: bytes,
    headers: Fields,
    catalogue: Catalogue,
    token: str | None,
    *,
    wrong: Mapping[Code, int] | None = None,
) -> Reply | Give:
    """Return the answer to a request.

    Args:
        target: The path as it was sent, undecoded, without query.
        headers: Names in lower case.
        token: What clients must show; None for open access. ``/healthz`` is always open.
        wrong: How many files are not what was pinned, by what is wrong.
    """
    parts = path_parts(target)
    if parts is None:
        return refusal(400, "BAD_PATH", "The path is not a plain one.")
    objection = _objection(method, parts, headers, token)
    if objection is not None:
        return objection
    if parts == ("healthz",):
        return _health(wrong or {})
    file = catalogue.find(parts)
    if file is None:
        return refusal(404, Code.NOT_FOUND, "There is no such file.")
    if _is_held(file.digest, headers):
        return Reply(304, headers=_about(file))
    return Give(file)


def _health(wrong: Mapping[Code, int]) -> Reply:
    if not wrong:
        return Reply(200, b'{"status":"ok"}', (_JSON,))
    reasons = [{"code": code.value, "files": count, "mend": MEND} for code, count in sorted(wrong.items())]
    return Reply(503, json.dumps({"status": "failing", "reasons": reasons}).encode(), (_JSON,))


def _objection(method: str, parts: tuple[str, ...], fields: Fields, token: str | None) -> Reply | None:
    if sum(len(name) + len(value) for name, value in fields) > MAX_FIELD_BYTES:
        return refusal(431, "HEADERS_TOO_LARGE", "The header fields are too long.", (_CLOSE,))
    if any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in fields):
        return refusal(400, "BODY_FORBIDDEN", "A request has no body here.", (_CLOSE,))
    if parts != ("healthz",) and not _may_pass(fields, token):
        challenge = (b"www-authenticate", b'Bearer realm="placecard"')
        return refusal(401, Code.UNAUTHORIZED, "A bearer token is wanted.", (challenge,))
    if method not in ("GET", "HEAD"):
        return refusal(405, "METHOD_FORBIDDEN", "Only GET and HEAD are served.", ((b"allow", b"GET, HEAD"),))
    return None


def refusal(status: int, code: str, message: str, headers: Headers = ()) -> Reply:
    """Return an error as a small JSON object."""
    body = json.dumps({"error": {"code": str(code), "message": message}}).encode()
    return Reply(status, body, (_JSON, *headers))


class MetadataApp:
    """The ASGI application.

    Args:
        token: Bearer token that clients must show; None for open access.

    Raises:
        UsageError: The token cannot stand in a header.
    """

    def __init__(
        self, catalogue: Catalogue, *, token: str | None = None, limits: Limits | None = None, observe: Observe = ignore
    ) -> None:
        check_token(token)
        limits = limits or Limits()
        self._catalogue = catalogue
        self._pins = Pins(catalogue.files, mend_after_s=limits.mend_after_s)
        self._token = token
        self._limits = limits
        self._observe = observe
        self._in_flight = 0
        self._threads = anyio.CapacityLimiter(8)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method, path, headers = scope["method"], scope["raw_path"], scope["headers"]
        answer = decide(method, path, headers, self._catalogue, self._token, wrong=self._pins.wrong())
        if isinstance(answer, Reply):
            await _reply(send, answer)
        elif self._in_flight >= self._limits.requests:
            await _reply(send, refusal(503, "BUSY", "Too many requests at once.", ((b"retry-after", b"1"),)))
        else:
            self._in_flight += 1
            try:
                await self._give(answer.file, method, receive, send)
            finally:
                self._in_flight -= 1

    async def keep(self) -> None:
        """Look at the files time and again, state what became of them, and mend what can be, until cancelled."""
        while True:
            await anyio.sleep(self._limits.check_s)
            await to_thread.run_sync(self._pins.check, limiter=self._threads)
            self._state()

    def _state(self) -> None:
        for fact in self._pins.facts():
            self._observe(fact)

    async def _give(self, file: Hosted, method: str, receive: Receive, send: Send) -> None:
        try:
            fd, size = await to_thread.run_sync(self._pins.open, file.digest, limiter=self._threads)
        except (OSError, ChangedError) as error:
            self._observe(lost(file, error))
            await _reply(send, refusal(500, Code.STORE_CORRUPT, "The file is no longer what it was."))
            return
        finally:
            self._state()
        try:
            head = (*_about(file), (b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % size))
            await send({"type": "http.response.start", "status": 200, "headers": head})
            if method == "HEAD" or size == 0:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await self._stream(file, fd, size, receive, send)
        finally:
            os.close(fd)

    async def _stream(self, file: Hosted, fd: int, size: int, receive: Receive, send: Send) -> None:
        """Send the body, unless the client leaves or stops reading. An answer cut short ends in a closed connection."""
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            try:
                await self._chunks(fd, size, send)
            except ChangedError as error:
                self._observe(lost(file, error))
            except TimeoutError:
                pass  # the client's own doing; its connection is closed when this returns without the last chunk
            group.cancel_scope.cancel()

    async def _chunks(self, fd: int, size: int, send: Send) -> None:
        offset = 0
        while offset < size:
            count = min(CHUNK_BYTES, size - offset)
            data = await to_thread.run_sync(os.pread, fd, count, offset, limiter=self._threads)
            if not data:
                raise ChangedError(f"ended after {offset} of {size} bytes")
            offset += len(data)
            with anyio.fail_after(self._limits.stall_s):
                await send({"type": "http.response.body", "body": data, "more_body": offset < size})


def check_token(token: str | None) -> None:
    """Raise unless ``token`` can stand in a header.

    Raises:
        UsageError: It cannot.
    """
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(Code.USAGE, "is empty, or holds a space or a character outside ASCII", subject="token")


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _reply(send: Send, reply: Reply) -> None:
    headers = reply.headers if reply.status == 304 else (*reply.headers, (b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})


def _about(file: Hosted) -> Headers:
    # no-transform: what a proxy compresses is not the file that the digest names.
    return (
        (b"etag", f'"{file.digest}"'.encode()),
        (b"accept-ranges", b"none"),
        (b"cache-control", b"no-transform"),
        (b"x-content-type-options", b"nosniff"),
    )


def _may_pass(fields: Fields, token: str | None) -> bool:
    if token is None:
        return True
    shown = [value for name, value in fields if name == b"authorization"]
    scheme, _, credential = shown[0].partition(b" ") if len(shown) == 1 else (b"", b"", b"")
    return scheme.lower() == b"bearer" and hmac.compare_digest(credential.strip(), token.encode())


def _is_held(digest: str, fields: Fields) -> bool:
    wanted = f'"{digest}"'.encode()
    tags = [tag.strip() for name, value in fields if name == b"if-none-match" for tag in value.split(b",")]
    return any(tag == b"*" or tag.removeprefix(b"W/") == wanted for tag in tags)
