"""Fixtures of the store's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from placecard.store import Store
from placecard.telemetry import Fact


@pytest.fixture
def facts() -> list[Fact]:
    return []


@pytest.fixture
def store(tmp_path: Path, facts: list[Fact]) -> Store:
    return Store.open(tmp_path / "store", observe=facts.append)
