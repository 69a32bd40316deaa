"""The registry over Dynamo's files keeps the laws of registries."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from placecard.discovery import Registry
from placecard.dynamo import DynamoFileRegistry
from placecard.dynamo.filekv import MODELS, encode_key
from placecard.dynamo.record import dynamo_instance_id
from placecard.telemetry import Fact, Observe, ignore
from tests.contract.registry_suite import Lab, RegistrySuite, record, rejected


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class DynamoLab:
    ttl_s = 10.0

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._clock = Clock()

    def open(self, observe: Observe = ignore) -> AbstractAsyncContextManager[Registry]:
        return DynamoFileRegistry(self._directory, clock=self._clock, period_s=0.02, observe=observe)

    async def advance(self, seconds: float) -> None:
        """Move the readers' clock, and age every file as the file system would have."""
        self._clock.now += seconds
        for path in (self._directory / MODELS).iterdir():
            status = path.stat()
            os.utime(path, (status.st_atime, status.st_mtime - seconds))

    async def scribble(self, instance: str, data: bytes) -> None:
        name = encode_key(f"dynamo/backend/generate/{dynamo_instance_id(instance):x}")
        (self._directory / MODELS).mkdir(parents=True, exist_ok=True)
        (self._directory / MODELS / name).write_bytes(data)


class TestDynamoFileRegistry(RegistrySuite):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> Lab:
        return DynamoLab(tmp_path / "kv")

    @pytest.mark.parametrize("garbage", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"schema":1}', b"{" * 40])
    async def test_row75_a_malformed_neighbour_harms_nobody(self, lab: Lab, garbage: bytes) -> None:
        """As in the suite, but Dynamo's keys hold a number of 64 bits in place of the instance."""
        facts: list[Fact] = []
        async with lab.open(facts.append) as registry:
            await registry.put(record(1))
            await lab.scribble(record(2).instance, garbage)
            await registry.put(record(3))
            assert await registry.list() == (record(1), record(3))
            assert await registry.list() == (record(1), record(3))
        assert len(rejected(facts)) == 1
        assert f"{dynamo_instance_id(record(2).instance):x}" in rejected(facts)[0].key
