"""Blocking calls that nobody can interrupt."""

from __future__ import annotations

import subprocess
import sys
import threading

import anyio
import pytest

from placecard.source.threads import run_detached


async def test_what_the_function_returns_or_raises_comes_back() -> None:
    assert await run_detached(lambda: threading.current_thread().daemon, deadline_s=5)
    with pytest.raises(ZeroDivisionError):
        await run_detached(lambda: 1 // 0, deadline_s=5)


async def test_past_the_deadline_the_thread_is_left_behind() -> None:
    release, ended = threading.Event(), threading.Event()

    def hang() -> None:
        release.wait(10)
        ended.set()

    with pytest.raises(TimeoutError):
        await run_detached(hang, deadline_s=0.05)
    assert not ended.is_set()
    release.set()
    assert ended.wait(5)


async def test_a_cancelled_wait_does_not_wait() -> None:
    release = threading.Event()
    with anyio.move_on_after(0.05) as scope:
        await run_detached(lambda: release.wait(10), deadline_s=10)
    assert scope.cancelled_caught
    release.set()


def test_a_call_that_hangs_does_not_keep_the_process_alive() -> None:
    script = (
        "import asyncio, threading\n"
        "from placecard.source.threads import run_detached\n"
        "async def main():\n"
        "    try:\n"
        "        await run_detached(lambda: threading.Event().wait(60), deadline_s=0.05)\n"
        "    except TimeoutError:\n"
        "        print('given up')\n"
        "asyncio.run(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (run.stdout, run.stderr, run.returncode) == ("given up\n", "", 0)


def test_importing_the_sources_is_light() -> None:
    script = (
        "import sys, placecard.source; print([m for m in ('aiohttp', 'huggingface_hub', 'httpx2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout == "[]\n"


def test_finding_snapshots_does_not_import_the_client() -> None:
    script = (
        "import sys; from pathlib import Path; from placecard.source import HubSource\n"
        "HubSource(cache_dir=Path('/nonexistent')).snapshots('org/name')\n"
        "print('huggingface_hub' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout == "False\n"
