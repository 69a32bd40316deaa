from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from placecard.card import digest_of
from placecard.errors import CardError, Code, StoreError, VerificationError
from placecard.store import Store
from placecard.store.disk import Disk
from tests.unit.store.kit import FILES, LIMIT, MODEL, OTHER, blob_path, contents, open_fds, publish, put

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def left(store: Store) -> list[str]:
    return os.listdir(store.root / "ingest")


def test_a_blob_is_its_own_read_only_inode(store: Store) -> None:
    blob = put(store, b"hello")
    found = blob.path.lstat()
    assert blob.path == store.root / "blobs-v1" / digest_of(b"hello").removeprefix("blake3:")
    assert stat.S_IMODE(found.st_mode) == 0o444
    assert found.st_nlink == 1
    assert store.find(blob.digest, 5) == blob
    assert left(store) == []


def test_observed_bytes_learn_their_digest(store: Store) -> None:
    with store.ingest(digest=None, size=None, limit_bytes=LIMIT) as ingest:
        ingest.write(memoryview(b"seen"))
        assert ingest.commit().digest == digest_of(b"seen")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"wrong", Code.DIGEST_MISMATCH),
        (b"shor", Code.SIZE_MISMATCH),
        (b"longer", Code.SIZE_EXCEEDED),
        (b"", Code.SIZE_MISMATCH),
    ],
)
def test_wrong_bytes_leave_nothing(store: Store, sent: bytes, code: Code) -> None:
    fds = open_fds()
    with (
        pytest.raises(VerificationError) as caught,
        store.ingest(digest=digest_of(b"right"), size=5, limit_bytes=LIMIT, subject="a.json") as ingest,
    ):
        ingest.write(sent)
        ingest.commit()
    assert caught.value.code is code
    assert store.find(digest_of(b"right")) is None
    assert left(store) == os.listdir(store.root / "blobs-v1") == []
    assert open_fds() - fds <= 1  # the lease of this process


def test_leaving_without_commit_leaves_nothing(store: Store) -> None:
    with store.ingest(digest=None, size=None, limit_bytes=LIMIT) as ingest:
        ingest.write(b"half")
    assert left(store) == os.listdir(store.root / "blobs-v1") == []


def test_a_slow_writer_cannot_reach_the_published_inode(store: Store, tmp_path: Path) -> None:
    """The inode is ours from its first byte; whoever holds the source open changes the source alone."""
    source = tmp_path / "source"
    source.write_bytes(b"good")
    with source.open("r+b") as slow:
        blob = put(store, source.read_bytes())
        slow.write(b"evil")
        slow.flush()
    assert blob.path.read_bytes() == b"good"
    assert blob.path.stat().st_ino != source.stat().st_ino


def test_a_held_blob_is_not_replaced(store: Store) -> None:
    before = put(store, b"same").path.stat().st_ino
    assert put(store, b"same").path.stat().st_ino == before
    assert left(store) == []


@pytest.mark.parametrize("digest", ["blake3:zz", "../../etc/passwd", "blake3:" + "0" * 63 + "\n"])
def test_what_is_no_digest_is_no_path(store: Store, digest: str) -> None:
    with pytest.raises(CardError) as caught:
        store.ingest(digest=digest, size=None, limit_bytes=LIMIT)
    assert caught.value.code is Code.DIGEST_SYNTAX
    with pytest.raises(CardError):
        store.find(digest)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "placecard", str(mount)], check=False)
    if done.returncode:
        pytest.skip("no mounts here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@ROOT_ONLY
def test_row49_a_full_disk_is_named_and_heals_when_space_returns(small: Path) -> None:
    store = Store.open(small / "store")
    old = publish(store, FILES)
    filler = small / "filler"
    big = dict(FILES) | {"tokenizer.json": os.urandom(100_000)}
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"\0" * 4096)
    with pytest.raises(StoreError) as caught:
        publish(store, big)
    assert caught.value.code is Code.STORE_FULL
    assert caught.value.transient
    assert str(store.root) in str(caught.value)
    assert left(store) == []
    current = store.current(MODEL)
    assert current is not None
    assert current.generation == old.generation
    assert contents(current.directory) == dict(FILES)
    filler.unlink()
    assert contents(publish(store, big).directory) == big


