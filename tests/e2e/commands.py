"""Running the real command line in processes of its own, each with its own home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLACECARD = [sys.executable, "-m", "placecard"]


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return what it printed as JSON."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass(frozen=True)
class Host:
    """One host: a home of its own, and the registry that all hosts share."""

    home: Path
    registry: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """Return the host's store."""
        return self.home / ".cache" / "placecard"

    def env(self) -> dict[str, str]:
        """Return the environment of every command on this host."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PLACECARD_", "XDG_"))}
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return mine | offline | {"HOME": str(self.home), "PLACECARD_DISCOVERY": self.registry} | dict(self.environment)

    def run(self, *arguments: str, stdin: bytes | None = None) -> Answer:
        """Run ``placecard ARGUMENTS`` to its end."""
        command = [*PLACECARD, *arguments]
        done = subprocess.run(
            command, env=self.env(), cwd=self.home, input=stdin, capture_output=True, timeout=90, check=False
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def publish(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """Run ``placecard publish`` while the body runs; yield its `published` line. It must end with 0 on SIGTERM."""
        command = [*PLACECARD, "publish", *arguments, "--json"]
        process = subprocess.Popen(command, env=self.env(), cwd=self.home, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                state: dict[str, Any] = json.loads(line)
                if state["state"] == "published":
                    break
            else:
                raise AssertionError("the publisher ended before it published")
            yield state
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            process.stdout.close()
            assert process.wait(timeout=30) == 0


def host(root: Path, name: str, **environment: str) -> Host:
    """Return a host with an empty home below ``root``."""
    home = root / name
    home.mkdir()
    return Host(home, (root / "registry").as_uri(), environment)
