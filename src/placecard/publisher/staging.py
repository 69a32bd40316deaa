"""A model directory as front ends will have it: the files of the card under their names, no weights and no code."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread

from placecard.publisher.selection import Selection
from placecard.store.scratch import scratch


@asynccontextmanager
async def staged(chosen: Selection) -> AsyncGenerator[Path]:
    """Yield a temporary directory with links to what front ends will take of ``chosen``."""
    with scratch("build") as stage:
        await to_thread.run_sync(_link, chosen, stage)
        yield stage


def _link(chosen: Selection, stage: Path) -> None:
    taken = frozenset(chosen.metadata_names)
    for entry in chosen.entries:
        if entry.name not in taken:
            continue
        link = stage / entry.name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(entry.real, link)  # noqa: PTH211 - the path may hold what pathlib would fold
