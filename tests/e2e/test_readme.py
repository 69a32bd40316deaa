"""The README's own example, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.commands import host
from tests.simulator.models import write_vl_model

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_program_of_the_readme_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    worker, front_end = host(tmp_path, "worker"), host(tmp_path, "front-end")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with worker.publish("--model-dir", str(write_vl_model(tmp_path / "model")), "--name", "acme/river"):
        done = subprocess.run(
            [sys.executable, "-c", program], env=front_end.env() | {"PATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[\d+(, \d+)+\]\n", done.stdout)


def test_the_program_of_the_readme_ends_with_one_line_where_nobody_serves(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    front_end = host(tmp_path, "front-end")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-c", program], env=front_end.env() | {"PATH": path},
            capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no worker" in done.stderr
    assert "Traceback" not in done.stderr
