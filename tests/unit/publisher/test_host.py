"""The metadata server over real sockets: what honest and what crooked clients get."""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest
from anyio.abc import ByteStream, SocketStream

from placecard.card import Card, CheckedFile, digest_of, hex_of, parse_uri
from placecard.errors import Code, StoreError, UsageError
from placecard.publisher.advertise import advertised
from placecard.publisher.app import CHUNK_BYTES, Limits
from placecard.publisher.catalogue import HostedModel
from placecard.publisher.host import MetadataServer, bound, serve_metadata
from placecard.telemetry import Degraded, Fact

CONFIG = b'{"model_type":"llama"}'
LARGE = random.Random(7).randbytes(3 * CHUNK_BYTES + 17)
FILES = {
    "config.json": CONFIG,
    "sub dir/weiß é.txt": "grüße".encode(),
    "100%.json": b"percent",
    "empty.txt": b"",
    "large.bin.txt": LARGE,
}


def hosted(root: Path, files: dict[str, bytes], name: str = "org/Model") -> HostedModel:
    """Return a model whose sealed copies lie under ``root``."""
    blobs: dict[str, Path] = {}
    for content in files.values():
        digest = digest_of(content)
        blobs[digest] = root / hex_of(digest)
        if not blobs[digest].exists():
            blobs[digest].write_bytes(content)
    checked = (
        CheckedFile(
            name=each,
            digest=digest_of(content),
            size=len(content),
            role="model_info" if each == "config.json" else "extra",
        )
        for each, content in files.items()
    )
    return HostedModel(Card(name=name, files=tuple(checked)), blobs)


@pytest.fixture
def model(tmp_path: Path) -> HostedModel:
    return hosted(tmp_path, FILES)


@pytest.fixture
async def server(model: HostedModel) -> AsyncGenerator[MetadataServer]:
    async with serve_metadata([model], host="127.0.0.1") as server:
        yield server


@pytest.fixture
async def client() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def raw(server: MetadataServer, request: bytes, answers: int = 1) -> bytes:
    """Send bytes as they are, and return what comes back: so many answers, or what there is when the server closes."""
    seen = b""
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(request)
        with anyio.fail_after(10):
            while seen.count(b"\r\n\r\n") < answers or not is_whole(seen, request):
                try:
                    seen += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    break
    return seen


