"""Fixtures that every test may use, and how properties are tried."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no defect: no property may fail for being slow. The default run tries the same examples each time;
# `pytest --hypothesis-profile=explore` looks for new ones.
settings.register_profile("placecard", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("placecard")


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio alone: the runtime of the product."""
    return "asyncio"
