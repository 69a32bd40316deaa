"""What the tests of sources share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from placecard.card import FileUri, Uri, file_uri, parse_uri
from placecard.errors import Code, PlacecardError
from placecard.source import HttpSource, Source
from tests.simulator.faulty import FaultyServer, Reply


async def read(source: Source, uri: Uri | str) -> bytes:
    """Return all bytes at ``uri``."""
    async with source.open(parse_uri(uri) if isinstance(uri, str) else uri) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def failure(source: Source, uri: Uri | str) -> PlacecardError:
    """Return the error that reading ``uri`` ends in."""
    with pytest.raises(PlacecardError) as caught:
        await read(source, uri)
    return caught.value


async def code(source: Source, uri: Uri | str) -> Code:
    """Return the code of the error that reading ``uri`` ends in."""
    return (await failure(source, uri)).code


def at(path: Path) -> FileUri:
    """Return the URI of a path."""
    uri = parse_uri(file_uri(str(path)))
    assert isinstance(uri, FileUri)
    return uri


def source_with(**dials: Any) -> HttpSource:
    """Return a source with these dials; those that a test does not turn leave room for a busy machine."""
    return HttpSource(**dials)


@asynccontextmanager
async def served(reply: Reply, *more: Reply, **dials: Any) -> AsyncIterator[tuple[HttpSource, str, FaultyServer]]:
    """Yield a source, the URL where ``reply`` and then ``more`` are served, and the server."""
    async with FaultyServer() as server, source_with(**dials) as source:
        yield source, server.serve("/v1/metadata/m/config.json", reply, *more), server
