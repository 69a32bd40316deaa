"""Asking workers for files: whatever they answer, it ends as bytes or as a code, and soon."""

from __future__ import annotations

import asyncio
import socket
import time
import tracemalloc
from collections.abc import Sequence
from ipaddress import ip_network

import anyio
import pytest

from placecard.card import HttpUri
from placecard.errors import Code, SourceError
from placecard.source import HttpSource
from placecard.source.http import judge
from placecard.source.http_session import make_session, system_lookup
from tests.simulator.faulty import BODY, TROUBLES, FaultyServer, Reply, Then, canary
from tests.unit.source.tools import code, failure, read, served, source_with

URI = HttpUri("http", "127.0.0.1", 80, "http://127.0.0.1/x")
ONLY_ONE = (ip_network("127.0.0.1/32"),)


def raw(head: str, body: bytes = b"") -> Reply:
    return Reply(raw=head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body, then=Then.CLOSE)


# --- what arrives


@pytest.mark.parametrize(
    "reply",
    [
        Reply(BODY),
        Reply(BODY, chunked=100),
        Reply(BODY, drip_bytes=500),
        Reply(BODY, length="", then=Then.CLOSE),
        Reply(BODY, status="203 Non-Authoritative Information"),
        Reply(BODY, headers=(("Content-Encoding", "identity"),)),
    ],
)
async def test_the_bytes_arrive_as_sent(reply: Reply) -> None:
    async with served(reply) as (source, url, _):
        assert await read(source, url) == BODY


async def test_an_empty_file_arrives() -> None:
    async with served(Reply(b"")) as (source, url, _):
        assert await read(source, url) == b""


async def test_a_large_file_arrives_in_bounded_chunks() -> None:
    body = bytes(range(256)) * (20 << 10)
    received = []
    async with served(Reply(body)) as (source, url, server):
        async with source.open(HttpUri("http", "127.0.0.1", server.port, url)) as chunks:
            received += [chunk async for chunk in chunks]
        assert server.connections == 1
    assert max(map(len, received)) <= 1 << 20
    assert b"".join(received) == body


async def test_connections_are_reused_and_the_path_is_sent_as_written() -> None:
    async with FaultyServer() as server, source_with() as source:
        url = server.serve("/v1/metadata/m/a%20b%C3%A9%3B.json", Reply(BODY))
        for _ in range(5):
            assert await read(source, url) == BODY
        assert server.connections == 1
        assert {request.target for request in server.requests} == {"/v1/metadata/m/a%20b%C3%A9%3B.json"}


async def test_a_request_asks_for_plain_bytes_and_nothing_else() -> None:
    async with served(Reply(BODY), token="s3cret") as (source, url, server):
        await read(source, url)
        headers = server.requests[0].headers
    assert headers["accept-encoding"] == "identity"
    assert headers["authorization"] == "Bearer s3cret"
    assert "range" not in headers and "cookie" not in headers


async def test_cookies_are_not_kept() -> None:
    async with served(Reply(BODY, headers=(("Set-Cookie", "a=b"),))) as (source, url, server):
        await read(source, url)
        await read(source, url)
        assert "cookie" not in server.requests[1].headers


async def test_no_more_than_so_many_connections_to_one_host() -> None:
    reply = Reply(BODY, delay_s=0.02)
    async with served(reply, per_host=3) as (source, url, server):
        await asyncio.gather(*(read(source, url) for _ in range(12)))
        assert len(server.requests) == 12
        assert server.connections <= 3


async def test_waiting_for_a_turn_is_not_taken_for_a_slow_source() -> None:
    reply = Reply(BODY, delay_s=0.1)
    async with served(reply, per_host=1, header_timeout_s=0.5) as (source, url, server):
        await asyncio.gather(*(read(source, url) for _ in range(8)))
        assert len(server.requests) == 8


async def test_leaving_early_closes_the_connection() -> None:
    async with served(TROUBLES["/endless"], Reply(BODY)) as (source, url, server):
        uri = HttpUri("http", "127.0.0.1", server.port, url)
        async with source.open(uri) as chunks:
            assert await anext(chunks)
        with anyio.fail_after(5):
            while server._writers:
                await asyncio.sleep(0.005)
        assert await read(source, url) == BODY


