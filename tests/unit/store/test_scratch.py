"""Temporary directories do not outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from placecard.store.scratch import scratch, sweep

KILLED = """
import os, signal, sys
from pathlib import Path
from placecard.store.scratch import scratch
with scratch("build", parent=Path(sys.argv[1])) as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_scratch_directory_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with scratch("build", parent=tmp_path / "mine") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("x")
    assert list((tmp_path / "mine").iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    home = tmp_path / "mine"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(home)], check=False)
    assert ended.returncode == -signal.SIGKILL and len(list(home.iterdir())) == 2
    with scratch("build", parent=home) as first, scratch("publish", parent=home) as second:
        left = {path.name for path in home.iterdir() if path.is_dir()}
        assert left == {first.name, second.name}


@pytest.mark.parametrize("kind", ["link", "file", "writable by all"])
def test_a_folder_that_another_could_have_made_is_not_used(tmp_path: Path, kind: str) -> None:
    home = tmp_path / "mine"
    (tmp_path / "theirs").mkdir()
    match kind:
        case "link":
            home.symlink_to(tmp_path / "theirs")
        case "file":
            home.touch()
        case _:
            home.mkdir()
            home.chmod(0o777)
    with scratch("build", parent=home) as folder:
        assert folder.is_dir() and home not in folder.parents
    assert not folder.exists() and list((tmp_path / "theirs").iterdir()) == []


def test_a_sweep_leaves_strange_things_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "a.lock").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "plain")
    (tmp_path / "folder").mkdir()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"target", "a.lock", "plain", "folder"}
