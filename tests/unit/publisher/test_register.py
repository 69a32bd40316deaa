"""A worker's record stays in the registry as long as the worker, through outages, and no longer."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.registry_suite import record

from placecard.discovery import Change, MemoryHub, MemoryRegistry, Record, Registry
from placecard.errors import CardError, Code, DiscoveryError, UsageError
from placecard.publisher import registered
from placecard.publisher.register import next_due, retry_pauses
from placecard.telemetry import Fact, Fallback

RECORD = record(1)


class Flaky:
    """A registry in memory whose next operations fail or hang by script."""

    def __init__(self, *, ttl_s: float = 0.06) -> None:
        self.hub = MemoryHub(ttl_s=3600)
        self.ttl_s = ttl_s
        self.down = False
        self.hung = False
        self.calls: list[str] = []
        self._inner = MemoryRegistry(self.hub)
        self.changed = anyio.Event()

    async def __aenter__(self) -> Registry:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def put(self, record: Record) -> None:
        await self._called("put")
        await self._inner.put(record)

    async def refresh(self, instance: str) -> bool:
        await self._called("refresh")
        return await self._inner.refresh(instance)

    async def delete(self, instance: str) -> None:
        await self._called("delete")
        await self._inner.delete(instance)

    async def list(self) -> tuple[Record, ...]:
        return await self._inner.list()

    def watch(self) -> AsyncIterator[Change]:
        return self._inner.watch()

    async def until(self, call: str, times: int = 1) -> None:
        """Wait until ``call`` was made so often from now on."""
        wanted = self.calls.count(call) + times
        with anyio.fail_after(10):
            while self.calls.count(call) < wanted:
                await self.changed.wait()

    async def _called(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()
        self.changed = anyio.Event()
        if self.hung:
            await anyio.sleep_forever()
        if self.down:
            raise DiscoveryError(Code.DISCOVERY_UNAVAILABLE, "is down")


def kinds(facts: list[Fact]) -> list[str]:
    return [fact.kind for fact in facts if isinstance(fact, Fallback)]


async def test_a_record_is_there_while_the_body_runs() -> None:
    registry = Flaky()
    async with registered(registry, RECORD):
        assert await registry.list() == (RECORD,)
    assert await registry.list() == ()


async def test_the_lease_is_renewed_again_and_again() -> None:
    facts: list[Fact] = []
    registry = Flaky()
    async with registered(registry, RECORD, facts.append):
        await registry.until("refresh", 5)
    assert registry.calls.count("put") == 1
    assert facts == []


async def test_row72_a_record_that_is_gone_is_put_again_and_it_is_stated() -> None:
    facts: list[Fact] = []
    registry = Flaky()
    async with registered(registry, RECORD, facts.append):
        registry.hub.remove(RECORD.instance)
        await registry.until("put")
        await registry.until("refresh")
        assert await registry.list() == (RECORD,)
    assert kinds(facts) == ["record_put_again"]


@pytest.mark.parametrize("way", ["down", "hung"])
async def test_row77_a_registry_that_goes_away_is_waited_for(way: str) -> None:
    facts: list[Fact] = []
    registry = Flaky()
    async with registered(registry, RECORD, facts.append):
        await registry.until("refresh")
        setattr(registry, way, True)
        await registry.until("put", 3)
        registry.hub.remove(RECORD.instance)
        setattr(registry, way, False)
        await registry.until("refresh", 2)
        assert await registry.list() == (RECORD,)
    assert kinds(facts) == ["registry_unreachable", "record_put_again"]


async def test_the_first_put_must_succeed() -> None:
    registry = Flaky()
    registry.down = True
    with pytest.raises(DiscoveryError):
        async with registered(registry, RECORD):
            pytest.fail("registered")
    assert registry.calls == ["put"]


async def test_a_record_that_no_registry_takes_is_told_at_once() -> None:
    bad = Record(instance="0" * 32, card=RECORD.card, address="nowhere")
    with pytest.raises((DiscoveryError, CardError)) as caught:
        async with registered(Flaky(), bad):
            pytest.fail("registered")
    assert caught.value.code == Code.RECORD_MALFORMED


async def test_an_error_of_the_body_comes_out_as_it_is_and_the_record_is_withdrawn() -> None:
    registry = Flaky()
    with pytest.raises(UsageError, match="mine"):
        async with registered(registry, RECORD):
            raise UsageError(Code.USAGE, "mine")
    assert await registry.list() == ()


async def test_a_cancelled_worker_withdraws() -> None:
    registry = Flaky()
    with anyio.CancelScope() as scope:
        async with registered(registry, RECORD):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await registry.list() == ()


async def test_a_worker_stopped_in_the_middle_of_an_outage_ends_in_time() -> None:
    facts: list[Fact] = []
    registry = Flaky()
    with anyio.fail_after(5):
        async with registered(registry, RECORD, facts.append):
            registry.down = True
            await registry.until("put")
    assert kinds(facts) == ["registry_unreachable", "record_left_to_expire"]


async def test_a_registry_that_hangs_does_not_hold_a_worker_that_ends() -> None:
    facts: list[Fact] = []
    registry = Flaky(ttl_s=60)
    with anyio.fail_after(5):
        async with registered(registry, RECORD, facts.append, withdraw_s=0.05):
            registry.hung = True
    assert kinds(facts) == ["record_left_to_expire"]


async def test_nothing_is_put_after_the_withdrawal() -> None:
    registry = Flaky(ttl_s=0.003)
    for _ in range(20):
        async with registered(registry, RECORD):
            await anyio.sleep(0.002)
        assert registry.calls[-1] == "delete"
        assert await registry.list() == ()


@given(
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.001, 1e3)
)  # fmt: skip
def test_the_schedule_is_absolute_and_never_in_the_past(due: float, late: float, every_s: float) -> None:
    now = due + late
    after = next_due(due, now, every_s)
    assert after > now or after == now + every_s
    assert after == due + every_s or late >= every_s


@given(st.floats(0.001, 60), st.floats(0, 1, exclude_max=True))
def test_retries_grow_and_stay_within_a_third_of_a_lease(most_s: float, drawn: float) -> None:
    pauses = list(itertools.islice(retry_pauses(most_s, lambda: drawn), 20))
    assert all(0 < pause <= most_s for pause in pauses)
    assert pauses == sorted(pauses)
    assert pauses[-1] == most_s * (1 - drawn / 2)
