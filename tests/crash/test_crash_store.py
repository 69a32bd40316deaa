"""A kill at any system call heals at the next start, and no torn blob is accepted (I1, I2, I4)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from placecard.card import digest_of
from placecard.store import Store
from tests.crash import pipeline_script, store_script
from tests.crash.killing import KillPoint, Run, kill_points, run_killed, run_whole

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]


@dataclass(frozen=True)
class Case:
    """A script that takes a directory, and the check of what a kill left there."""

    script: Path
    check: Callable[[Path, Run], None]

    @classmethod
    def of(cls, module: ModuleType) -> Case:
        """Return the case of a script that publishes its ``FIRST`` and then its ``SECOND`` files as its ``MODEL``."""
        assert module.__file__ is not None
        return cls(Path(module.__file__), partial(check_store, module))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def layout(root: Path) -> set[str]:
    """Everything in the store, but for the leases of whoever looks."""
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.parent.name != "leases"}


def check_store(script: Any, root: Path, run: Run) -> None:
    if not (root / "store").exists():
        assert "published" not in run.stdout
        return
    store = Store.open(root / "store")
    for path in (store.root / "blobs-v1").iterdir():
        blob = store.find(f"blake3:{path.name}")
        assert blob is not None and digest_of(blob.path.read_bytes()) == blob.digest, (
            "a torn blob stands under a digest"
        )
    for path in store.root.rglob("*"):
        if path.is_symlink():
            assert Path(os.path.realpath(path)).is_relative_to(store.root)
    current = store.current(script.MODEL)
    if "published 2" in run.stdout:
        assert current is not None and contents(current.directory) == script.SECOND
    elif "published 1" in run.stdout:
        assert current is not None
    if current is not None:
        assert contents(current.directory) in (script.FIRST, script.SECOND)
        assert contents(store.stable_path(script.MODEL)) == contents(current.directory)


@pytest.mark.parametrize(
    "case", [pytest.param(Case.of(store_script), id="store"), pytest.param(Case.of(pipeline_script), id="pipeline")]
)
def test_row53_a_kill_at_every_system_call_heals(case: Case, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    points = kill_points(case.script, [str(clean / "store")], tmp_path / "log")
    expected = settled(clean / "store")
    assert {point.call for point in points} >= {"openat", "write", "fsync", "fchmod"}

    def survive(numbered: tuple[int, KillPoint]) -> tuple[KillPoint, bool]:
        number, point = numbered
        home = tmp_path / str(number)
        home.mkdir()
        arguments = [str(home / "store")]
        run = run_killed(case.script, arguments, point)
        try:
            case.check(home, run)
            assert "collected" in run_whole(case.script, arguments).stdout
            assert settled(home / "store") == expected, "garbage is left"
        except BaseException as error:
            error.add_note(f"killed on entering {point}; left in {home}")
            raise
        shutil.rmtree(home)
        return point, run.killed

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(survive, enumerate(points)))
    killed = [point for point, was_killed in results if was_killed]
    assert len(killed) >= 0.95 * len(points)
    print(f"{len(killed)} of {len(points)} kill points reached")


def settled(root: Path) -> set[str]:
    store = Store.open(root)
    store.gc(keep_generations=1)
    report = store.verify()
    assert not report.problems
    return layout(root)
