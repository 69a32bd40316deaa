from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from placecard.card import digest_of
from placecard.store import Manifest, Store, gc, snapshots
from placecard.store.disk import Disk
from placecard.store.gc import Holding, plan_drops
from placecard.store.leases import Pins
from tests.unit.store.kit import FILES, MODEL, OTHER, blob_path, card_of, contents, entries_of, publish, put


def versions(count: int) -> list[dict[str, bytes]]:
    return [{**FILES, "tokenizer.json": b"version %d" % number} for number in range(count)]


def holding(key: str, sequence: int, *, current: bool = False, whole: bool = True, blobs: str = "") -> Holding:
    return Holding(key, f"{sequence:032x}", sequence, current, whole, frozenset(blobs))


def dropped(holdings: list[Holding], **options: Any) -> list[str]:
    defaults: dict[str, Any] = {"keep": 2, "pinned": Pins(), "sizes": {}, "target_bytes": None}
    return [f"{drop.key}{drop.sequence}" for drop in plan_drops(holdings, **(defaults | options))]


def test_the_newest_stay() -> None:
    assert dropped([holding("a", n, current=n == 4) for n in range(1, 5)]) == ["a2", "a1"]


def test_the_current_one_stays_however_old() -> None:
    assert dropped([holding("a", n, current=n == 1) for n in range(1, 5)]) == ["a3", "a2"]


def test_the_pinned_one_stays_and_takes_no_room() -> None:
    pins = Pins(generations={holding("a", 1).path})
    assert dropped([holding("a", n, current=n == 4) for n in range(1, 5)], pinned=pins) == ["a2"]


@pytest.mark.parametrize("keep", [-1, 0, 1])
def test_the_current_one_is_never_dropped(keep: int) -> None:
    assert dropped([holding("a", 1), holding("a", 2, current=True)], keep=keep) == ["a1"]


def test_a_torn_one_takes_no_room() -> None:
    holdings = [holding("a", 1), holding("a", 0, whole=False), holding("a", 2, current=True)]
    assert dropped(holdings) == ["a0"]


def test_a_model_without_a_pointer_keeps_nothing() -> None:
    assert dropped([holding("a", 1), holding("b", 1, current=True)]) == ["a1"]


def test_over_the_target_the_oldest_of_all_go_first_and_no_more_than_needed() -> None:
    holdings = [
        holding("a", 3, blobs="p"), holding("a", 4, current=True, blobs="q"),
        holding("b", 1, blobs="r"), holding("b", 2, current=True, blobs="q"),
    ]  # fmt: skip
    sizes = {"p": 10, "q": 10, "r": 10}
    assert dropped(holdings, sizes=sizes, target_bytes=30) == []
    assert dropped(holdings, sizes=sizes, target_bytes=20) == ["b1"]
    assert dropped(holdings, sizes=sizes, target_bytes=0) == ["b1", "a3"]


def test_row60_a_reader_keeps_its_generation_and_the_number_kept_is_bounded(store: Store) -> None:
    held = publish(store, versions(1)[0])
    with store.lease() as lease:
        lease.pin_generation(held.directory)
        for files in versions(6)[1:]:
            publish(store, files)
            store.gc(keep_generations=2)
        assert contents(held.directory) == versions(1)[0]
        assert store.models()[0].generations == 3
    store.gc(keep_generations=2)
    assert not held.directory.exists()
    assert store.models()[0].generations == 2
    assert len(os.listdir(store.root / "blobs-v1")) == len(FILES) + 1


def test_row60_older_readers_are_not_disturbed_by_a_switch(store: Store) -> None:
    old = publish(store, FILES)
    with (old.directory / "tokenizer.json").open("rb") as reader:
        publish(store, OTHER)
        assert contents(old.directory) == dict(FILES)
        store.gc(keep_generations=1)
        assert reader.read() == FILES["tokenizer.json"]


def test_row59_a_published_blob_is_never_collected(store: Store) -> None:
    publish(store, FILES)
    assert store.gc().blobs == 0
    assert store.verify().problems == ()


def test_row59_a_blob_pinned_between_the_two_steps_is_moved_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = put(store, b"found at the last moment")
    other = put(store, b"nobody wants this")
    real = gc._settle_blobs
    with store.lease() as lease:

        def settle(*arguments: Any) -> None:
            assert not blob.path.exists()
            lease.pin(blob.digest)
            real(*arguments)

        monkeypatch.setattr(gc, "_settle_blobs", settle)
        store.gc()
        assert store.find(blob.digest) == blob
        assert store.find(other.digest) is None


def test_row59_a_blob_in_the_trash_is_taken_back_by_who_looks_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = put(store, b"found at the last moment")
    real = gc._settle_blobs

    def settle(*arguments: Any) -> None:
        assert store.find(blob.digest) == blob
        real(*arguments)

    monkeypatch.setattr(gc, "_settle_blobs", settle)
    store.gc()
    assert blob.path.exists()


def test_row59_a_generation_published_between_the_two_steps_keeps_its_blobs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in FILES.values():
        put(store, data)
    real = gc._settle_blobs

    def settle(*arguments: Any) -> None:
        publish(store, FILES)
        real(*arguments)

    monkeypatch.setattr(gc, "_settle_blobs", settle)
    store.gc()
    current = store.current(MODEL)
    assert current is not None
    assert contents(current.directory) == dict(FILES)