async def test_an_error_of_the_consumer_stays_its_own() -> None:
    async with served(Reply(BODY)) as (source, _, server):
        uri = HttpUri("http", "127.0.0.1", server.port, server.url + "/v1/metadata/m/config.json")
        with pytest.raises(ConnectionResetError, match="mine"):
            async with source.open(uri) as chunks:
                async for _ in chunks:
                    raise ConnectionResetError("mine")


async def test_cancelling_is_not_translated() -> None:
    async with served(Reply(BODY, cut_at=0, then=Then.STALL), rate_window_s=30) as (source, url, _):
        with anyio.move_on_after(0.1) as scope:
            await read(source, url)
        assert scope.cancelled_caught


async def test_outside_of_async_with_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await read(HttpSource(), "http://127.0.0.1:9/x")


# --- what an answer's head means


@pytest.mark.parametrize(
    ("status", "expected", "transient"),
    [
        (401, Code.UNAUTHORIZED, False),
        (403, Code.UNAUTHORIZED, False),
        (404, Code.NOT_FOUND, False),
        (410, Code.NOT_FOUND, False),
        (400, Code.HTTP_STATUS, False),
        (405, Code.HTTP_STATUS, False),
        (451, Code.HTTP_STATUS, False),
        (429, Code.HTTP_STATUS, True),
        (500, Code.HTTP_STATUS, True),
        (503, Code.HTTP_STATUS, True),
    ],
)
def test_a_status_has_a_code_and_says_whether_to_ask_again(status: int, expected: Code, transient: bool) -> None:
    with pytest.raises(SourceError) as caught:
        judge(URI, status, (), ())
    assert (caught.value.code, caught.value.transient) == (expected, transient)
    assert URI.url in str(caught.value) and str(status) in str(caught.value)


@pytest.mark.parametrize("status", [200, 201, 203, 204])
def test_success_lets_the_bytes_decide(status: int) -> None:
    judge(URI, status, ["identity"], ["Chunked"])


# --- rows of the table of bad inputs


@pytest.mark.parametrize("cut_at", [0, 1, len(BODY) - 1])
@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET])
@pytest.mark.parametrize("chunked", [0, 64])
async def test_row36_a_body_that_breaks_off_is_truncated(cut_at: int, then: Then, chunked: int) -> None:
    async with served(Reply(BODY, cut_at=cut_at, then=then, chunked=chunked)) as (source, url, _):
        error = await failure(source, url)
    assert error.code is Code.TRUNCATED and error.transient


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET])
async def test_row36_a_connection_closed_without_an_answer_is_truncated(then: Then) -> None:
    async with served(Reply(raw=b"", then=then)) as (source, url, _):
        assert await code(source, url) is Code.TRUNCATED


async def test_row36_a_head_that_breaks_off_is_truncated() -> None:
    async with served(Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le", then=Then.CLOSE)) as (source, url, _):
        assert await code(source, url) is Code.TRUNCATED


@pytest.mark.parametrize("then", [Then.KEEP, Then.CLOSE])
async def test_row37_bytes_after_the_announced_length_never_reach_the_file(then: Then) -> None:
    reply = Reply(BODY + b"and more", length=str(len(BODY)), then=then)
    async with served(reply) as (source, url, _):
        try:
            assert await read(source, url) == BODY
        except SourceError as error:
            assert error.code is Code.PROTOCOL_ERROR


async def test_row37_bytes_after_one_answer_are_not_the_next_answer() -> None:
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    first = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + smuggled)
    async with served(first, Reply(BODY)) as (source, url, _):
        assert await read(source, url) in (b"good", BODY)
        assert await read(source, url) == BODY


