"""A small world to resolve in: sources in memory with dials, a real store in a temporary directory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from placecard.card import Card, CheckedFile, HubUri, Role, Serving, Uri, assign_slots, digest_of
from placecard.discovery import Record
from placecard.errors import Code, SourceError
from placecard.resolver import Admission, Peers, Resolution, Resolver, ResolveSettings, Sources
from placecard.source import HubFile, HubSnapshot, LocalSource
from placecard.store import Snapshot, Store
from placecard.telemetry import Counters, Fact, ignore, tee

FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"{}",
    "special_tokens_map.json": b'{"eos_token": "<|im_end|>"}',
    "1_Pooling/config.json": b'{"pooling": 1}',
}
WORKER = "http://127.0.0.1:9090"


class MemorySource:
    """Answers from a dictionary; counts what it is asked."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.errors: dict[str, list[Code]] = {}
        self.asked: list[str] = []
        self.hold: anyio.Event | None = None

    @asynccontextmanager
    async def open(self, uri: Uri) -> AsyncIterator[AsyncIterator[bytes]]:
        text = str(uri)
        self.asked.append(text)
        if self.errors.get(text):
            raise SourceError(self.errors[text].pop(0), "as told", subject=text)
        if text not in self.content:
            raise SourceError(Code.NOT_FOUND, "absent", subject=text)
        if self.hold is not None:
            await self.hold.wait()
        yield self._chunks(self.content[text])

    async def _chunks(self, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 7):
            yield data[start : start + 7]


class MemoryHub(MemorySource):
    """A hub in memory, and the snapshots that this host's cache has of it."""

    def __init__(self) -> None:
        super().__init__()
        self.main: dict[str, str] = {}
        self.listings: dict[tuple[str, str], tuple[HubFile, ...]] = {}
        self.local: list[HubSnapshot] = []
        self.pinned: list[str] = []

    async def pin(self, repo: str, revision: str | None) -> str:
        self.pinned.append(repo)
        if repo not in self.main:
            raise SourceError(Code.HUB_OFFLINE, "no network", subject=repo)
        return revision or self.main[repo]

    async def listing(self, repo: str, commit: str) -> tuple[HubFile, ...]:
        self.asked.append(f"listing {repo}@{commit}")
        if (repo, commit) not in self.listings:
            raise SourceError(Code.HUB_OFFLINE, "no network", subject=repo)
        return self.listings[repo, commit]

    def snapshots(self, repo: str) -> tuple[HubSnapshot, ...]:
        return tuple(snapshot for snapshot in self.local if snapshot.repo == repo)

    def add(self, repo: str, commit: str, files: dict[str, bytes]) -> None:
        """Put a revision of a repository on the hub; it becomes ``main``."""
        import hashlib

        self.main[repo] = commit
        rows = []
        for name, data in files.items():
            git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            rows.append(HubFile(name, len(data), git, None))
            self.content[str(HubUri(repo, commit, name))] = data
        self.listings[repo, commit] = tuple(rows)


class AdmitAll:
    """A load test that finds nothing wrong."""

    async def warm(self) -> None:
        return

    async def admit(self, snapshot: Snapshot, record: Record) -> Admission:
        return Admission((), (), "passed")


@dataclass
class World:
    """Everything one test touches."""

    root: Path
    settings: ResolveSettings = field(default_factory=ResolveSettings)
    roots: Sequence[Path] = ()
    http: MemorySource = field(default_factory=MemorySource)
    hub: MemoryHub = field(default_factory=MemoryHub)
    counters: Counters = field(default_factory=Counters)
    facts: list[Fact] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store.open(self.root / "store", observe=ignore)

    @asynccontextmanager
    async def resolver(self, store: Store | None = None) -> AsyncIterator[Resolver]:
        sources = Sources(LocalSource(self.roots), self.http, self.hub)  # type: ignore[arg-type]
        observe = tee(self.counters, self.facts.append)
        async with Resolver(store or self.store, sources, self.settings, admit=AdmitAll(), observe=observe) as resolver:
            yield resolver

    async def resolve(self, record: Record, peers: Peers | None = None) -> Resolution:
        async with self.resolver() as resolver:
            return await resolver.resolve(record, peers)

    def serve(self, card: Card, files: dict[str, bytes], address: str = WORKER) -> Record:
        """Let a worker self-host ``files``; return its record."""
        for file in card.files:
            self.http.content[f"{address}/v1/metadata/m/{file.name}"] = files[file.name]
            self.http.content[f"{address}/v1/blobs/blake3/{file.digest.removeprefix('blake3:')}"] = files[file.name]
        return Record("1" * 32, card, address)


def make_card(
    files: dict[str, bytes] | None = None,
    *,
    name: str = "acme/river",
    source: Callable[[str], str] | None = lambda name: f"{WORKER}/v1/metadata/m/{name}",
    sizes: bool = True,
    consumers: dict[str, tuple[str, ...]] | None = None,
    origin: str | None = None,
) -> Card:
    """Return a card of ``files`` whose sources are ``source(name)``."""
    files = FILES if files is None else files
    roles = assign_slots(files)
    return Card(
        name=name,
        origin=origin,
        files=tuple(
            CheckedFile(
                name=each,
                digest=digest_of(data),
                size=len(data) if sizes else None,
                role=roles.get(each, Role.EXTRA).value,
                consumers=(consumers or {}).get(each, ()),
                sources=(source(each),) if source else (),
            )
            for each, data in files.items()
        ),
        serving=Serving(),
    )


def write(directory: Path, files: dict[str, bytes]) -> Path:
    """Write ``files`` below ``directory`` and return it."""
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def read_all(directory: Path) -> dict[str, bytes]:
    """Return every file below ``directory`` by its relative name."""
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
