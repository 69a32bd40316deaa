"""What an advertised address may be, how it stands on the card, and whether it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from placecard.card import Card, CheckedFile, digest_of, hex_of, parse_uri
from placecard.errors import CardError, Code, DiscoveryError, UsageError
from placecard.publisher import Advertise, HostedModel, advertised, base_url, parse_advertise, self_test, serve_metadata

CONFIG = b'{"model_type":"llama"}'


def card_of(*names: str, name: str = "org/Model", sources: tuple[str, ...] = ()) -> Card:
    """Return a card whose files all hold :data:`CONFIG`."""
    files = (
        CheckedFile(name=each, digest=digest_of(CONFIG), size=len(CONFIG), sources=sources)
        for each in ("config.json", *names)
    )
    return Card(name=name, files=tuple(files))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("worker-3.cluster.local:8080", "worker-3.cluster.local", 8080),
        ("worker-3", "worker-3", None),
        ("10.1.2.3:80", "10.1.2.3", 80),
        ("10.1.2.3", "10.1.2.3", None),
        ("[fd00::1]:9", "[fd00::1]", 9),
        ("[fd00::1]", "[fd00::1]", None),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int | None) -> None:
    assert parse_advertise(text) == Advertise(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "", ":80", "host:", "host:0", "host:65536", "host:80:80", "host:x", "host/path", "http://host:80", "us er",
        "host:80/", "u@h", "::1", "fd00::1", "[::1", "[::g]:80", "0.0.0.0", "0.0.0.0:80", "[::]:80", "[::]", "1.2.3",
        "0x7f.1", "host?x", "host#x", "hö.st", "host\n", "a" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_advertise(text)
    assert "--advertise HOST:PORT" in caught.value.mend


@given(st.text(max_size=30))
def test_any_text_is_an_address_that_can_be_advertised_or_a_usage_error(text: str) -> None:
    try:
        advertise = parse_advertise(text)
    except UsageError:
        return
    base = base_url("0.0.0.0", 8080, advertise)
    assert str(parse_uri(f"{base}/v1")) == f"{base}/v1"


@pytest.mark.parametrize(
    ("host", "advertise", "base"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:7"),
        ("localhost", None, "http://localhost:7"),
        ("::1", None, "http://[::1]:7"),
        ("10.1.2.3", None, "http://10.1.2.3:7"),
        ("0.0.0.0", Advertise("worker"), "http://worker:7"),
        ("0.0.0.0", Advertise("worker", 80), "http://worker:80"),
        ("::", Advertise("[fd00::1]", 80), "http://[fd00::1]:80"),
    ],
)
def test_a_server_is_advertised_where_it_was_said(host: str, advertise: Advertise | None, base: str) -> None:
    assert base_url(host, 7, advertise) == base


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", ""])
def test_nothing_is_guessed_for_a_server_on_all_addresses(host: str) -> None:
    with pytest.raises(UsageError, match=r"172\.17\.0\.1") as caught:
        base_url(host, 7, None)
    assert "--advertise" in caught.value.mend


def test_the_workers_own_address_comes_first_and_others_are_kept() -> None:
    others = ("hf://org/model@" + "a" * 40 + "/config.json", "file:///models/config.json")
    files = advertised(card_of(sources=others), "http://w:1").files
    assert [file.sources for file in files] == [("http://w:1/v1/metadata/org_model/config.json", *others)]


def test_names_are_quoted() -> None:
    card = advertised(card_of("sub dir/ü#1.txt"), "http://w:1")
    assert card.files[1].sources == ("http://w:1/v1/metadata/org_model/sub%20dir/%C3%BC%231.txt",)


@pytest.mark.parametrize(
    ("file", "model"),
    [("a%2eb.json", "org/model"), ("x.json", "___"), ("/".join(["ü" * 127] * 4), "m" * 1024)],
    ids=["looks encoded twice", "no slug", "too long"],
)
def test_what_cannot_stand_in_a_uri_by_name_is_advertised_by_digest(file: str, model: str) -> None:
    source = advertised(card_of(file, name=model), "http://w:1").files[1].sources[0]
    assert source == f"http://w:1/v1/blobs/blake3/{hex_of(digest_of(CONFIG))}"


def test_advertising_again_replaces_the_earlier_address() -> None:
    once = advertised(card_of("a.txt", sources=("file:///m/x",)), "http://w:1")
    assert advertised(once, "http://w:1") == once
    assert advertised(once, "http://w:2") == advertised(card_of("a.txt", sources=("file:///m/x",)), "http://w:2")


def test_a_full_list_of_sources_stays_within_its_bound() -> None:
    sources = tuple(f"file:///m/{number}" for number in range(64))
    assert advertised(card_of(sources=sources), "http://w:1").files[0].sources[1:] == sources[:63]


@given(st.text(min_size=1, max_size=40))
def test_every_file_that_can_stand_on_a_card_can_be_advertised(name: str) -> None:
    try:
        card = card_of(name)
    except CardError:
        return
    source = advertised(card, "http://w:1").file(name)
    assert source is not None
    assert parse_uri(source.sources[0])


@pytest.fixture
def model(tmp_path: Path) -> HostedModel:
    (tmp_path / "blob").write_bytes(CONFIG)
    return HostedModel(card_of(), {digest_of(CONFIG): tmp_path / "blob"})


async def test_the_self_test_passes_where_the_files_are(model: HostedModel) -> None:
    async with serve_metadata([model], host="127.0.0.1", token="t") as server:
        await self_test(server.url, model.card, "t")


async def test_the_self_test_takes_no_proxy_from_the_environment(
    model: HostedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with serve_metadata([model], host="127.0.0.1") as server:
        await self_test(server.url, model.card)


async def test_the_self_test_takes_a_card_that_tells_no_sizes(model: HostedModel) -> None:
    other = msgspec.structs.replace(model.card, files=(msgspec.structs.replace(model.card.files[0], size=None),))
    async with serve_metadata([HostedModel(other, model.blobs)], host="127.0.0.1") as server:
        await self_test(server.url, other)


async def test_the_self_test_tells_of_a_missing_token(model: HostedModel) -> None:
    async with serve_metadata([model], host="127.0.0.1", token="t") as server:
        with pytest.raises(DiscoveryError, match="status 401") as caught:
            await self_test(server.url, model.card, "other")
    assert caught.value.code == Code.ADVERTISE_UNREACHABLE


async def test_the_self_test_tells_that_nobody_listens(model: HostedModel) -> None:
    async with serve_metadata([model], host="127.0.0.1") as server:
        url = server.url
    with pytest.raises(DiscoveryError) as caught:
        await self_test(url, model.card)
    assert caught.value.code == Code.ADVERTISE_UNREACHABLE
    assert url in str(caught.value)


@pytest.fixture
async def stranger() -> AsyncGenerator[tuple[str, list[web.Response | None]]]:
    """Return the base URL of a server that is not ours, and the list from which it answers; None is no answer."""
    answers: list[web.Response | None] = []

    async def handle(request: web.Request) -> web.Response:
        answer = answers.pop()
        if answer is None:
            await anyio.sleep_forever()
        assert answer is not None
        return answer

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    try:
        yield f"http://{host}:{port}", answers
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "seen"),
    [
        (200, b"x" * len(CONFIG), "not blake3:"),
        (200, CONFIG + b"x", "more than"),
        (200, CONFIG[:-1], "not blake3:"),
        (200, b"", "0 bytes"),
        (404, b"", "status 404"),
        (302, b"", "status 302"),
        (206, CONFIG, "status 206"),
    ],
)
async def test_the_self_test_tells_of_a_stranger_at_the_address(
    stranger: tuple[str, list[web.Response | None]], status: int, body: bytes, seen: str
) -> None:
    base, answers = stranger
    location = {"Location": f"{base}/elsewhere"} if status == 302 else {}
    answers.append(web.Response(status=status, body=body, headers=location))
    with pytest.raises(DiscoveryError, match=seen) as caught:
        await self_test(base, card_of())
    assert caught.value.code == Code.ADVERTISE_UNREACHABLE
    assert answers == []


async def test_the_self_test_does_not_wait_for_ever(stranger: tuple[str, list[web.Response | None]]) -> None:
    base, answers = stranger
    answers.append(None)
    with pytest.raises(DiscoveryError, match="within"):
        await self_test(base, card_of(), timeout_s=0.1)
