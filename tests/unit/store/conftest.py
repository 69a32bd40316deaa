"""Fixtures of the store's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from placecard.store import Store
from placecard.telemetry import Fact


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is tested on a disk on paper; a real one would only make every other test wait."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def facts() -> list[Fact]:
    return []


@pytest.fixture
def store(tmp_path: Path, facts: list[Fact]) -> Store:
    return Store.open(tmp_path / "store", observe=facts.append)
