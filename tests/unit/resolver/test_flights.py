"""One flight per key."""

from __future__ import annotations

import anyio
import pytest

from placecard.resolver.flights import Flights


async def test_all_who_ask_meanwhile_share_one_flight() -> None:
    flown, landed = 0, []

    async def job() -> int:
        nonlocal flown
        flown += 1
        await anyio.sleep(0)
        return 7

    async with anyio.create_task_group() as tasks:
        flights: Flights[int] = Flights(tasks)

        async def ask() -> None:
            landed.append(await flights.join("k", job))

        async with anyio.create_task_group() as callers:
            for _ in range(50):
                callers.start_soon(ask)
    assert (flown, landed) == (1, [7] * 50)


async def test_a_later_caller_flies_anew() -> None:
    flown = 0

    async def job() -> int:
        nonlocal flown
        flown += 1
        return flown

    async with anyio.create_task_group() as tasks:
        flights: Flights[int] = Flights(tasks)
        assert [await flights.join("k", job), await flights.join("k", job)] == [1, 2]


async def test_every_waiter_gets_the_error_and_the_next_flight_is_free() -> None:
    async def crash() -> int:
        raise ValueError("down")

    async def fine() -> int:
        return 1

    async with anyio.create_task_group() as tasks:
        flights: Flights[int] = Flights(tasks)
        with pytest.raises(ValueError, match="down"):
            await flights.join("k", crash)
        assert await flights.join("k", fine) == 1


async def test_a_caller_that_gives_up_does_not_stop_the_flight() -> None:
    released, done = anyio.Event(), []

    async def job() -> int:
        await released.wait()
        done.append(True)
        return 1

    async with anyio.create_task_group() as tasks:
        flights: Flights[int] = Flights(tasks)
        with anyio.move_on_after(0.01) as scope:
            await flights.join("k", job)
        assert scope.cancelled_caught
        released.set()
        assert await flights.join("k", job) == 1
    assert done[:1] == [True]
