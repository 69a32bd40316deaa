"""Where a publisher takes its model from: a directory of this host, or a hub repository at one commit."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from placecard.card import LeftOut, file_uri, parse_repo
from placecard.publisher.checkout import checkout
from placecard.source import HubSource
from placecard.store.scratch import scratch


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

    @property
    def from_hub(self) -> bool:
        """Whether the model is a hub repository's."""
        return self.origin.startswith("hf://")


@asynccontextmanager
async def model_origin(model: str, hub: HubSource) -> AsyncGenerator[ModelOrigin]:
    """Yield the origin that ``model`` names: a directory, or ``hf://REPO[@REV]``, pinned to its commit once.

    Raises:
        CardError: ``URI_FORBIDDEN``; the name of a repository is malformed.
        PlacecardError: As :func:`~placecard.publisher.checkout.checkout`.
    """
    if not model.startswith("hf://"):
        directory = Path(os.path.abspath(model))  # noqa: ASYNC240, PTH100 - no disk is touched
        yield ModelOrigin(directory, directory.name, str(directory), lambda name: (file_uri(str(directory / name)),))
        return
    repo, revision = parse_repo(model)
    with scratch("publish") as folder:
        found = await checkout(hub, repo, revision, folder)
        yield ModelOrigin(found.directory, repo, found.origin, found.sources, found.left_out)
