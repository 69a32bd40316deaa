"""An HTTP server that can lie, stall, drip, truncate and reset: raw asyncio, so that it may break every rule.

::

    async with FaultyServer() as server:
        server.serve("/config.json", Reply(b"{}", cut_at=1, then=Then.RESET))
        ... ask server.url + "/config.json"
        assert server.requests == [...]

It also counts connections: one that must see none is a canary. From the command line, ``python -m
tests.simulator.faulty`` serves one file of each kind of trouble until it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self


class Then(StrEnum):
    """What happens once the last byte was written."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"


@dataclass(frozen=True)
class Reply:
    """One answer, with its dials.

    Args:
        body: Bytes of the body before any dial is applied.
        status: Status line after ``HTTP/1.1``.
        headers: Written after Content-Length, in order, duplicates and all.
        length: Content-Length as text; None for the true one, empty for no such header.
        chunked: Send the body in HTTP chunks of this many bytes; 0 for no chunked encoding.
        cut_at: Send only that many bytes of the body.
        then: What comes after the last byte.
        delay_s: Wait before the head.
        drip_bytes: Write the body (and with ``drip_head`` the head) in pieces of this size.
        drip_s: Wait between two pieces.
        drip_head: Whether the head drips, too.
        repeat: Send the body over and over, without end.
        raw: Written instead of everything above, as it is.
    """

    body: bytes = b""
    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = ()
    length: str | None = None
    chunked: int = 0
    cut_at: int | None = None
    then: Then = Then.KEEP
    delay_s: float = 0.0
    drip_bytes: int = 0
    drip_s: float = 0.0
    drip_head: bool = False
    repeat: bool = False
    raw: bytes | None = None


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class FaultyServer:
    """Serves :class:`Reply` values by request target; anything else is a 404.

    Args:
        host: Address to listen on.
        wanted_port: Port to listen on; 0 for any.
        tls: Server-side context; None for plain HTTP.
    """

    host: str = "127.0.0.1"
    wanted_port: int = 0
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    sent_bytes: int = 0
    _replies: dict[str, list[Reply]] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def serve(self, target: str, *replies: Reply) -> str:
        """Answer ``target`` with ``replies`` in turn, the last one for ever; return the URL."""
        self._replies[target] = list(replies)
        return self.url + target

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.wanted_port, ssl=self.tls)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        while self._writers:
            await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                replies = self._replies.get(request.target, [Reply(b"none such\n", status="404 Not Found")])
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                await self._answer(writer, reply)
                if not await _finish(reader, writer, reply.then):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
            return  # the client left: expected by most tests
        except asyncio.CancelledError:
            return  # the loop is being closed with a connection open
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        await asyncio.sleep(reply.delay_s)
        if reply.raw is not None:
            await self._write(writer, reply.raw, reply)
            return
        await self._write(writer, _head(reply), reply if reply.drip_head else Reply())
        if reply.repeat:
            piece = _framed(reply.body, reply.chunked)
            while True:
                await self._write(writer, piece, reply)
        body = reply.body if reply.cut_at is None else reply.body[: reply.cut_at]
        framed = _framed(body, reply.chunked)
        if reply.chunked and reply.cut_at is None:
            framed += b"0\r\n\r\n"
        await self._write(writer, framed, reply)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, reply: Reply) -> None:
        step = reply.drip_bytes or max(1, len(data))
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            self.sent_bytes += min(step, len(data) - start)
            await writer.drain()
            if reply.drip_s:
                await asyncio.sleep(reply.drip_s)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = line.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
    return Request(method, target, headers)


async def _finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, then: Then) -> bool:
    """Do what comes after the last byte; return whether the connection lives on."""
    if then is Then.KEEP:
        return True
    if then is Then.STALL:
        await reader.read()  # until the client leaves
    if then is Then.RESET:
        await asyncio.sleep(0.02)  # let what was written arrive, else the reset overtakes it
        raw: socket.socket | None = writer.get_extra_info("socket")
        if raw is not None and not writer.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return False


def _head(reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status}"]
    if reply.chunked:
        lines.append("Transfer-Encoding: chunked")
    elif reply.length is None and not reply.repeat:
        lines.append(f"Content-Length: {len(reply.body)}")
    elif reply.length:
        lines.append(f"Content-Length: {reply.length}")
    if reply.then is not Then.KEEP:
        lines.append("Connection: close")
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _framed(body: bytes, chunked: int) -> bytes:
    if not chunked:
        return body
    pieces = (body[start : start + chunked] for start in range(0, len(body), chunked))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


BODY: Final = b'{"model_type": "qwen2_vl", "vocab_size": 512}\n' * 64

TROUBLES: Final[dict[str, Reply]] = {
    "/good": Reply(BODY),
    "/chunked": Reply(BODY, chunked=100),
    "/truncated": Reply(BODY, cut_at=len(BODY) - 1, then=Then.CLOSE),
    "/reset": Reply(BODY, cut_at=100, then=Then.RESET),
    "/stall": Reply(BODY, cut_at=len(BODY) - 1, then=Then.STALL),
    "/drip": Reply(BODY, drip_bytes=1, drip_s=1.0),
    "/longer": Reply(BODY + b"and more", length=str(len(BODY)), then=Then.CLOSE),
    "/gzip": Reply(BODY, headers=(("Content-Encoding", "gzip"),)),
    "/redirect": Reply(status="302 Found", headers=(("Location", "http://169.254.169.254/"),)),
    "/part": Reply(BODY, status="206 Partial Content"),
    "/html": Reply(b"<!DOCTYPE html><title>Sign in</title>", headers=(("Content-Type", "text/html"),)),
    "/endless": Reply(b"x" * 65536, chunked=65536, repeat=True),
    "/error": Reply(b"sorry", status="500 Internal Server Error"),
}
"""One file of each kind of trouble, for demonstrations."""


@contextlib.asynccontextmanager
async def canary(host: str = "127.0.0.1") -> AsyncIterator[FaultyServer]:
    """Yield a listener that must see no connection; says so loudly on leaving if it has."""
    async with FaultyServer(host) as server:
        yield server
        assert server.connections == 0, f"the canary on {server.url} was reached"


async def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    async with FaultyServer(options.host) as server:
        for target, reply in TROUBLES.items():
            print(server.serve(target, reply), flush=True)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_main())