def test_row59_a_collection_while_a_directory_is_built_takes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in FILES.values():
        put(store, data)
    real = snapshots.Snapshots._fill

    def fill(self: snapshots.Snapshots, path: str, manifest: Manifest) -> None:
        assert store.gc().blobs == 0
        real(self, path, manifest)
        assert Store.open(store.root).gc().blobs == 0

    monkeypatch.setattr(snapshots.Snapshots, "_fill", fill)
    assert contents(store.publish(MODEL, entries_of(FILES), card=card_of(FILES)).directory) == dict(FILES)


def test_row59_a_generation_pinned_between_the_two_steps_is_moved_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish(store, FILES)
    publish(store, OTHER)
    real = gc._settle_generations
    with store.lease() as lease:

        def settle(*arguments: Any) -> None:
            assert not old.directory.exists()
            lease.pin_generation(old.directory)
            real(*arguments)

        monkeypatch.setattr(gc, "_settle_generations", settle)
        store.gc(keep_generations=1)
        assert contents(old.directory) == dict(FILES)


def test_row59_what_a_killed_collection_left_is_finished_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish(store, FILES)
    publish(store, OTHER)
    with monkeypatch.context() as patch:
        patch.setattr(gc, "_settle_generations", lambda *arguments: None)
        patch.setattr(gc, "_settle_blobs", lambda *arguments: None)
        store.gc(keep_generations=1)
    assert os.listdir(store.root / "trash") != []
    publish(store, OTHER)
    store.gc(keep_generations=1)
    assert os.listdir(store.root / "trash") == []
    assert not old.directory.exists()
    assert store.verify().problems == ()


def _collect(root: str, rounds: int) -> None:
    store = Store.open(Path(root))
    for _ in range(rounds):
        store.gc(keep_generations=1)


def test_row59_two_collections_while_others_publish_and_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = Store.open(root)
    context = multiprocessing.get_context("spawn")
    collectors = [context.Process(target=_collect, args=(str(root), 60)) for _ in range(2)]
    for collector in collectors:
        collector.start()
    failures: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for number in range(25):
                files = versions(3)[(number + offset) % 3]
                with store.lease() as lease:
                    lease.pin(*map(digest_of, files.values()))
                    for data in files.values():
                        put(store, data)
                    snapshot = store.publish(MODEL, entries_of(files), card=card_of(files), lease=lease)
                    assert contents(snapshot.directory) == files
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for collector in collectors:
        collector.join(60)
    assert failures == []
    assert [collector.exitcode for collector in collectors] == [0, 0]
    store.gc(keep_generations=1)
    assert store.current(MODEL) is not None
    assert store.verify().problems == ()
    assert os.listdir(root / "trash") == []


def test_collecting_twice_is_collecting_once(store: Store) -> None:
    for files in versions(4):
        publish(store, files)
    put(store, b"loose")
    first = store.gc()
    second = store.gc()
    assert (first.generations, first.blobs) == (2, 3)
    assert (second.generations, second.blobs, second.bytes, second.leftovers) == (0, 0, 0, 0)
    assert second.kept_bytes == first.kept_bytes


def test_a_dry_run_says_the_same_and_does_nothing(store: Store) -> None:
    for files in versions(4):
        publish(store, files)
    put(store, b"loose")
    before = sorted(store.root.rglob("*"))
    told = store.gc(dry_run=True)
    assert sorted(store.root.rglob("*")) == before
    done = store.gc()
    assert (told.generations, told.blobs, told.bytes, told.kept_bytes) == (
        done.generations, done.blobs, done.bytes, done.kept_bytes,
    )  # fmt: skip


def test_a_target_that_cannot_be_reached_is_said(store: Store) -> None:
    publish(store, FILES)
    publish(store, OTHER)
    report = store.gc(target_bytes=10)
    assert report.generations == 1
    assert not report.target_reached
    assert store.current(MODEL) is not None


def test_removing_a_model_leaves_others_and_pinned_generations(store: Store) -> None:
    first = publish(store, FILES)
    other = publish(store, OTHER, "Other")
    store.write_state(MODEL, "pins", {"a": "b"})
    with store.lease() as lease:
        lease.pin_generation(first.directory)
        assert store.remove(MODEL)
        store.gc()
        assert store.current(MODEL) is None
        assert contents(first.directory) == dict(FILES)
    store.gc()
    assert not first.directory.exists()
    assert [info.name for info in store.models()] == ["Other"]
    assert contents(other.directory) == dict(OTHER)
    assert not blob_path(store, FILES["tokenizer.json"]).exists()
    assert not store.remove(MODEL)
    assert len(os.listdir(store.root / "models-v1")) == 1


def test_the_state_of_a_model_that_never_had_a_generation_is_collected(store: Store) -> None:
    publish(store)
    store.write_state("Org/Refused", "outcome", {"state": "REFUSED"})
    assert len(list((store.root / "models-v1").iterdir())) == 2
    store.gc(dry_run=True)
    assert store.read_state("Org/Refused", "outcome") is not None
    store.gc()
    assert [info.name for info in store.models()] == [MODEL]
    assert len(list((store.root / "models-v1").iterdir())) == 1


def test_a_state_is_written_although_its_directory_is_collected_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = Disk.rename, [2]

    def rename(disk: Disk, source: str, target: str) -> None:
        if target.endswith("state-test.json") and left[0]:
            left[0] -= 1
            disk.rmdir(target.rpartition("/")[0])
        real(disk, source, target)

    monkeypatch.setattr(Disk, "rename", rename)
    store.write_state(MODEL, "test", {"a": 1})
    assert store.read_state(MODEL, "test") == {"a": 1}
