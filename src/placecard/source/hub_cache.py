"""The hub's cache on this host, read without its client: importing that takes up to two seconds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from placecard.card import is_commit
from placecard.card.uri import check_repo
from placecard.errors import CardError, SourceError
from placecard.source.beneath import Beneath

_MAX_SNAPSHOTS: Final = 1024


@dataclass(frozen=True)
class HubSnapshot:
    """A directory with files of ``repo`` at ``commit``, as links into the cache; not all need be there."""

    repo: str
    commit: str
    path: Path


class CacheUnusableError(SourceError):
    """The cache cannot be written; the file can still be fetched elsewhere."""


def default_hub_cache(env: Mapping[str, str], home: Path) -> Path:
    """Return where the hub's client keeps its cache.

    Source: huggingface_hub, constants.py: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, in that order.
    """
    for name, below in (
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        if value := env.get(name):
            written = Path(value)
            known = written if not value.startswith("~/") else home / value[2:]
            return known / below
    return home / ".cache/huggingface/hub"


def repo_folder(cache_dir: Path, repo: str) -> Path:
    """Return the folder of ``repo`` in a cache.

    Raises:
        CardError: ``URI_FORBIDDEN`` if that is no name of a repository.
    """
    check_repo(repo, subject=repo)
    return cache_dir / ("models--" + repo.replace("/", "--"))


def snapshots(cache_dir: Path, repo: str) -> tuple[HubSnapshot, ...]:
    """Return the snapshots of ``repo`` on this host: the one that ``main`` names first, then the newest first.

    Whatever is not a real folder named by a commit is passed over, and so is a repository whose name is none.
    """
    try:
        folder = repo_folder(cache_dir, repo)
        main = _main(cache_dir, folder)
        found = sorted(_folders(folder / "snapshots"), key=lambda item: (item[0] != main, -item[1], item[0]))
    except (CardError, OSError):
        return ()
    return tuple(HubSnapshot(repo, commit, folder / "snapshots" / commit) for commit, _ in found)


def _folders(parent: Path) -> Iterator[tuple[str, int]]:
    with os.scandir(parent) as entries:
        for entry in islice(entries, _MAX_SNAPSHOTS):
            if is_commit(entry.name):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    yield entry.name, status.st_mtime_ns


def _main(cache_dir: Path, folder: Path) -> str:
    try:
        fd = Beneath((cache_dir,)).open_file(folder / "refs" / "main")
    except SourceError:
        return ""
    with os.fdopen(fd, "rb") as file:
        return file.read(64).decode(errors="replace").strip()