async def test_row38_an_endless_body_is_cut_by_the_consumer_in_bounded_memory() -> None:
    async with served(TROUBLES["/endless"]) as (source, url, server):
        tracemalloc.start()
        try:
            received = 0
            async with source.open(HttpUri("http", "127.0.0.1", server.port, url)) as chunks:
                async for chunk in chunks:
                    received += len(chunk)
                    if received > 32 << 20:
                        break
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12 << 20, "server and client together hold a few MiB"


async def test_row38_a_consumer_that_pauses_holds_the_source_back() -> None:
    async with served(TROUBLES["/endless"]) as (source, url, server):
        async with source.open(HttpUri("http", "127.0.0.1", server.port, url)) as chunks:
            await anext(chunks)
            before = -1
            with anyio.fail_after(5):
                while before != server.sent_bytes:
                    before = server.sent_bytes
                    await asyncio.sleep(0.05)
        assert server.sent_bytes < 32 << 20


@pytest.mark.parametrize(
    "reply",
    [
        Reply(BODY, drip_bytes=1, drip_s=0.05),
        Reply(BODY, cut_at=0, then=Then.STALL),
        Reply(BODY, cut_at=len(BODY) - 1, then=Then.STALL),
        Reply(BODY, chunked=64, cut_at=128, then=Then.STALL),
        Reply(BODY, delay_s=0.5),
        Reply(BODY, drip_bytes=1, drip_s=0.05, drip_head=True),
        Reply(raw=b"HTTP/1.1 200 OK\r\n", then=Then.STALL),
    ],
)
async def test_row39_slow_sources_are_given_up(reply: Reply) -> None:
    async with served(reply, header_timeout_s=0.2, rate_window_s=0.2) as (source, url, _):
        with anyio.fail_after(5):
            error = await failure(source, url)
    assert error.code is Code.SLOW_SOURCE and error.transient


async def test_row39_the_total_deadline_ends_what_keeps_the_floor() -> None:
    reply = Reply(b"x" * 4096, chunked=4096, repeat=True, drip_s=0.01)
    async with served(reply, total_timeout_s=0.3, rate_window_s=0.1) as (source, url, _):
        error = await failure(source, url)
    assert error.code is Code.SLOW_SOURCE and "not complete" in str(error)


async def test_row39_a_slow_consumer_is_not_held_against_the_source() -> None:
    async with served(Reply(bytes(2 << 20)), rate_window_s=0.3, total_timeout_s=0.6) as (source, url, server):
        received = 0
        async with source.open(HttpUri("http", "127.0.0.1", server.port, url)) as chunks:
            async for chunk in chunks:
                received += len(chunk)
                await asyncio.sleep(0.35)
    assert received == 2 << 20


@pytest.mark.parametrize("length", ["-5", "+5", "0x5", "5 6", "5,6", "5, 5", "", str(2**64), "five", "5;"])
async def test_row40_a_wrong_content_length_is_a_protocol_error(length: str) -> None:
    async with served(raw(f"HTTP/1.1 200 OK\nContent-Length: {length}", b"hello")) as (source, url, _):
        assert await code(source, url) is Code.PROTOCOL_ERROR


async def test_row40_two_content_lengths_are_a_protocol_error() -> None:
    async with served(raw("HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 6", b"hello")) as (source, url, _):
        assert await code(source, url) is Code.PROTOCOL_ERROR


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "x-gzip", "gzip, identity", "GZIP", "made-up"])
async def test_row41_an_encoded_body_is_refused_and_never_decoded(encoding: str) -> None:
    async with served(Reply(BODY, headers=(("Content-Encoding", encoding),))) as (source, url, _):
        assert await code(source, url) is Code.ENCODING_FORBIDDEN


async def test_row41_the_second_of_two_encodings_counts() -> None:
    headers = (("Content-Encoding", "identity"), ("Content-Encoding", "gzip"))
    async with served(Reply(BODY, headers=headers)) as (source, url, _):
        assert await code(source, url) is Code.ENCODING_FORBIDDEN


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent", "300 Many"])
async def test_row42_no_redirect_is_followed(status: str) -> None:
    async with canary("127.0.0.2") as bird:
        targets = ["/again", bird.url, "//127.0.0.2/", "file:///etc/passwd", "data:,x", "http://169.254.169.254/", ""]
        for target in targets:
            reply = Reply(status=status, headers=(("Location", target),))
            async with served(reply) as (source, url, server):
                error = await failure(source, url)
                assert error.code is Code.REDIRECT_FORBIDDEN and not error.transient
                assert len(server.requests) == 1


