"""Resolving beside ``huggingface_hub.snapshot_download``: same files, same machine, in turn."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import anyio
from blake3 import blake3

from bench import parts
from placecard.discovery import Record
from placecard.discovery.record import decode_record, encode_record
from placecard.resolver import Peers, Resolver, State
from placecard.telemetry import Fact, FileVerified

REPO = "bench/model"


def measure(rounds: int) -> dict[str, list[float]]:
    """Return cold and warm ratios, pair by pair, and what more workers cost."""
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    root = Path(tempfile.mkdtemp(prefix="placecard-bench-"))
    try:
        directory = parts.write_set(root / "hub" / REPO)
        with parts.worker(directory) as record, parts.hub(root / "hub") as endpoint:
            return anyio.run(_measure, root, directory, record, endpoint, rounds)
    finally:
        shutil.rmtree(root)


async def _measure(root: Path, directory: Path, record: Record, endpoint: str, rounds: int) -> dict[str, list[float]]:
    commit = _download(endpoint, root / "hub-warm", "main").name
    cold_hub, cold_floor, warm = [], [], []
    await _cold(root / "warm-up", record)
    for index in range(rounds):
        ours = await _cold(root / f"cold-{index}", record)
        theirs = _timed_download(endpoint, root / f"hub-{index}", commit)
        floor = _floor(directory, root / f"floor-{index}")
        cold_hub.append(ours / theirs)
        cold_floor.append(ours / floor)
    async with parts.resolver(root / "warm-up") as resolver:
        for _ in range(rounds):
            ours = min([await _resolve(resolver, record) for _ in range(5)])
            theirs = min(_timed_download(endpoint, root / "hub-warm", commit) for _ in range(5))
            warm.append(ours / theirs)
        joined = await _one_more_worker(resolver, record, rounds)
    fetches = await _fetches(root / "fleet", record)
    return {
        "cold_vs_hub": cold_hub,
        "cold_vs_floor": cold_floor,
        "warm_vs_hub": warm,
        "fetches_per_digest": [fetches],
        "one_more_worker": joined,
    }


async def _cold(root: Path, record: Record) -> float:
    async with parts.resolver(root) as resolver:
        return await _resolve(resolver, record)


async def _resolve(resolver: Resolver, record: Record) -> float:
    started = time.perf_counter()
    outcome = await resolver.resolve(record)
    seconds = time.perf_counter() - started
    assert outcome.state is State.READY, outcome.errors
    return seconds


def _timed_download(endpoint: str, cache: Path, revision: str) -> float:
    started = time.perf_counter()
    _download(endpoint, cache, revision)
    return time.perf_counter() - started


def _download(endpoint: str, cache: Path, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(REPO, revision=revision, cache_dir=cache, endpoint=endpoint))


def _floor(source: Path, target: Path) -> float:
    """Read, hash and fsync-write the same bytes once: the least that proven and durable can cost."""
    target.mkdir()
    started = time.perf_counter()
    for path in source.iterdir():
        data = path.read_bytes()
        blake3(data).hexdigest()
        with (target / path.name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - started


async def _one_more_worker(resolver: Resolver, record: Record, rounds: int) -> list[float]:
    """CPU of taking in a further worker of the same content over that of a warm resolve, both from a record's bytes."""
    gc.collect()
    gc.freeze()  # what else this process holds is not to be walked by the collector while we measure
    peers = Peers()
    for index in range(63):
        peers.add(replace(record, instance=f"{index:032x}"))
    ratios = []
    for index in range(rounds):
        each = range(100 * (index + 1), 100 * (index + 1) + 20)
        joining = [encode_record(replace(record, instance=f"{instance:032x}")) for instance in each]
        started = time.process_time()
        for data in joining:
            peers.add(decode_record(data))
        join = (time.process_time() - started) / len(joining)
        started = time.process_time()
        for data in joining:
            await resolver.resolve(decode_record(data), peers)
        ratios.append(join / ((time.process_time() - started) / 20))
    return ratios


async def _fetches(root: Path, record: Record) -> float:
    """Resolve the same content of 64 workers at once; return fetches per distinct digest."""
    fetched: Counter[str] = Counter()

    def observe(fact: Fact) -> None:
        if isinstance(fact, FileVerified):
            fetched[fact.name] += 1

    peers = Peers()
    records = [replace(record, instance=f"{index:032x}") for index in range(64)]
    for each in records:
        peers.add(each)
    async with parts.resolver(root, observe=observe) as resolver, anyio.create_task_group() as tasks:
        for each in records:
            tasks.start_soon(resolver.resolve, each, peers)
    return fetched.total() / len({file.digest for file in record.card.files})
