"""Serve a worker's metadata files from sealed copies."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio import to_thread

from placecard.errors import Code, UsageError
from placecard.publisher.advertise import url_host
from placecard.publisher.app import Limits, MetadataApp
from placecard.publisher.beside import beside
from placecard.publisher.catalogue import Catalogue, HostedModel
from placecard.telemetry import Observe, ignore


@dataclass(frozen=True)
class MetadataServer:
    """A server that runs: ``url`` is where this host itself reaches it; ``port`` is the one that was bound."""

    url: str
    host: str
    port: int


@asynccontextmanager
async def serve_metadata(
    models: Sequence[HostedModel],
    *,
    host: str,
    port: int = 0,
    listener: socket.socket | None = None,
    token: str | None = None,
    limits: Limits | None = None,
    observe: Observe = ignore,
) -> AsyncGenerator[MetadataServer]:
    """Serve ``models`` while the body runs. Answers under way get a few seconds to end.

    Args:
        host: Address or name to listen on; ``0.0.0.0`` or ``::`` for all.
        port: 0 for one that is free.
        listener: A socket of :func:`listening` for ``host``, which is then used and stays its owner's to close.
        token: Bearer token that clients must show; None for open access.

    Raises:
        UsageError: The address cannot be listened on, or the token cannot stand in a header.
        StoreError: ``STORE_MISSING``; a file on a card has no copy.
    """
    app = MetadataApp(Catalogue(models), token=token, limits=limits, observe=observe)
    async with AsyncExitStack() as stack:
        own = listener if listener is not None else await stack.enter_async_context(listening(host, port))
        from placecard.publisher.connection import MetadataUvicorn

        server = MetadataUvicorn(app)

        async def serve() -> None:
            # A cancelled uvicorn leaves its connections open; asked to stop, it stops within its deadline.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[own])

        number = own.getsockname()[1]
        async with beside(serve, server.reap, app.keep):
            try:
                await server.ready.wait()
                yield MetadataServer(_local_url(host, number), host, number)
            finally:
                server.should_exit = True
        server.abort_all()


@asynccontextmanager
async def listening(host: str, port: int) -> AsyncGenerator[socket.socket]:
    """Yield a socket that listens: whoever connects waits until it is served.

    Raises:
        UsageError: As :func:`bound`.
    """
    listener = await to_thread.run_sync(bound, host, port)
    try:
        yield listener
    finally:
        listener.close()


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host`` and ``port``. Blocking: the name is looked up.

    Raises:
        UsageError: The address is not one of this host, or is taken.
    """
    shown = f"{url_host(host)}:{port}"
    if not 0 <= port < 65536:
        raise UsageError(Code.USAGE, "the port is outside 0 to 65535", subject=shown)
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(Code.USAGE, "cannot be looked up", subject=shown) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        detail = "the port is in use" if taken else f"cannot listen there: {error.strerror}"
        raise UsageError(Code.USAGE, detail, subject=shown, mend="Choose another address or port.") from error
    return listener


def _local_url(host: str, port: int) -> str:
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host.strip("[]"), host)  # noqa: S104 - compared
    return f"http://{url_host(here)}:{port}"