async def test_row42_redirects_without_or_with_a_split_location() -> None:
    for head in ("HTTP/1.1 302 Found\nContent-Length: 0", "HTTP/1.1 302 Found\nLocation: /x\nX: y\nContent-Length: 0"):
        async with served(raw(head)) as (source, url, _):
            assert await code(source, url) is Code.REDIRECT_FORBIDDEN


@pytest.mark.parametrize(
    "reply",
    [
        TROUBLES["/html"],
        Reply(b'{"error": "no"}', headers=(("Content-Type", "application/json"),)),
        Reply(b"version https://git-lfs.github.com/spec/v1\n"),
        Reply(b""),
        Reply(status="204 No Content", length=""),
    ],
)
async def test_row43_another_body_with_200_is_left_to_the_digest(reply: Reply) -> None:
    async with served(reply) as (source, url, _):
        assert await read(source, url) == reply.body


async def test_row44_a_part_that_nobody_asked_for_is_a_protocol_error() -> None:
    for headers in ((), (("Content-Range", "bytes 0-9/100"),), (("Content-Range", "bytes 7-9/3"),)):
        async with served(Reply(BODY, status="206 Partial Content", headers=headers)) as (source, url, server):
            assert await code(source, url) is Code.PROTOCOL_ERROR
            assert "range" not in server.requests[0].headers
    async with served(Reply(status="416 Range Not Satisfiable")) as (source, url, _):
        assert await code(source, url) is Code.HTTP_STATUS


@pytest.mark.parametrize("etag", ["../../x", "/etc/passwd", '"a"b"', ""])
async def test_row45_an_etag_means_nothing(etag: str) -> None:
    async with served(Reply(BODY, headers=(("ETag", etag),)), Reply(BODY, headers=(("ETag", "other"),))) as (
        source,
        url,
        _,
    ):
        assert await read(source, url) == await read(source, url) == BODY


async def test_row45_a_huge_etag_is_a_protocol_error() -> None:
    async with served(Reply(BODY, headers=(("ETag", "e" * 10240),))) as (source, url, _):
        assert await code(source, url) is Code.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "reply",
    [
        Reply(BODY, headers=tuple((f"H{number}", "v") for number in range(100_000))),
        Reply(BODY, headers=(("H", "v" * (1 << 20)),)),
        Reply(raw=b"HTTP/1.1 200 " + b"O" * (1 << 20) + b"\r\n\r\n"),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 3", b"5\r\nhello\r\n0\r\n\r\n"),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"zz\r\nhello\r\n"),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"-5\r\nhello\r\n"),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"3\r\nhello\r\n0\r\n\r\n"),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"f" * 32 + b"\r\nhello\r\n"),
        raw("HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: upgrade", b"hello"),
        raw("HTTP/9.9 999 What"),
        Reply(raw=b"hello\n", then=Then.CLOSE),
        Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n", then=Then.CLOSE),
        Reply(raw=b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n", then=Then.CLOSE),
    ],
)
async def test_row46_what_is_no_proper_answer_is_a_protocol_error(reply: Reply) -> None:
    async with served(reply) as (source, url, _):
        with anyio.fail_after(5):
            error = await failure(source, url)
    assert error.code is Code.PROTOCOL_ERROR
    assert len(str(error)) < 400


async def test_row46_a_flood_of_interim_answers_ends() -> None:
    flood = Reply(raw=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000, then=Then.STALL)
    async with served(flood, header_timeout_s=0.3) as (source, url, _):
        with anyio.fail_after(10):
            assert await code(source, url) in (Code.SLOW_SOURCE, Code.PROTOCOL_ERROR)