@ROOT_ONLY
def test_row49_no_inodes_left(tmp_path: Path) -> None:
    mount = tmp_path / "inodes"
    mount.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "nr_inodes=24,mode=0700", "x", str(mount)], check=False
    ).returncode:
        pytest.skip("no mounts here")
    try:
        store = Store.open(mount / "store")
        with pytest.raises(StoreError) as caught:
            publish(store, {f"{i}.json" if i else "config.json": b"%d" % i for i in range(20)})
        assert caught.value.code is Code.STORE_FULL
        assert left(store) == []
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_row49_a_file_over_the_process_limit(store: Store) -> None:
    """RLIMIT_FSIZE: the kernel answers EFBIG once its signal is ignored, as Python does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        with pytest.raises(StoreError) as caught:
            put(store, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code is Code.STORE_FULL
    assert left(store) == []


def test_row49_the_quota_counts_what_is_stored_and_what_is_written(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", quota_bytes=1000)
    put(store, b"a" * 600)
    with pytest.raises(StoreError) as caught:
        put(store, b"b" * 401)
    assert caught.value.code is Code.STORE_QUOTA
    assert "gc" in caught.value.mend
    put(store, b"b" * 400)  # what was refused is not counted
    put(store, b"a" * 0)
    assert left(store) == []
    with pytest.raises(StoreError):
        put(Store.open(tmp_path / "store", quota_bytes=1000), b"c")


def test_row49_space_freed_by_a_collection_is_seen(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", quota_bytes=1000)
    put(store, b"a" * 900)
    store.gc()
    assert put(store, b"b" * 900).size == 900


@pytest.mark.parametrize("held", ["a" * 600, "b" * 600])
def test_row49_two_writers_share_the_quota(tmp_path: Path, held: str) -> None:
    store = Store.open(tmp_path / "store", quota_bytes=1000)
    with store.ingest(digest=None, size=None, limit_bytes=LIMIT) as first:
        first.write(held.encode())
        with pytest.raises(StoreError) as caught:
            put(store, b"c" * 600)
        assert caught.value.code is Code.STORE_QUOTA
        first.commit()


def test_row52_fifty_threads_one_blob(store: Store) -> None:
    data = os.urandom(50_000)
    with ThreadPoolExecutor(50) as pool:
        blobs = set(pool.map(lambda _: put(store, data), range(50)))
    assert len(blobs) == 1
    assert blobs.pop().path.read_bytes() == data
    assert left(store) == []


def test_row52_many_threads_one_directory(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        snapshots = list(pool.map(lambda i: publish(store, FILES if i % 2 else OTHER), range(24)))
    assert len({snapshot.generation for snapshot in snapshots}) == 2
    for snapshot in snapshots:
        assert contents(snapshot.directory) in (dict(FILES), dict(OTHER))
    assert store.current(MODEL) is not None
    assert left(store) == []


def _publish_often(root: str) -> None:
    store = Store.open(Path(root))
    for number in range(10):
        snapshot = publish(store, (FILES, OTHER)[number % 2])
        assert contents(snapshot.directory) in (dict(FILES), dict(OTHER))


def test_row52_four_processes_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_publish_often, args=(str(tmp_path / "store"),)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    store = Store.open(tmp_path / "store")
    assert store.current(MODEL) is not None
    assert not store.verify().problems
    assert left(store) == []


def test_row63_the_temporary_file_is_inside_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = Disk.rename

    def rename(disk: Disk, source: str, target: str) -> None:
        seen.append(source)
        real(disk, source, target)

    monkeypatch.setattr(Disk, "rename", rename)
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    publish(store)
    assert seen
    assert all(source.startswith("ingest/") for source in seen)


def test_row63_a_move_between_devices_is_an_error_not_a_copy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(disk: Disk, source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)

    monkeypatch.setattr(Disk, "rename", rename)
    with pytest.raises(StoreError) as caught:
        put(store, b"data")
    assert caught.value.code is Code.STORE_IO
    assert not blob_path(store, b"data").exists()
