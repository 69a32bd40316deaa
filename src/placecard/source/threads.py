"""Blocking calls that nobody can interrupt: name look-ups, and the hub's client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


async def run_detached(function: Callable[[], _T], *, deadline_s: float) -> _T:
    """Return what ``function`` returns; it runs in a daemon thread of its own.

    Past the deadline the thread is left to end by itself; it delays neither the caller nor the end of the process,
    which a pool's thread would.

    Raises:
        TimeoutError: Past the deadline.
    """
    future: Future[_T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed to the waiter, as it is
            future.set_exception(error)
        else:
            future.set_result(result)

    waiter = asyncio.wrap_future(future)
    threading.Thread(target=run, daemon=True, name="placecard-detached").start()
    async with asyncio.timeout(deadline_s):
        return await waiter
