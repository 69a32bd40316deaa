"""What the benchmarks share: the metadata set, the processes that serve it, and a resolver without its load test."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from placecard.discovery import Record
from placecard.discovery.record import decode_record
from placecard.resolver import Admission, Budget, Resolver, ResolveSettings, Sources
from placecard.source import HttpSource, HubSource, LocalSource
from placecard.store import Snapshot, Store
from placecard.telemetry import Observe, ignore

MIB = 1 << 20
# 12 files, 20 MiB in all, one tokenizer of 11 MiB.
SIZES = {
    "config.json": 2_000, "tokenizer.json": 11 * MIB, "tokenizer_config.json": 12_000, "generation_config.json": 300,
    "chat_template.jinja": 6_000, "special_tokens_map.json": 700, "preprocessor_config.json": 800, "vocab.json": 3 *
    MIB, "merges.txt": 2 * MIB, "added_tokens.json": 700, "LICENSE": 11_000, "extra.json": 4 * MIB - 40_000,
}  # fmt: skip


class NoLoadTest:
    """Leaves the load test out: it runs in a child, and is no part of what is compared."""

    async def warm(self) -> None:
        """Need nothing."""

    async def admit(self, snapshot: Snapshot, record: Record) -> Admission:
        """Admit everything."""
        return Admission((), (), "off")


def write_set(directory: Path, sizes: dict[str, int] = SIZES) -> Path:
    """Write files of ``sizes`` with content that does not compress."""
    directory.mkdir(parents=True)
    source = random.Random(7)
    for name, size in sizes.items():
        with (directory / name).open("wb") as file:
            for start in range(0, size, MIB):
                file.write(source.randbytes(min(MIB, size - start)))
    return directory


@contextmanager
def worker(directory: Path) -> Iterator[Record]:
    """Run a self-hosting worker in a process of its own."""
    with _process([sys.executable, "-m", "bench.worker", str(directory)]) as line:
        yield decode_record(line.encode())


@contextmanager
def hub(root: Path) -> Iterator[str]:
    """Run the local hub of the tests in a process of its own; yield its URL."""
    with _process([sys.executable, "-m", "tests.simulator.hub", "--root", str(root)]) as line:
        yield line.split()[-1]


@contextmanager
def _process(command: list[str]) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@asynccontextmanager
async def resolver(root: Path, *, observe: Observe = ignore, budget: Budget | None = None) -> AsyncIterator[Resolver]:
    """Yield a resolver over the store at ``root``."""
    settings = ResolveSettings(budget=budget or Budget())
    async with HttpSource() as http:
        sources = Sources(LocalSource([]), http, HubSource(offline=True, cache_dir=root / "no-hub"))
        async with Resolver(Store.open(root), sources, settings, admit=NoLoadTest(), observe=observe) as opened:
            yield opened
