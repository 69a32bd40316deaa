from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from placecard.card import digest_of
from placecard.store import Store, blobs
from placecard.store.disk import Disk
from placecard.telemetry import BlobQuarantined, Fact
from tests.unit.store.kit import FILES, MODEL, blob_path, contents, publish, put, tamper

DATA = b"0123456789" * 100


def _truncate(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(500)


def _empty(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[400] ^= 1
    tamper(path, bytes(data))


def _flip_and_hide(path: Path) -> None:
    """Another byte, the same size, the old modification time: only the change time tells."""
    before = path.stat()
    _flip(path)
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to("../moved")


def _hard_link(path: Path) -> None:
    os.link(path, path.parent.parent / "second-name")


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES = [_truncate, _empty, _flip, _flip_and_hide, _directory, _pipe, _link, _hard_link, _device]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reopened", [False, True])
def test_row51_a_damaged_blob_is_set_aside_and_can_be_had_again(
    store: Store, facts: list[Fact], damage: Callable[[Path], None], reopened: bool
) -> None:
    blob = put(store, DATA)
    damage(blob.path)
    if reopened:
        store = Store.open(store.root, observe=facts.append)
    assert store.find(blob.digest) is None
    assert [fact.digest for fact in facts if isinstance(fact, BlobQuarantined)] == [blob.digest]
    assert not os.path.lexists(blob.path)
    assert len(os.listdir(store.root / "bad")) == 1
    assert put(store, DATA).path.read_bytes() == DATA
    store.gc()
    assert os.listdir(store.root / "bad") == []


def test_row51_a_damaged_blob_unmakes_its_model_and_fetching_again_mends_it(store: Store) -> None:
    snapshot = publish(store)
    _flip(blob_path(store, FILES["tokenizer.json"]))
    assert store.current(MODEL) is None
    assert publish(store).generation == snapshot.generation
    assert contents(snapshot.directory) == dict(FILES)


def test_row51_a_blob_of_another_user_is_not_ours(store: Store) -> None:
    if os.geteuid() != 0:
        pytest.skip("changing owners needs root")
    blob = put(store, DATA)
    os.chown(blob.path, 12345, -1)
    assert store.find(blob.digest) is None


def test_row51_an_unreadable_sector_is_a_damaged_blob(
    store: Store, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = put(store, DATA)
    os.utime(blob.path)  # the seal no longer holds

    def broken(disk: Disk, path: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "open", broken)
        assert store.find(blob.digest) is None
    assert any(isinstance(fact, BlobQuarantined) and "unreadable" in fact.reason for fact in facts)


def _count_hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    hashed: list[str] = []
    real = blobs._hash

    def count(disk: Disk, path: str) -> tuple[str, os.stat_result, os.stat_result]:
        hashed.append(path)
        return real(disk, path)

    monkeypatch.setattr(blobs, "_hash", count)
    return hashed


def test_a_sealed_blob_is_not_hashed_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = put(store, DATA)
    hashed = _count_hashes(monkeypatch)
    assert store.find(blob.digest) == blob
    assert Store.open(store.root).find(blob.digest) == blob
    assert hashed == []


@pytest.mark.parametrize("garbage", [b"", b"1 torn", b"\xff" * 300])
def test_without_its_seal_a_blob_is_hashed_once(store: Store, monkeypatch: pytest.MonkeyPatch, garbage: bytes) -> None:
    blob = put(store, DATA)
    (store.root / "seals-v1" / blob.path.name).write_bytes(garbage)
    hashed = _count_hashes(monkeypatch)
    again = Store.open(store.root)
    assert [again.find(blob.digest), again.find(blob.digest), Store.open(store.root).find(blob.digest)] == [blob] * 3
    assert len(hashed) == 1


def test_a_seal_under_another_name_seals_nothing(store: Store) -> None:
    one, other = put(store, DATA), put(store, b"other")
    seals = store.root / "seals-v1"
    shutil.copy(seals / one.path.name, seals / other.path.name)
    one.path.rename(other.path)
    assert Store.open(store.root).find(other.digest) is None


def test_a_store_that_was_copied_is_proven_again(store: Store, tmp_path: Path) -> None:
    publish(store)
    shutil.copytree(store.root, tmp_path / "copy", symlinks=True)
    copied = Store.open(tmp_path / "copy")
    current = copied.current(MODEL)
    assert current is not None
    assert contents(current.directory) == dict(FILES)


def test_the_right_bytes_of_the_wrong_size_are_not_the_file(store: Store) -> None:
    blob = put(store, DATA)
    assert store.find(blob.digest, len(DATA) + 1) is None
    assert store.find(blob.digest, len(DATA)) == blob


def test_an_absent_blob_is_none(store: Store) -> None:
    assert store.find(digest_of(b"never seen")) is None


def test_a_lower_layer_is_read_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = Store.open(tmp_path / "below")
    for data in FILES.values():
        put(below, data)
    before = {path: path.lstat().st_mtime_ns for path in below.root.rglob("*")}
    upper = Store.open(tmp_path / "upper", lower=[below.root])
    hashed = _count_hashes(monkeypatch)
    blob = upper.find(digest_of(FILES["config.json"]))
    assert blob is not None
    assert blob.path.is_relative_to(below.root)
    assert Store.open(upper.root, lower=[below.root]).find(blob.digest) == blob
    assert len(hashed) == 1, "its seal is kept above"
    snapshot = publish(upper)
    assert contents(snapshot.directory) == dict(FILES)
    for path in snapshot.directory.rglob("*"):
        assert path.resolve().is_relative_to(upper.root)
    upper.gc()
    assert {path: path.lstat().st_mtime_ns for path in below.root.rglob("*")} == before


def test_a_wrong_blob_below_is_passed_over_and_stated(tmp_path: Path, facts: list[Fact]) -> None:
    below = Store.open(tmp_path / "below")
    blob = put(below, DATA)
    _flip(blob.path)
    upper = Store.open(tmp_path / "upper", lower=[below.root], observe=facts.append)
    assert upper.find(blob.digest) is None
    assert upper.find(blob.digest) is None
    assert [type(fact) for fact in facts] == [BlobQuarantined]
    assert blob.path.exists()


@pytest.mark.parametrize("lower", ["absent", "file", "."])
def test_a_layer_that_is_no_store_holds_nothing(tmp_path: Path, lower: str) -> None:
    (tmp_path / "file").write_text("x")
    store = Store.open(tmp_path / "store", lower=[tmp_path / lower])
    assert store.find(digest_of(DATA)) is None
