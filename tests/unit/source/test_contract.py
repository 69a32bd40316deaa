"""One suite over every source: what each of them promises."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from placecard.card import FileUri, HttpUri, HubUri, Uri
from placecard.errors import Code, SourceError
from placecard.source import HubSource, LocalSource, Source
from tests.simulator.faulty import FaultyServer, Reply
from tests.simulator.hub import LocalHub
from tests.unit.source.tools import at, read, source_with

FILES = {"empty": b"", "small": b"{}", "a b": b"space", "large": bytes(range(256)) * (12 << 10)}


@dataclass(frozen=True)
class Lab:
    """A source, and the URI of each of :data:`FILES` in it; any other name is one that it does not have."""

    source: Source
    uri: Callable[[str], Uri]


@asynccontextmanager
async def local_lab(folder: Path) -> AsyncIterator[Lab]:
    def uri(name: str) -> FileUri:
        return at(folder / "org" / "m" / name)

    yield Lab(LocalSource([folder]), uri)


@asynccontextmanager
async def http_lab(folder: Path) -> AsyncIterator[Lab]:
    async with FaultyServer() as server, source_with() as source:
        for name, data in FILES.items():
            server.serve("/" + name.replace(" ", "%20"), Reply(data))

        def uri(name: str) -> HttpUri:
            return HttpUri("http", "127.0.0.1", server.port, f"{server.url}/{name.replace(' ', '%20')}")

        yield Lab(source, uri)


@asynccontextmanager
async def hub_lab(folder: Path) -> AsyncIterator[Lab]:
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    with LocalHub(folder) as hub:
        commit = hub.commit("org/m")

        def uri(name: str) -> HubUri:
            return HubUri("org/m", commit, name)

        yield Lab(HubSource(endpoint=hub.url, cache_dir=folder.parent / "cache"), uri)


LABS = {"local": local_lab, "http": http_lab, "hub": hub_lab}


@pytest.fixture(params=sorted(LABS))
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    folder = tmp_path / "files"
    (folder / "org" / "m").mkdir(parents=True)
    for name, data in FILES.items():
        (folder / "org" / "m" / name).write_bytes(data)
    async with LABS[request.param](folder) as lab:
        yield lab


@pytest.mark.parametrize("name", sorted(FILES))
async def test_the_bytes_are_those_of_the_file(lab: Lab, name: str) -> None:
    assert await read(lab.source, lab.uri(name)) == FILES[name]


async def test_chunks_are_never_empty_and_at_most_a_mebibyte(lab: Lab) -> None:
    async with lab.source.open(lab.uri("large")) as chunks:
        sizes = [len(chunk) async for chunk in chunks]
    assert sum(sizes) == len(FILES["large"])
    assert all(0 < size <= 1 << 20 for size in sizes)


async def test_an_exhausted_stream_stays_exhausted(lab: Lab) -> None:
    async with lab.source.open(lab.uri("small")) as chunks:
        assert [chunk async for chunk in chunks] == [b"{}"]
        assert [chunk async for chunk in chunks] == []


async def test_a_missing_file_is_a_source_error_on_entry(lab: Lab) -> None:
    with pytest.raises(SourceError) as caught:
        async with lab.source.open(lab.uri("absent")):
            pytest.fail("was entered")
    assert caught.value.code in (Code.NOT_FOUND, Code.HUB_NOT_FOUND)
    assert not caught.value.transient
    assert "absent" in str(caught.value)


async def test_many_reads_at_once_do_not_disturb_each_other(lab: Lab) -> None:
    wanted = sorted(FILES) * 4
    contents = await asyncio.gather(*(read(lab.source, lab.uri(name)) for name in wanted))
    assert contents == [FILES[name] for name in wanted]


async def test_leaving_early_gives_everything_back(lab: Lab) -> None:
    await read(lab.source, lab.uri("large"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        async with lab.source.open(lab.uri("large")) as chunks:
            await anext(chunks)
    assert len(os.listdir("/proc/self/fd")) <= before + 2, "a kept connection and its other end"
    assert await read(lab.source, lab.uri("small")) == b"{}"


async def test_an_error_of_the_consumer_passes_as_it_is(lab: Lab) -> None:
    with pytest.raises(OSError, match="disk full"):
        async with lab.source.open(lab.uri("large")) as chunks:
            async for _ in chunks:
                raise OSError("disk full")
