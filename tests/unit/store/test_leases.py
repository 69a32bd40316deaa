from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from placecard.card import digest_of
from placecard.errors import CardError
from placecard.store import Store
from placecard.store.leases import FOREIGN_LEASE_S, Here, is_alive
from tests.unit.store.kit import FILES, MODEL, contents, publish, put

AT = Here("b" * 8, "c" * 8, {100: 5, 200: 9}.get)
RANDOM = "0" * 16


@pytest.mark.parametrize(
    ("owner", "locked", "age_s", "alive"),
    [
        ("bbbbbbbb.cccccccc.100.5", None, 1e9, True),
        ("bbbbbbbb.cccccccc.100.4", None, 0.0, False),  # the number was given to another process
        ("bbbbbbbb.cccccccc.100.4", True, 0.0, False),  # a lock that always succeeds proves nothing
        ("bbbbbbbb.cccccccc.300.5", None, 0.0, False),
        ("bbbbbbbb.dddddddd.100.5", True, 1e9, True),  # another container of this kernel
        ("bbbbbbbb.dddddddd.100.5", False, 0.0, False),
        ("bbbbbbbb.dddddddd.100.5", None, 60.0, True),
        ("bbbbbbbb.dddddddd.100.5", None, FOREIGN_LEASE_S, False),
        ("aaaaaaaa.cccccccc.100.5", True, 1e9, True),  # another host
        ("aaaaaaaa.cccccccc.100.5", False, 60.0, True),
        ("aaaaaaaa.cccccccc.100.5", False, FOREIGN_LEASE_S, False),
        ("aaaaaaaa.cccccccc.100.5", None, -1e9, True),  # written in the future
    ],
)
def test_row62_who_is_alive(owner: str, locked: bool | None, age_s: float, alive: bool) -> None:
    assert is_alive(f"{owner}.{RANDOM}", AT, locked=locked, age_s=age_s) is alive


@pytest.mark.parametrize("name", ["", "README", "100", "bbbbbbbb.cccccccc.100.4", f"bbbbbbbb.cccccccc.x.4.{RANDOM}"])
def test_what_is_no_owner_is_left_alone(name: str) -> None:
    assert is_alive(name, AT, locked=False, age_s=1e12)


def test_a_pinned_blob_stays_and_a_released_one_goes(store: Store) -> None:
    blob = put(store, b"pinned")
    with store.lease() as lease:
        lease.pin(blob.digest)
        store.gc()
        assert store.find(blob.digest) == blob
    store.gc()
    assert store.find(blob.digest) is None


def test_a_lease_that_is_forgotten_ends(store: Store) -> None:
    blob = put(store, b"pinned")
    store.lease().pin(blob.digest)
    store.gc()
    assert store.find(blob.digest) is None


def test_releasing_twice_is_no_error(store: Store) -> None:
    lease = store.lease()
    lease.release()
    lease.release()
    assert os.listdir(store.root / "leases") == []


@pytest.mark.parametrize("digest", ["x", "blake3:0", f"blake3:{'0' * 64}\ngeneration a/b"])
def test_only_digests_are_pinned(store: Store, digest: str) -> None:
    with store.lease() as lease, pytest.raises(CardError):
        lease.pin(digest)


def test_a_line_being_written_is_not_a_pin_yet(store: Store) -> None:
    blob = put(store, b"data")
    with store.lease() as lease:
        path = store.root / "leases" / str(lease.owner)
        path.write_text(f"blob {blob.path.name}")
        store.gc()
    assert store.find(blob.digest) is None


def _hold(root: str, digest: str, ready: Connection) -> None:
    store = Store.open(Path(root))
    lease = store.lease()
    lease.pin(digest)
    with store.ingest(digest=None, size=None, limit_bytes=100) as ingest:
        ingest.write(b"half")
        ready.send("pinned")
        signal.pause()


def test_row55_a_lease_ends_with_its_process(store: Store) -> None:
    blob = put(store, b"pinned elsewhere")
    mine, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(store.root), blob.digest, theirs))
    child.start()
    try:
        assert mine.recv() == "pinned"
        assert store.gc().blobs == 0
        assert len(os.listdir(store.root / "ingest")) == 1
    finally:
        child.kill()
        child.join(10)
    assert store.gc().blobs == 1
    assert os.listdir(store.root / "ingest") == []