# --- where connections go


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with source_with() as source:
        error = await failure(source, f"http://127.0.0.1:{port}/x")
    assert error.code is Code.CONNECT_FAILED and error.transient


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/latest/meta-data",
        "http://100.100.100.200/latest",
        "http://[fe80::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://[2002:7f00:1::]/x",
        "http://0.0.0.0/x",
        "http://224.0.0.1/x",
        "http://8.8.8.8/x",
    ],
)
async def test_row27_forbidden_destinations_are_refused(url: str) -> None:
    async with source_with() as source:
        error = await failure(source, url)
    assert error.code is Code.DESTINATION_FORBIDDEN and not error.transient
    assert url in str(error)


async def test_row27_loopback_outside_the_ranges_sees_no_connection() -> None:
    async with canary("127.0.0.2") as bird, source_with(ranges=ONLY_ONE) as source:
        assert await code(source, bird.url + "/x") is Code.DESTINATION_FORBIDDEN


async def test_row27_the_canary_can_sing() -> None:
    with pytest.raises(AssertionError, match="was reached"):
        async with canary("127.0.0.2") as bird, source_with() as source:
            await code(source, bird.url + "/x")


async def test_row27_the_socket_itself_is_the_last_barrier() -> None:
    async with canary("127.0.0.2") as bird:
        session = make_session(ONLY_ONE, system_lookup, connect_timeout_s=1, chunk_bytes=1 << 16)
        async with session:
            with pytest.raises(OSError, match=r"127\.0\.0\.2 is outside the allowed ranges"):
                await session.get(bird.url + "/x")


async def test_row27_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with canary("127.0.0.2") as bird:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, bird.url)
        async with served(Reply(BODY)) as (source, url, _):
            assert await read(source, url) == BODY


async def test_row27_the_token_is_in_no_text() -> None:
    echo = "Bearer s3cret-t0ken"
    replies = [
        Reply(status="401 " + echo),
        Reply(status="500 " + echo, headers=(("X", echo),)),
        raw(f"HTTP/1.1 200 OK\nContent-Length: {echo}"),
        raw(f"HTTP/1.1 200 OK\n{echo}"),
        raw(echo),
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", echo.encode() + b"\r\n"),
        Reply(echo.encode() * 2, length="3", then=Then.CLOSE),
        Reply(BODY, headers=(("Content-Encoding", "identity"), ("E", echo + "x" * 9000))),
    ]
    for reply in replies:
        async with served(reply, token="s3cret-t0ken") as (source, url, _):
            try:
                await read(source, url)
            except SourceError as error:
                assert "s3cret" not in str(error) + repr(error) + str(error.as_json())


# --- names


