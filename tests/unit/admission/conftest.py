"""Model directories and a loader for the tests of admission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from placecard.admission import Limits, Loader
from tests.simulator.models import write_text_model, write_vl_model


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    return write_text_model(tmp_path / "text")


@pytest.fixture
def vl_model(tmp_path: Path) -> Path:
    return write_vl_model(tmp_path / "vl")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run each module in one event loop, so that its tests share a loader: starting one takes a second."""
    return "asyncio"


@pytest.fixture(scope="module")
def limits() -> Limits:
    return Limits(seconds=20, memory_bytes=1 << 30, template_seconds=0.5)


@pytest.fixture(scope="module")
async def loader(limits: Limits) -> AsyncIterator[Loader]:
    async with Loader(limits) as loader:
        yield loader
