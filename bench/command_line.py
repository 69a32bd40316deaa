"""How long a command line takes to say what it can do, as a whole process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the ratio of ``placecard --help`` to ``hf --help``, pair by pair."""
    bin_ = Path(sys.executable).parent
    ours, theirs = [str(bin_ / "placecard"), "--help"], [str(bin_ / "hf"), "--help"]
    _seconds(ours), _seconds(theirs)
    return {"help_vs_hf": [_seconds(ours) / _seconds(theirs) for _ in range(rounds)]}


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started
