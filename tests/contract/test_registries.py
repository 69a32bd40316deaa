"""Every registry of this release keeps the laws of registries."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from placecard.discovery import FileRegistry, MemoryHub, MemoryRegistry, Registry
from placecard.discovery.folder import FileClock
from placecard.telemetry import Observe, ignore
from tests.contract.registry_suite import Lab, RegistrySuite


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class StillFileClock(FileClock):
    """A file system's clock that moves with the readers' own, so that no test waits or depends on how fast it runs.

    It stands far before the real one, by which the kernel stamps changes: every file counts as changed just now.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self, directory: int) -> float:
        return 1e9 + self._clock.now

    def stamp(self) -> tuple[float, float]:
        return (1e9 + self._clock.now,) * 2


class MemoryLab:
    ttl_s = 10.0

    def __init__(self) -> None:
        self._clock = Clock()
        self._hub = MemoryHub(ttl_s=self.ttl_s, clock=self._clock)

    def open(self, observe: Observe = ignore) -> AbstractAsyncContextManager[Registry]:
        return MemoryRegistry(self._hub, observe=observe)

    async def advance(self, seconds: float) -> None:
        self._clock.now += seconds
        self._hub.wake()

    async def scribble(self, instance: str, data: bytes) -> None:
        self._hub.write(instance, data)


class FileLab:
    ttl_s = 10.0

    def __init__(self, directory: Path, *, inotify: bool) -> None:
        self._directory = directory
        self._inotify = inotify
        self._clock = Clock()
        self._file_clock = StillFileClock(self._clock)

    def open(self, observe: Observe = ignore) -> AbstractAsyncContextManager[Registry]:
        return FileRegistry(
            self._directory, ttl_s=self.ttl_s, clock=self._clock, inotify=self._inotify, observe=observe,
            file_clock=self._file_clock,
        )  # fmt: skip

    async def advance(self, seconds: float) -> None:
        """Move both clocks; no file changes, as a file that does counts as touched."""
        self._clock.now += seconds
        (self._directory / "bell").write_bytes(b"")

    async def scribble(self, instance: str, data: bytes) -> None:
        beside = self._directory / ".scribble"
        beside.write_bytes(data)
        os.utime(beside, self._file_clock.stamp())
        beside.rename(self._directory / f"{instance}.json")


class TestMemoryRegistry(RegistrySuite):
    @pytest.fixture
    def lab(self) -> Lab:
        return MemoryLab()


class TestFileRegistry(RegistrySuite):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> Lab:
        return FileLab(tmp_path / "registry", inotify=True)


class TestPolledFileRegistry(RegistrySuite):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> Lab:
        return FileLab(tmp_path / "registry", inotify=False)
