"""Real ai-dynamo processes on loopback, each fleet in a directory of its own; see ``install.sh``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.error import HTTPError, URLError

REPOSITORY: Final = Path(__file__).parents[2]
PYTHON: Final = Path(os.environ.get("PLACECARD_DYNAMO_PYTHON") or REPOSITORY / ".venv-dynamo/bin/python")
START_S: Final = 60.0
LEASE_S: Final = 10.0
_T = TypeVar("_T")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(look: Callable[[], _T | None], what: str, *, timeout_s: float = START_S) -> _T:
    """Return the first true value of ``look``; fail if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.1)
    return value


@dataclass
class StockFleet:
    """A directory of discovery, and the stock processes that were started upon it."""

    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def kv(self) -> Path:
        """``DYN_FILE_KV``."""
        return self.directory / "kv"

    @property
    def metadata_cache(self) -> Path:
        """Where front ends lay out what they fetched: ``blobs`` and ``by-slug/SLUG/MDCSUM``."""
        return self.directory / "home/.cache/dynamo/mdc"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a stock process: loopback alone, no hub."""
        nowhere = "http://127.0.0.1:9"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory / "home"),
            "TMPDIR": str(self.directory / "tmp"),
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(self.kv),
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_EVENT_PLANE_HOST": "127.0.0.1",
            "DYN_SYSTEM_HOST": "127.0.0.1",
            "HF_HUB_OFFLINE": "1",
            "HF_ENDPOINT": nowhere,
            "MODEL_EXPRESS_URL": nowhere,
        }

    def start(self, name: str, arguments: Sequence[str], **environment: str) -> Path:
        """Start ``python ARGUMENTS`` and return its log."""
        for part in ("home", "tmp", "kv"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        log = self.directory / f"{name}.log"
        with log.open("wb") as out:
            self.processes.append(
                subprocess.Popen(
                    [str(PYTHON), *arguments],
                    env=self.environment | environment,
                    cwd=self.directory,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return log

    def mocker(self, model: Path, name: str, *, self_host: bool, arguments: Sequence[str] = ()) -> dict[str, Any]:
        """Start a stock worker and return the model record it wrote."""
        hosting = {"DYN_SYSTEM_PORT": "0"} if self_host else {"DYN_SELF_HOST_METADATA": "0"}
        command = ["-m", "dynamo.mocker", "--model-path", str(model), "--model-name", name]
        self.start(
            f"mocker-{name}", [*command, "--speedup-ratio", "100000", "--block-size", "16", *arguments], **hosting
        )
        return until(lambda: next((r for r in self.records() if r["card_json"]["display_name"] == name), None), name)

    def frontend(self) -> str:
        """Start a stock front end and return its base URL."""
        port = free_port()
        command = ["-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", str(port)]
        self.start("frontend", [*command, "--router-mode", "round-robin"], DYN_LOG="info")
        base = f"http://127.0.0.1:{port}"
        until(lambda: get_json(f"{base}/health") is not None, "the front end")
        return base

    def records(self) -> list[dict[str, Any]]:
        """Return the model records that stand in the registry now."""
        return [json.loads(path.read_bytes()) for path in sorted((self.kv / "v1/mdc").glob("[!.]*"))]

    def log(self, name: str) -> str:
        """Return what a process has written so far."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End every process, and wait for it."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def stock_fleet(directory: Path) -> Iterator[StockFleet]:
    """Yield an empty fleet; its processes end with the block."""
    if not PYTHON.exists():
        raise RuntimeError(f"{PYTHON} does not exist: run tests/interop/install.sh")
    fleet = StockFleet(directory)
    try:
        yield fleet
    finally:
        fleet.stop()


def get_json(url: str) -> Any:
    """Return the JSON at ``url``; None while there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except (HTTPError, URLError, ConnectionError, TimeoutError):
        return None


def listed(base: str) -> list[str]:
    """Return the models a front end lists."""
    answer = get_json(f"{base}/v1/models")
    return sorted(model["id"] for model in answer["data"]) if answer else []


def placecard(
    *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "placecard", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
