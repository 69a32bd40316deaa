"""Connections that lead nowhere are dropped; those that get on are not."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from placecard.card import Card, CheckedFile, digest_of
from placecard.publisher import HostedModel, MetadataApp, serve_metadata
from placecard.publisher.catalogue import Catalogue
from placecard.publisher.connection import GuardedConnection, MetadataUvicorn


class Transport:
    """As much of a transport as the guard looks at."""

    def __init__(self) -> None:
        self.unsent = 0
        self.closing = False
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = True


class Peer(Transport):
    """A transport of a client at an address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self._address, 4711) if name == "peername" else default


class Cycle:
    def __init__(self, *, complete: bool) -> None:
        self.response_complete = complete


@pytest.fixture
async def server() -> MetadataUvicorn:
    return MetadataUvicorn(MetadataApp(Catalogue([])))


@pytest.fixture
def connection(server: MetadataUvicorn) -> GuardedConnection:
    server.config.load()
    connection = GuardedConnection(server.config, server.server_state, {}, None)
    connection.transport = Transport()  # type: ignore[assignment]
    server.server_state.connections.add(connection)
    return connection


def transport_of(connection: GuardedConnection) -> Transport:
    transport = connection.transport
    assert isinstance(transport, Transport)
    return transport


async def test_a_request_that_never_ends_is_overdue(connection: GuardedConnection) -> None:
    assert [connection.overdue(float(now), 10) for now in range(12)] == [False] * 11 + [True]


async def test_a_connection_that_makes_requests_is_not_overdue(connection: GuardedConnection) -> None:
    for now in range(0, 100, 5):
        connection.cycle = Cycle(complete=True)  # type: ignore[assignment]
        assert not connection.overdue(float(now), 10)


async def test_an_answer_under_way_is_not_overdue(connection: GuardedConnection) -> None:
    connection.cycle = Cycle(complete=False)  # type: ignore[assignment]
    assert not any(connection.overdue(float(now), 10) for now in range(0, 1000, 9))


async def test_the_end_of_an_answer_that_is_read_slowly_is_not_overdue(connection: GuardedConnection) -> None:
    connection.cycle = Cycle(complete=True)  # type: ignore[assignment]
    transport_of(connection).closing = True
    for now in range(0, 100, 9):
        transport_of(connection).unsent = 1000 - now
        assert not connection.overdue(float(now), 10)


async def test_the_end_of_an_answer_that_nobody_reads_is_overdue(connection: GuardedConnection) -> None:
    connection.cycle = Cycle(complete=False)  # type: ignore[assignment]
    transport_of(connection).closing = True
    transport_of(connection).unsent = 1000
    assert not connection.overdue(0.0, 10)
    assert connection.overdue(11.0, 10)


async def test_an_overdue_connection_is_aborted(
    server: MetadataUvicorn, connection: GuardedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "overdue", lambda now: True)
    with anyio.move_on_after(0.05):
        await server.reap(every_s=0.01)
    assert transport_of(connection).aborted


async def test_one_connection_too_many_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("placecard.publisher.connection.MAX_CONNECTIONS", 2)
    (tmp_path / "blob").write_bytes(b"{}")
    file = CheckedFile(name="config.json", digest=digest_of(b"{}"), size=2)
    model = HostedModel(Card(name="m", files=(file,)), {file.digest: tmp_path / "blob"})
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    async with serve_metadata([model], host="127.0.0.1") as server:
        kept = [await anyio.connect_tcp("127.0.0.1", server.port) for _ in range(2)]
        for stream in kept:
            await stream.send(request)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        surplus = await anyio.connect_tcp("127.0.0.1", server.port)
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await surplus.send(request)
            await surplus.receive()
        for stream in (*kept, surplus):
            await stream.aclose()


async def test_one_address_cannot_take_all_connections(
    connection: GuardedConnection, server: MetadataUvicorn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placecard.publisher.connection.MAX_OF_ONE_ADDRESS", 2)
    crowd = []
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"):
        each = GuardedConnection(server.config, server.server_state, {}, None)
        each.connection_made(Peer(address))
        crowd.append(each)
    assert [transport_of(each).aborted for each in crowd] == [False, False, True, False]
