"""The power goes after any call: what was published is whole, and nothing torn is accepted (I4)."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from placecard.card import digest_of
from placecard.store import Store
from placecard.store.disk import Disk
from tests.unit.store.kit import FILES, MODEL, OTHER, contents, publish
from tests.unit.store.power import Recorder

# Shares of un-synced names and bytes that survive: none, all of one kind, all but torn, and mixtures.
FATES = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5), (0.8, 0.2)]


def check(root: Path, done: int) -> None:
    store = Store.open(root)
    for path in (root / "blobs-v1").iterdir():
        blob = store.find(f"blake3:{path.name}")
        assert blob is None or digest_of(blob.path.read_bytes()) == blob.digest
    current = store.current(MODEL)
    if current is not None:
        assert contents(current.directory) in (dict(FILES), dict(OTHER))
    if done:  # publish had returned: its generation is there, or one that came after it
        assert current is not None
        assert contents(current.directory) == dict(OTHER) or done == 1
    assert contents(publish(store, OTHER).directory) == dict(OTHER)
    store.gc(keep_generations=1)
    assert not store.verify().problems


@pytest.mark.parametrize("fate", range(len(FATES)))
def test_row54_power_loss_after_every_call(fate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose, done, states = random.Random(fate), 0, 0

    def lose(recorder: Recorder) -> None:
        nonlocal states
        states += 1
        target = tmp_path / "after"
        names, data = FATES[fate]
        recorder.lose(target, choose, keep_names=names, keep_bytes=data)
        recorder.quietly(lambda: check(target, done))
        shutil.rmtree(target)

    Recorder(monkeypatch, lose)
    store = Store.open(tmp_path / "before")
    for files in (FILES, OTHER):
        publish(store, files)
        done += 1
    store.gc(keep_generations=1)
    assert states > 120


def test_row54_a_generation_that_was_mended_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, lambda recorder: None)
    store = Store.open(tmp_path / "before")
    snapshot = publish(store, OTHER)
    directory = snapshot.directory.parent.relative_to(store.root)
    store._disk.unlink(f"{directory}/manifest.json")
    store._disk.sync_dir(str(directory))
    publish(store, OTHER)
    recorder.lose(tmp_path / "after", random.Random(0), keep_names=0.0, keep_bytes=0.0)
    recorder.quietly(lambda: check(tmp_path / "after", 2))


@pytest.mark.parametrize(("call", "kept"), [("sync_dir", (0.0, 1.0)), ("sync", (1.0, 0.0))])
def test_row54_the_harness_sees_a_missing_sync(
    call: str, kept: tuple[float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without syncing names, or bytes, a published model can be lost; the check above must be able to say so."""
    recorder = Recorder(monkeypatch, lambda recorder: None)
    monkeypatch.setattr(Disk, call, lambda disk, what: None)
    publish(Store.open(tmp_path / "before"), FILES)
    recorder.lose(tmp_path / "after", random.Random(0), keep_names=kept[0], keep_bytes=kept[1])
    with pytest.raises(AssertionError):
        recorder.quietly(lambda: check(tmp_path / "after", 1))
