"""One flight per key: whoever asks for what is already on its way waits for the same arrival."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.result: T | None = None
        self.error: Exception | None = None


class Flights(Generic[T]):
    """Runs at most one job per key at a time, in a task group that outlives the callers.

    A caller that is cancelled stops waiting; the job goes on and serves the others.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._in_air: dict[str, _Flight[T]] = {}

    async def join(self, key: str, job: Callable[[], Awaitable[T]]) -> T:
        """Return what the flight of ``key`` brings, starting ``job`` if none is in the air.

        Raises:
            Exception: What the job raised, to everyone who waits for it.
        """
        flight = self._in_air.get(key)
        if flight is None:
            flight = self._in_air[key] = _Flight()
            self._tasks.start_soon(self._fly, key, flight, job)
        await flight.landed.wait()
        if flight.error is not None:
            raise flight.error
        return flight.result  # type: ignore[return-value]  # T may itself allow None

    async def _fly(self, key: str, flight: _Flight[T], job: Callable[[], Awaitable[T]]) -> None:
        try:
            flight.result = await job()
        except Exception as error:  # noqa: BLE001  # handed to every waiter, which raises it
            flight.error = error
        finally:
            del self._in_air[key]
            flight.landed.set()
