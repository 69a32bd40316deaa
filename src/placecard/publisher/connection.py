"""uvicorn's connections and server, with the deadlines that they lack. Imported late: uvicorn takes time to load."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import anyio
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from placecard.publisher.app import MetadataApp

MAX_CONNECTIONS: Final = 512
MAX_OF_ONE_ADDRESS: Final = 64
MAX_HEAD_BYTES: Final = 16 << 10
REQUEST_S: Final = 10.0
KEEP_ALIVE_S: Final = 5
STOP_S: Final = 3


class GuardedConnection(H11Protocol):
    """A connection that knows how long nothing has come of it.

    uvicorn drops its keep-alive timer at the first byte, so a client that sends a byte now and then, or never reads
    the end of an answer, holds a connection for ever. Source: encode/uvicorn issue 157; xorbitsai/inference issue
    5213.
    """

    _since: float | None = None
    _cycle: object = None
    _unsent = 0

    def connection_made(self, transport: object) -> None:
        """Accept the connection, or drop it where there are too many, of this address or at all."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > MAX_CONNECTIONS or self._of_my_address() > MAX_OF_ONE_ADDRESS:
            self.transport.abort()

    def _of_my_address(self) -> int:
        mine = self.client[0] if self.client else None
        clients = (each.client for each in self.connections if isinstance(each, GuardedConnection))
        return sum(client is not None and client[0] == mine for client in clients)

    def overdue(self, now: float, limit_s: float = REQUEST_S) -> bool:
        """Whether for ``limit_s`` seconds no whole request arrived and no more of an answer was taken."""
        busy = self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing()
        unsent = self.transport.get_write_buffer_size()
        if self._since is None or busy or self.cycle is not self._cycle or unsent < self._unsent:
            self._since = now
        self._cycle, self._unsent = self.cycle, unsent
        return now - self._since > limit_s


class MetadataUvicorn(Server):
    """A uvicorn server that leaves signals to the program it is part of."""

    def __init__(self, app: MetadataApp) -> None:
        super().__init__(
            Config(
                app,
                http=GuardedConnection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                loop="none",
                log_config=None,
                log_level="error",  # a warning for each malformed request is a way to fill a disk
                access_log=False,
                proxy_headers=False,
                forwarded_allow_ips=[],
                server_header=False,
                workers=1,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_S,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )
        self.ready = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start to serve, and say so."""
        await super().startup(sockets)  # type: ignore[arg-type]
        self.ready.set()

    async def reap(self, *, every_s: float = 1.0) -> None:
        """Abort overdue connections, time and again, until cancelled."""
        while True:
            await anyio.sleep(every_s)
            now = anyio.current_time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, GuardedConnection) and connection.overdue(now):
                    connection.transport.abort()

    def abort_all(self) -> None:
        """Drop what is left of the connections after the stop."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
