"""Kill a script at each of its mutating system calls in turn.

A recording under strace tells which calls there are; then the script runs once for each of them and is killed on
entering it. strace counts calls for each thread by itself, so scripts of one thread are enumerated without gaps.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CALLS: Final = (
    "openat", "write", "fsync", "fchmod", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate",
)  # fmt: skip
_LINE = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\((?P<rest>.*)")
_SOURCE: Final = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class KillPoint:
    """The ``n``-th time that a thread enters ``call``."""

    call: str
    n: int


@dataclass(frozen=True)
class Run:
    """How a run ended; ``killed`` tells whether the kill point was reached."""

    killed: bool
    stdout: str
    stderr: str


def kill_points(script: Path, arguments: list[str], log: Path) -> list[KillPoint]:
    """Run ``script`` to its end and return every mutating call it made; an ``openat`` counts if it can make a file."""
    done = _run(
        ["strace", "-f", "-qq", "-e", f"trace={','.join(CALLS)}", "-e", "signal=none", "-o", str(log)],
        script,
        arguments,
    )
    assert not done.killed, done.stderr
    seen: Counter[tuple[str, str]] = Counter()
    points = []
    for line in log.read_text().splitlines():
        if match := _LINE.match(line):
            seen[match["thread"], match["call"]] += 1
            if match["call"] != "openat" or "O_CREAT" in match["rest"]:
                points.append(KillPoint(match["call"], seen[match["thread"], match["call"]]))
    return list(dict.fromkeys(points))


def run_killed(script: Path, arguments: list[str], point: KillPoint) -> Run:
    """Run ``script`` and kill it on entering ``point``."""
    inject = f"inject={point.call}:signal=SIGKILL:when={point.n}"
    trace = ["strace", "-f", "-qq", "-e", f"trace={point.call}", "-e", "signal=none", "-e", inject]
    return _run([*trace, "-o", "/dev/null"], script, arguments)


def run_whole(script: Path, arguments: list[str]) -> Run:
    """Run ``script`` to its end."""
    return _run([], script, arguments)


def _run(prefix: list[str], script: Path, arguments: list[str]) -> Run:
    # Without `site`, start-up makes fewer calls and takes half the time.
    environment = {"PYTHONPATH": f"{_SOURCE}:{sysconfig.get_path('purelib')}", "PATH": "/usr/bin:/bin"}
    command = [*prefix, sys.executable, "-S", "-s", "-B", str(script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    killed = done.returncode in (-9, 137)
    assert killed or done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stderr}"
    return Run(killed, done.stdout, done.stderr)
