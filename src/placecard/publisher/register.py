"""Keep a worker's record in a registry for as long as the worker lives."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import anyio

from placecard.discovery import Record, Registry
from placecard.errors import Code, DiscoveryError
from placecard.publisher.beside import beside
from placecard.telemetry import Fallback, Observe, ignore

WITHDRAW_S: Final = 2.0
FIRST_RETRY_S: Final = 0.25


@asynccontextmanager
async def registered(
    registry: Registry, record: Record, observe: Observe = ignore, *, withdraw_s: float = WITHDRAW_S
) -> AsyncGenerator[None]:
    """Put ``record``, renew its lease while the body runs, and withdraw it at the end, also when cancelled.

    A registry that goes away is retried with growing pauses of at most a third of a lease, and the record is put
    again when it comes back; both are stated as ``Fallback`` facts. A record that cannot be withdrawn in time is left
    to expire.

    Args:
        withdraw_s: Seconds that withdrawing may take.

    Raises:
        DiscoveryError: The first put failed.
        CardError: The card is too large for a registry.
    """
    await registry.put(record)
    try:
        async with beside(partial(_keep, registry, record, observe)):
            yield
    finally:
        with anyio.CancelScope(deadline=anyio.current_time() + withdraw_s, shield=True) as scope:
            try:
                await registry.delete(record.instance)
            except DiscoveryError as error:
                observe(Fallback("record_left_to_expire", str(error)))
        if scope.cancelled_caught:
            observe(Fallback("record_left_to_expire", f"no answer within {withdraw_s} s"))


async def _keep(registry: Registry, record: Record, observe: Observe) -> None:
    """Renew the lease every third of its length, counted from the schedule and not from the last answer."""
    every_s = registry.ttl_s / 3
    due = anyio.current_time() + every_s
    while True:
        await anyio.sleep_until(due)
        try:
            await _renew(registry, record, observe, within_s=every_s)
        except DiscoveryError as error:
            observe(Fallback("registry_unreachable", str(error)))
            await _come_back(registry, record, every_s)
            observe(Fallback("record_put_again", "the registry is back"))
        due = next_due(due, anyio.current_time(), every_s)


async def _renew(registry: Registry, record: Record, observe: Observe, *, within_s: float) -> None:
    with _deadline(within_s):
        if await registry.refresh(record.instance):
            return
        await registry.put(record)
        observe(Fallback("record_put_again", "the record was gone: its lease ended, or it was removed"))


async def _come_back(registry: Registry, record: Record, every_s: float) -> None:
    """Put the record again and again until the registry takes it."""
    for pause_s in retry_pauses(every_s, random.random):
        await anyio.sleep(pause_s)
        try:
            with _deadline(every_s):
                await registry.put(record)
                return
        except DiscoveryError:
            continue  # stated when the outage began


def next_due(due: float, now: float, every_s: float) -> float:
    """Return the next time of the schedule after ``now``; times that were slept through are not made up for."""
    due += every_s
    return due if due > now else now + every_s


def retry_pauses(most_s: float, draw: Callable[[], float]) -> Iterator[float]:
    """Yield pauses in seconds that double up to ``most_s``, each shortened by up to a half so that workers spread out.

    Args:
        draw: Returns numbers in [0, 1).
    """
    pause_s = min(FIRST_RETRY_S, most_s)
    while True:
        yield pause_s * (1 - draw() / 2)
        pause_s = min(2 * pause_s, most_s)


@contextmanager
def _deadline(seconds: float) -> Generator[None]:
    """Turn an answer that does not come into the error of a registry that cannot be used."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        raise DiscoveryError(Code.DISCOVERY_UNAVAILABLE, f"no answer within {seconds:.3g} s") from error