def names(answers: dict[str, Sequence[str]], asked: list[str]) -> object:
    def lookup(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        if host not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers[host]

    return lookup


async def test_a_name_is_resolved_and_its_address_connected_to() -> None:
    asked: list[str] = []
    async with FaultyServer() as server, source_with(lookup=names({"worker-0.fleet": ["127.0.0.1"]}, asked)) as source:
        server.serve("/x", Reply(BODY))
        assert await read(source, f"http://worker-0.fleet:{server.port}/x") == BODY
        assert server.requests[0].headers["host"] == f"worker-0.fleet:{server.port}"
    assert asked == ["worker-0.fleet"]


async def test_localhost_is_resolved_by_the_system() -> None:
    async with FaultyServer() as server, source_with() as source:
        server.serve("/x", Reply(BODY))
        assert await read(source, f"http://localhost:{server.port}/x") == BODY


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_FAIL, socket.EAI_AGAIN])
async def test_row48_a_name_that_does_not_resolve_is_no_connection(number: int) -> None:
    def lookup(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(number, "no")

    async with source_with(lookup=lookup) as source:
        error = await failure(source, "http://worker-0.fleet/x")
    assert error.code is Code.CONNECT_FAILED and error.transient


async def test_row48_a_resolver_that_hangs_is_given_up() -> None:
    release = anyio.Event()
    loop = asyncio.get_running_loop()

    def lookup(host: str, port: int) -> Sequence[str]:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return ["127.0.0.1"]

    async with source_with(lookup=lookup, connect_timeout_s=0.1) as source:
        with anyio.fail_after(5):
            error = await failure(source, "http://worker-0.fleet/x")
    release.set()
    await asyncio.sleep(0.02)  # let the thread that was left behind end
    assert error.code is Code.CONNECT_FAILED and "worker-0.fleet" in str(error)


async def test_row48_a_thousand_answers_are_refused() -> None:
    many = [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    async with canary("127.0.0.1") as bird, source_with(lookup=lambda host, port: many) as source:
        assert await code(source, f"http://worker-0.fleet:{bird.port}/x") is Code.CONNECT_FAILED


async def test_row48_no_answer_is_no_connection() -> None:
    async with source_with(lookup=lambda host, port: []) as source:
        assert await code(source, "http://worker-0.fleet/x") is Code.CONNECT_FAILED


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1", "169.254.169.254"],
        ["169.254.169.254", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["127.0.0.1", "::ffff:10.0.0.1"],
        ["127.0.0.1", "not an address"],
        ["127.0.0.1"] * 9 + ["fe80::1%lo"],
    ],
)
async def test_row48_one_forbidden_answer_refuses_all(answers: list[str]) -> None:
    async with canary("127.0.0.1") as bird, source_with(lookup=lambda host, port: answers) as source:
        assert await code(source, f"http://worker-0.fleet:{bird.port}/x") is Code.DESTINATION_FORBIDDEN


async def test_row48_a_name_that_is_bound_anew_is_vetted_anew() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    asked: list[str] = []

    def lookup(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    async with FaultyServer("127.0.0.1") as server, source_with(ranges=ONLY_ONE, lookup=lookup) as source:
        server.serve("/x", Reply(BODY, then=Then.CLOSE))
        async with FaultyServer("127.0.0.2", wanted_port=server.port) as bird:
            url = f"http://worker-0.fleet:{server.port}/x"
            assert await read(source, url) == BODY
            assert asked == ["worker-0.fleet"], "resolved once for one connection"
            assert await code(source, url) is Code.DESTINATION_FORBIDDEN
            assert bird.connections == 0


async def test_row39_bytes_that_came_while_this_process_slept_count() -> None:
    async with served(Reply(BODY, cut_at=1000), rate_window_s=0.2) as (source, url, server):
        uri = HttpUri("http", "127.0.0.1", server.port, url)

        def send_and_sleep(writer: asyncio.StreamWriter) -> None:
            writer.write(BODY[1000:])
            time.sleep(0.3)

        async with source.open(uri) as chunks:
            assert len(await anext(chunks)) == 1000
            (writer,) = server._writers
            asyncio.get_running_loop().call_soon(send_and_sleep, writer)
            assert await anext(chunks) == BODY[1000:]


# --- who may be asked


async def test_an_address_that_nobody_registered_is_not_connected_to() -> None:
    async with FaultyServer() as server, FaultyServer() as other:
        url, admin = server.serve("/blob", Reply(BODY)), other.serve("/admin", Reply(BODY))
        allowed = {f"http://127.0.0.1:{server.port}"}
        async with HttpSource(ranges=ONLY_ONE, allowed_origins=allowed) as source:
            assert await read(source, url) == BODY
            error = await failure(source, admin)
        assert other.connections == 0
        origin = f"http://127.0.0.1:{other.port}"
    assert error.code is Code.DESTINATION_FORBIDDEN
    assert "no worker registered" in error.detail
    assert f"--worker-origin {origin}" in error.mend


async def test_an_allowed_origin_is_still_within_the_ranges() -> None:
    async with HttpSource(ranges=ONLY_ONE, allowed_origins={"http://169.254.169.254:80"}) as source:
        assert await code(source, "http://169.254.169.254/latest") is Code.DESTINATION_FORBIDDEN


async def test_no_allowed_origin_is_nobody() -> None:
    async with FaultyServer() as server, HttpSource(ranges=ONLY_ONE, allowed_origins=()) as source:
        assert await code(source, server.serve("/blob", Reply(BODY))) is Code.DESTINATION_FORBIDDEN
        assert server.connections == 0