def is_whole(answer: bytes, request: bytes) -> bool:
    """Whether the last answer has all of its body."""
    *_, head, body = answer.split(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)$", head, re.MULTILINE)
    return request.startswith(b"HEAD") or (length is not None and len(body) >= int(length[1]))


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@asynccontextmanager
async def half_read(server: MetadataServer, path: str) -> AsyncGenerator[ByteStream]:
    """Ask for a file through a socket that takes little, and read only its head."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with await SocketStream.from_socket(_connected(plain, server.port)) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert status_of(await stream.receive(64)) == 200
        yield stream


def _connected(plain: socket.socket, port: int) -> socket.socket:
    plain.connect(("127.0.0.1", port))
    plain.setblocking(False)
    return plain


async def test_every_file_of_the_card_comes_by_the_address_on_the_card(
    model: HostedModel, server: MetadataServer, client: aiohttp.ClientSession
) -> None:
    for file in advertised(model.card, server.url).files:
        async with client.get(str(parse_uri(file.sources[0]))) as answer:
            assert (answer.status, await answer.read()) == (200, FILES[file.name])
            assert answer.headers["etag"] == f'"{file.digest}"'
            assert answer.headers["content-length"] == str(file.size)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["accept-ranges"] == "none"
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_file_of_the_card_comes_by_digest(server: MetadataServer, client: aiohttp.ClientSession) -> None:
    for content in FILES.values():
        async with client.get(f"{server.url}/v1/blobs/blake3/{hex_of(digest_of(content))}") as answer:
            assert await answer.read() == content


async def test_head_tells_the_same_and_sends_no_body(server: MetadataServer, client: aiohttp.ClientSession) -> None:
    url = f"{server.url}/v1/metadata/org_model/large.bin.txt"
    async with client.head(url) as head, client.get(url) as got:
        await got.read()
        told = {key: value for key, value in head.headers.items() if key.lower() != "date"}
        assert told == {key: value for key, value in got.headers.items() if key.lower() != "date"}
        assert (head.status, await head.read()) == (200, b"")


async def test_what_the_client_holds_is_not_sent_again(server: MetadataServer, client: aiohttp.ClientSession) -> None:
    url = f"{server.url}/v1/metadata/org_model/config.json"
    held = f'"{digest_of(CONFIG)}"'
    for tag in (held, f"W/{held}", f'"other", {held}', "*"):
        async with client.get(url, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read(), answer.headers["etag"]) == (304, b"", held)


async def test_another_tag_gets_the_file(server: MetadataServer, client: aiohttp.ClientSession) -> None:
    url = f"{server.url}/v1/metadata/org_model/config.json"
    for tag in ('"other"', digest_of(CONFIG), '""', f'"{digest_of(b"x")}"'):
        async with client.get(url, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (200, CONFIG)


async def test_a_range_is_not_heeded(server: MetadataServer, client: aiohttp.ClientSession) -> None:
    url = f"{server.url}/v1/metadata/org_model/config.json"
    async with client.get(url, headers={"Range": "bytes=0-0," * 200 + "2-3"}) as answer:
        assert (answer.status, await answer.read()) == (200, CONFIG)


async def test_healthz_answers(server: MetadataServer, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{server.url}/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


UNKNOWN_PATHS = [
    "/v1",
    "/v1/metadata/org_model",
    "/v1/metadata/org_model/sub%20dir",
    "/v1/metadata/org_model/none.json",
    "/v1/metadata/other/config.json",
    "/v1/metadata/ORG_MODEL/config.json",
    f"/v1/blobs/blake3/{'0' * 64}",
    f"/v1/blobs/blake3/{hex_of(digest_of(CONFIG)).upper()}",
    f"/v1/blobs/sha256/{hex_of(digest_of(CONFIG))}",
    f"/v1/blobs/blake3/{hex_of(digest_of(CONFIG))}/x",
    "/etc/passwd",
    "/healthz/x",
]


async def test_what_is_not_on_the_card_is_not_found(
    server: MetadataServer, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for path in UNKNOWN_PATHS:
        with subtests.test(path):
            answer = await raw(server, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert status_of(answer) == 404
            assert b'"code": "NOT_FOUND"' in answer
            assert os.fsencode(tmp_path) not in answer
            assert path.encode() not in answer


UNFIT_TARGETS = [
    "/",
    "//v1/metadata/org_model/config.json",
    "/v1//metadata/org_model/config.json",
    "/v1/metadata/org_model/config.json/",
    "/v1/metadata/org_model/../org_model/config.json",
    "/v1/metadata/org_model/%2e%2e/config.json",
    "/v1/metadata/org_model/./config.json",
    "/v1/metadata/org_model%2fconfig.json",
    "/v1/metadata/org_model/config.json%00",
    "/v1/metadata/org_model/config%0a.json",
    "/v1/metadata/org_model/config.json%",
    "/v1/metadata/org_model/config.json%2",
    "/v1/metadata/org_model/config.json%zz",
    "/v1/metadata/org_model/%ff%fe",
    "/v1/metadata/org_model/%5c..%5cconfig.json",
    "http://127.0.0.1/v1/metadata/org_model/config.json",
    "file:///etc/passwd",
    "*",
    "v1/metadata/org_model/config.json",
]


async def test_a_path_that_proxies_could_read_differently_is_refused(
    server: MetadataServer, subtests: pytest.Subtests
) -> None:
    for target in UNFIT_TARGETS:
        with subtests.test(target):
            answer = await raw(server, f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert status_of(answer) == 400
            assert CONFIG not in answer


MALFORMED_REQUESTS = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    b"GET /healthz\r\n\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost : y\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n\r\n",
    b"GET /heal\x00thz HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 40_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /v1/metadata/org_model/config.json HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
    b"GET /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\nexpect: 100-continue\r\n\r\n",
]


async def test_a_malformed_request_is_refused_and_the_server_lives(
    server: MetadataServer, client: aiohttp.ClientSession, subtests: pytest.Subtests
) -> None:
    for request in MALFORMED_REQUESTS:
        with subtests.test(ascii(request[:60])):
            answer = await raw(server, request)
            assert status_of(answer) in (400, 431)
            assert CONFIG not in answer
            async with client.get(f"{server.url}/healthz") as after:
                assert after.status == 200


OTHER_METHODS = ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"]


async def test_other_methods_are_refused(server: MetadataServer, subtests: pytest.Subtests) -> None:
    for method, path in itertools.product(OTHER_METHODS, ("/v1/metadata/org_model/config.json", "/healthz", "/none")):
        with subtests.test(f"{method} {path}"):
            answer = await raw(server, f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert status_of(answer) == 405
            assert b"allow: GET, HEAD" in answer


async def test_without_the_token_there_is_only_healthz(model: HostedModel, client: aiohttp.ClientSession) -> None:
    async with serve_metadata([model], host="127.0.0.1", token="s3cret") as server:
        url = f"{server.url}/v1/metadata/org_model/config.json"
        for shown in (
            None,
            "",
            "s3cret",
            "Basic s3cret",
            "Bearer",
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer s3cret x",
        ):
            async with client.get(url, headers={} if shown is None else {"Authorization": shown}) as answer:
                assert answer.status == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert CONFIG not in await answer.read()
        async with client.get(f"{server.url}/none") as answer:
            assert answer.status == 401
        twice = "authorization: Bearer s3cret\r\n" * 2
        request = f"GET /v1/metadata/org_model/config.json HTTP/1.1\r\nhost: x\r\n{twice}\r\n"
        assert status_of(await raw(server, request.encode())) == 401
        async with client.get(f"{server.url}/healthz") as answer:
            assert answer.status == 200
        async with client.get(url, headers={"Authorization": "bearer s3cret"}) as answer:
            assert await answer.read() == CONFIG


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "ü", "a\r\nx: y"])
async def test_a_token_that_no_header_carries_is_refused(model: HostedModel, token: str) -> None:
    with pytest.raises(UsageError):
        async with serve_metadata([model], host="127.0.0.1", token=token):
            pytest.fail("served")


@pytest.mark.parametrize("harm", ["gone", "short", "long", "link", "directory", "pipe"])
async def test_a_copy_that_changed_is_an_error_and_a_fact(
    model: HostedModel, client: aiohttp.ClientSession, tmp_path: Path, harm: str
) -> None:
    blob = model.blobs[digest_of(CONFIG)]
    facts: list[Fact] = []
    async with serve_metadata([model], host="127.0.0.1", observe=facts.append) as server:
        blob.unlink()
        match harm:
            case "short":
                blob.write_bytes(CONFIG[:-1])
            case "long":
                blob.write_bytes(CONFIG + b" ")
            case "link":
                (tmp_path / "same").write_bytes(CONFIG)
                blob.symlink_to(tmp_path / "same")
            case "directory":
                blob.mkdir()
            case "pipe":
                os.mkfifo(blob)
        for ask in (client.get, client.head):
            async with ask(f"{server.url}/v1/metadata/org_model/config.json") as answer:
                body = await answer.read()
                assert answer.status == 500
                assert os.fsencode(tmp_path) not in body
                assert CONFIG not in body
    codes = [fact.code for fact in facts if isinstance(fact, Degraded)]
    assert codes == [Code.STORE_MISSING if harm == "gone" else Code.STORE_CORRUPT] * 2


async def test_a_copy_that_shrinks_while_it_is_sent_never_ends_clean(tmp_path: Path) -> None:
    content = bytes(32 << 20)
    model = hosted(tmp_path, {"config.json": content})
    facts: list[Fact] = []
    async with serve_metadata([model], host="127.0.0.1", observe=facts.append) as server:
        async with half_read(server, "/v1/metadata/org_model/config.json") as stream:
            os.truncate(model.blobs[digest_of(content)], 1 << 20)
            received = 64
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)), anyio.fail_after(10):
                while True:
                    received += len(await stream.receive(1 << 20))
        assert received < len(content)
    assert [fact.code for fact in facts if isinstance(fact, Degraded)] == [Code.STORE_CORRUPT]


async def test_a_client_that_leaves_frees_its_place(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    model = hosted(tmp_path, {"config.json": bytes(32 << 20)})
    async with serve_metadata([model], host="127.0.0.1", limits=Limits(requests=1)) as server:
        url = f"{server.url}/v1/metadata/org_model/config.json"
        async with half_read(server, "/v1/metadata/org_model/config.json"):
            async with client.get(url) as answer:
                assert answer.status == 503
                assert answer.headers["retry-after"] == "1"
            async with client.get(f"{server.url}/healthz") as answer:
                assert answer.status == 200
        with anyio.fail_after(10):
            while True:
                async with client.head(url) as answer:
                    if answer.status == 200:
                        break
                await anyio.sleep(0.01)


async def test_a_client_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    model = hosted(tmp_path, {"config.json": bytes(32 << 20)})
    limits = Limits(requests=1, stall_s=0.1)
    async with (
        serve_metadata([model], host="127.0.0.1", limits=limits) as server,
        half_read(server, "/v1/metadata/org_model/config.json") as stream,
    ):
        with anyio.fail_after(10):
            while (
                status_of(await raw(server, b"HEAD /v1/metadata/org_model/config.json HTTP/1.1\r\nhost: x\r\n\r\n"))
                == 503
            ):
                await anyio.sleep(0.01)
        received = 64
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)), anyio.fail_after(10):
            while True:
                received += len(await stream.receive(1 << 20))
        assert received < 32 << 20


async def test_many_clients_at_once_all_get_the_file(server: MetadataServer, client: aiohttp.ClientSession) -> None:
    got: list[bool] = []

    async def fetch() -> None:
        async with client.get(f"{server.url}/v1/metadata/org_model/large.bin.txt") as answer:
            got.append(await answer.read() == LARGE)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(fetch)
    assert got == [True] * 20


async def test_pipelined_requests_are_answered_in_order(server: MetadataServer) -> None:
    request = b"GET /v1/metadata/org_model/100%25.json HTTP/1.1\r\nhost: x\r\n\r\nGET /none HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await raw(server, request, answers=2)
    assert answer.index(b"percent") < answer.index(b"404")


async def test_several_models_share_a_server(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    models = [hosted(tmp_path, FILES, "a"), hosted(tmp_path, {"config.json": b"{}"}, "b")]
    async with serve_metadata(models, host="127.0.0.1") as server:
        for slug, content in (("a", CONFIG), ("b", b"{}")):
            async with client.get(f"{server.url}/v1/metadata/{slug}/config.json") as answer:
                assert await answer.read() == content


async def test_models_that_differ_under_one_address_are_refused(tmp_path: Path) -> None:
    models = [hosted(tmp_path, FILES, "a/b"), hosted(tmp_path, {"config.json": b"{}"}, "a_b")]
    with pytest.raises(UsageError, match="a_b"):
        async with serve_metadata(models, host="127.0.0.1"):
            pytest.fail("served")


async def test_a_file_without_a_copy_is_refused_at_the_start(model: HostedModel) -> None:
    with pytest.raises(StoreError) as caught:
        async with serve_metadata([HostedModel(model.card, {})], host="127.0.0.1"):
            pytest.fail("served")
    assert caught.value.code == Code.STORE_MISSING


async def test_a_busy_port_is_named(model: HostedModel, server: MetadataServer) -> None:
    with pytest.raises(UsageError, match=f":{server.port}.*in use"):
        async with serve_metadata([model], host="127.0.0.1", port=server.port):
            pytest.fail("served")


@pytest.mark.parametrize(
    ("host", "port"), [("192.0.2.1", 0), ("no such host", 0), ("127.0.0.1", -1), ("127.0.0.1", 65536), ("a" * 300, 0)]
)
def test_an_address_that_cannot_be_bound_is_a_usage_error(host: str, port: int) -> None:
    with pytest.raises(UsageError):
        bound(host, port)


async def test_ipv6_is_served(model: HostedModel, client: aiohttp.ClientSession) -> None:
    if not socket.has_ipv6:
        pytest.skip("this host has no IPv6")
    async with serve_metadata([model], host="[::1]") as server:
        assert server.url == f"http://[::1]:{server.port}"
        async with client.get(f"{server.url}/healthz") as answer:
            assert answer.status == 200


async def test_an_error_of_the_body_comes_out_as_it_is(model: HostedModel) -> None:
    with pytest.raises(UsageError, match="mine"):
        async with serve_metadata([model], host="127.0.0.1"):
            raise UsageError(Code.USAGE, "mine")


async def test_a_stop_ends_answers_closes_the_port_and_leaves_signals_alone(model: HostedModel) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with anyio.fail_after(10):
        async with serve_metadata([model], host="127.0.0.1") as server:
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
            idle = await anyio.connect_tcp("127.0.0.1", server.port)
            await idle.send(b"GET /hea")
    with pytest.raises(anyio.EndOfStream):
        await idle.receive()
    await idle.aclose()
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", server.port)


async def test_a_cancelled_server_stops_whole(tmp_path: Path) -> None:
    model = hosted(tmp_path, {"config.json": bytes(32 << 20)})
    before = {task.id for task in anyio.get_running_tasks()}
    with anyio.fail_after(10), anyio.CancelScope() as scope:
        async with (
            serve_metadata([model], host="127.0.0.1") as server,
            half_read(server, "/v1/metadata/org_model/config.json"),
        ):
            scope.cancel()
            await anyio.sleep_forever()
    assert {task.id for task in anyio.get_running_tasks()} == before
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", server.port)


async def test_a_client_that_does_not_read_does_not_hold_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placecard.publisher.connection.STOP_S", 0.1)
    model = hosted(tmp_path, {"config.json": bytes(32 << 20)})
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with anyio.fail_after(10):
        async with serve_metadata([model], host="127.0.0.1") as server:
            stream = await SocketStream.from_socket(_connected(plain, server.port))
            await stream.send(b"GET /v1/metadata/org_model/config.json HTTP/1.1\r\nhost: x\r\n\r\n")
            assert status_of(await stream.receive(64)) == 200
    received = 64
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)), anyio.fail_after(10):
        while True:
            received += len(await stream.receive(1 << 20))
    assert received < 32 << 20
    await stream.aclose()
