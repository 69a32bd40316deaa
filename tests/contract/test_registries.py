"""Every registry of this release keeps the laws of registries."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from placecard.discovery import FileRegistry, MemoryHub, MemoryRegistry, Registry
from placecard.telemetry import Observe, ignore
from tests.contract.registry_suite import Lab, RegistrySuite


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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

    def open(self, observe: Observe = ignore) -> AbstractAsyncContextManager[Registry]:
        return FileRegistry(
            self._directory, ttl_s=self.ttl_s, clock=self._clock, inotify=self._inotify, observe=observe
        )

    async def advance(self, seconds: float) -> None:
        """Move the readers' clock, and age every file as the file system would have."""
        self._clock.now += seconds
        for path in self._directory.iterdir():
            status = path.stat()
            os.utime(path, (status.st_atime, status.st_mtime - seconds))
        (self._directory / "bell").write_bytes(b"")

    async def scribble(self, instance: str, data: bytes) -> None:
        (self._directory / f"{instance}.json").write_bytes(data)


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