def test_row55_a_stale_lease_of_a_dead_process_does_not_hold(store: Store) -> None:
    blob = put(store, b"data")
    boot, space, *_ = store._leases.new_owner().split(".")
    (store.root / "leases" / f"{boot}.{space}.1.1.{RANDOM}").write_text(f"blob {blob.path.name}\n")
    assert store.gc().blobs == 1
    assert store.find(blob.digest) is None


@pytest.mark.parametrize("number", [None, errno.ENOLCK, errno.ENOSYS, errno.EIO, errno.ESTALE])
def test_row55_locks_that_lie_or_fail_change_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    """None: every lock is granted, as on some network file systems. Nothing may wait for one, or believe it."""

    def flock(fd: int, operation: int) -> None:
        assert operation & fcntl.LOCK_NB or operation == fcntl.LOCK_UN
        if number is not None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    boot, _, *_ = store._leases.new_owner().split(".")
    kept, mine = put(store, b"kept elsewhere"), put(store, b"kept here")
    elsewhere = store.root / "leases" / f"{boot}.ffffffff.1.1.{RANDOM}"  # a container of this host, alive or not
    elsewhere.write_text(f"blob {kept.path.name}\n")
    with store.lease() as lease:
        lease.pin(mine.digest)
        snapshot = publish(store)
        store.gc()
        assert store.find(kept.digest) == kept
        assert store.find(mine.digest) == mine
    assert contents(snapshot.directory) == dict(FILES)


def test_row55_where_locks_work_a_dead_container_is_known(store: Store) -> None:
    boot, _, *_ = store._leases.new_owner().split(".")
    blob = put(store, b"data")
    path = store.root / "leases" / f"{boot}.ffffffff.1.1.{RANDOM}"
    path.write_text(f"blob {blob.path.name}\n")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert store.gc().blobs == 0
    assert store.gc().blobs == 1
    assert not path.exists()


@pytest.mark.parametrize("years", [-50, -10, 10, 75])
def test_row58_wrong_times_change_no_decision(store: Store, years: int) -> None:
    """Times of everything in the store are moved; what is current, pinned and kept stays as it was."""
    publish(store, FILES)
    other = publish(store, {**FILES, "config.json": b"{}"})
    kept, gone = put(store, b"pinned"), put(store, b"unpinned")
    with store.lease() as lease:
        lease.pin(kept.digest)
        for path in store.root.rglob("*"):
            moved = max(0.0, path.lstat().st_mtime + years * 365 * 86400)
            os.utime(path, (moved, moved), follow_symlinks=False)
        again = Store.open(store.root)
        report = again.gc(keep_generations=2)
        assert (report.generations, report.blobs) == (0, 1)
        assert again.current(MODEL) == other
        assert again.find(kept.digest) == kept
        assert again.find(gone.digest) is None


def test_row58_a_lease_of_another_host_is_judged_by_the_clock_of_the_file_system(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = put(store, b"data")
    path = store.root / "leases" / f"00000000.00000000.1.1.{RANDOM}"
    path.write_text(f"blob {blob.path.name}\n")
    monkeypatch.setattr("time.time", lambda: 4e9)  # this host believes in 2096
    assert store.gc().blobs == 0
    past = path.stat().st_mtime - FOREIGN_LEASE_S - 60
    os.utime(path, (past, past))
    assert store.gc().blobs == 1


def test_row62_a_restart_with_the_same_pid_is_another_owner(store: Store) -> None:
    boot, space, pid, start, _ = store._leases.new_owner().split(".")
    blob = put(store, b"data")
    before = store.root / "leases" / f"{boot}.{space}.{pid}.{int(start) - 1}.{RANDOM}"
    before.write_text(f"blob {blob.path.name}\n")
    assert store.gc().blobs == 1
    assert not before.exists()


def test_row62_owners_are_never_equal(store: Store) -> None:
    assert len({store._leases.new_owner() for _ in range(100)}) == 100


def test_row62_a_forked_child_does_not_end_its_parents_lease(store: Store) -> None:
    with store.lease() as lease:
        lease.pin(digest_of(b"x"))
        pid = os.fork()
        if pid == 0:
            lease.release()
            os._exit(0)
        os.waitpid(pid, 0)
        assert (store.root / "leases" / str(lease.owner)).exists()
