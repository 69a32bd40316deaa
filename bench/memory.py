"""Peak memory of resolving one file of 1 GiB, above the idle interpreter, in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio

from bench import parts
from placecard.discovery import Record
from placecard.discovery.record import decode_record, encode_record
from placecard.resolver import Budget, State

GIB = 1 << 30
# Not ru_maxrss: that is inherited from the process that started this one.
_IDLE = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the peak in MiB: resident memory at the end of the resolve less that of a bare interpreter."""
    root = Path(tempfile.mkdtemp(prefix="placecard-bench-"))
    try:
        directory = parts.write_set(root / "model", {"config.json": 100, "big.txt": GIB})
        with parts.worker(directory) as record:
            (root / "record.json").write_bytes(encode_record(record))
            command = [sys.executable, "-m", "bench.memory", str(root)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
        idle = subprocess.run([sys.executable, "-c", _IDLE], check=True, capture_output=True, text=True)
        return {"memory_1gib_mib": [(int(answer.stdout) - int(idle.stdout)) / 1024]}
    finally:
        shutil.rmtree(root)


async def _resolve(root: Path, record: Record) -> None:
    budget = Budget(max_file_bytes=2 * GIB, max_card_bytes=4 * GIB)
    async with parts.resolver(root / "store", budget=budget) as resolver:
        outcome = await resolver.resolve(record)
    assert outcome.state is State.READY, outcome.errors


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    anyio.run(_resolve, folder, decode_record((folder / "record.json").read_bytes()))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    sys.stdout.write(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
