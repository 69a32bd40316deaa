"""Where a publisher takes its model from: a directory of this host, or a hub repository at one commit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from placecard.card import HubUri, Kind, LeftOut, check_name, file_uri, kind_of, parse_repo
from placecard.errors import CardError, Code, UsageError
from placecard.publisher.selection import MAX_TOTAL_BYTES
from placecard.source import HubFile, HubSource

_PARALLEL: Final = 8


@dataclass(frozen=True)
class ModelOrigin:
    """A model as its publisher finds it.

    Args:
        directory: Holds the metadata files; of a hub repository it is a temporary copy.
        default_name: What clients ask for if the publisher gives no name.
        origin: ``hf://REPO@COMMIT``, or the directory's path.
        sources: File name to the URIs where its bytes stay available after this process.
        left_out: What was not even fetched, with the reason.
    """

    directory: Path
    default_name: str
    origin: str
    sources: Callable[[str], tuple[str, ...]]
    left_out: tuple[LeftOut, ...] = ()


@asynccontextmanager
async def model_origin(model: str, hub: HubSource) -> AsyncGenerator[ModelOrigin]:
    """Yield the origin that ``model`` names: a directory, or ``hf://REPO[@REV]``, pinned to its commit once.

    Raises:
        CardError: ``URI_FORBIDDEN``; the name of a repository is malformed.
        SourceError: The hub does not give what it should.
        UsageError: The repository holds more than a card may.
    """
    if not model.startswith("hf://"):
        directory = Path(os.path.abspath(model))  # noqa: ASYNC240, PTH100 - no disk is touched
        yield ModelOrigin(directory, directory.name, str(directory), lambda name: (file_uri(str(directory / name)),))
        return
    repo, revision = parse_repo(model)
    commit = await hub.pin(repo, revision)
    listed = await hub.listing(repo, commit)
    wanted, left_out = _sorted_out(listed)
    if (total := sum(file.size for file in wanted)) > MAX_TOTAL_BYTES:
        raise UsageError(Code.USAGE, f"holds {total} bytes of metadata; at most {MAX_TOTAL_BYTES}", subject=model)
    with tempfile.TemporaryDirectory(prefix="placecard-publish-") as folder:
        async with anyio.create_task_group() as tasks:
            limiter = anyio.CapacityLimiter(_PARALLEL)
            for file in wanted:
                tasks.start_soon(_fetch, hub, HubUri(repo, commit, file.name), Path(folder), limiter)
        yield ModelOrigin(
            Path(folder), repo, f"hf://{repo}@{commit}", lambda name: (str(HubUri(repo, commit, name)),), left_out
        )


def _sorted_out(listed: tuple[HubFile, ...]) -> tuple[list[HubFile], tuple[LeftOut, ...]]:
    """Return the files worth fetching, and the others with the reason."""
    wanted, left_out = [], []
    for file in listed:
        kind = kind_of(file.name)
        try:
            check_name(file.name)
        except CardError as error:
            left_out.append(LeftOut(file.name, error.detail))
            continue
        if kind in (Kind.WEIGHTS, Kind.HIDDEN):
            left_out.append(LeftOut(file.name, kind.value))
        else:
            wanted.append(file)
    return wanted, tuple(left_out)


async def _fetch(hub: HubSource, uri: HubUri, folder: Path, limiter: anyio.CapacityLimiter) -> None:
    async with limiter, hub.open(uri) as chunks:
        target = folder / uri.path
        await to_thread.run_sync(lambda: target.parent.mkdir(parents=True, exist_ok=True))
        async with await anyio.open_file(target, "wb") as file:
            async for chunk in chunks:
                await file.write(chunk)
