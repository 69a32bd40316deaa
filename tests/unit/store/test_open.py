from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from placecard.card import digest_of
from placecard.errors import Code, StoreError
from placecard.store import Store
from placecard.store.disk import Disk
from placecard.telemetry import Fact, Fallback
from tests.unit.store.kit import (
    FILES,
    MODEL,
    OTHER,
    as_user,
    blob_path,
    card_of,
    contents,
    entries_of,
    publish,
    put,
    tamper,
)

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and other users need root")


def refused(store: Store) -> list[Code]:
    """The codes with which each writing method refuses."""
    codes = []
    for write in (
        lambda: put(store, b"new"),
        lambda: store.publish(MODEL, entries_of(FILES), card=card_of(FILES)),
        lambda: store.gc(),
        lambda: store.remove(MODEL),
        lambda: store.write_state(MODEL, "pins", {}),
    ):
        with pytest.raises(StoreError) as caught:
            write()
        codes.append(caught.value.code)
    return codes


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_row50_a_new_store_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = Store.open(tmp_path / "store")
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert contents(publish(store).directory) == dict(FILES)
    assert (store.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert json.loads((store.root / "placecard-store.json").read_text()) == {"layout": 1, "links": True}


def test_row50_a_directory_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    assert caught.value.code is Code.STORE_DENIED
    assert str(tmp_path / "placecard") in caught.value.mend
    assert os.listdir(tmp_path) == []


@ROOT_ONLY
def test_row50_another_users_directory_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    assert caught.value.code is Code.STORE_DENIED
    assert "--lower-dir" in caught.value.mend


@ROOT_ONLY
def test_row50_a_directory_without_write_permission_is_refused(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    locked = tmp_path / "locked"
    locked.mkdir()
    os.chown(locked, 12345, -1)
    locked.chmod(0o500)
    with as_user(12345), pytest.raises(StoreError) as caught:
        Store.open(locked)
    assert caught.value.code is Code.STORE_DENIED
    with as_user(12345), pytest.raises(StoreError) as caught:
        Store.open(locked / "deeper" / "store")
    assert caught.value.code is Code.STORE_DENIED


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A store that can be written at the first path, and is on a read-only file system at the second."""
    written, mounted = tmp_path / "written", tmp_path / "mounted"
    written.mkdir()
    mounted.mkdir()
    bound = ["mount", "--bind", str(written), str(mounted)]
    if os.geteuid() or subprocess.run(bound, check=False).returncode:
        pytest.skip("no mounts here")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(mounted)], check=True)
    yield written, mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_row50_a_read_only_store_serves_what_it_has_and_says_so(read_only: tuple[Path, Path]) -> None:
    written, mounted = read_only
    publish(Store.open(written / "store"))
    store = Store.open(mounted / "store")
    assert not store.writable
    current = store.current(MODEL)
    assert current is not None
    assert contents(current.directory) == dict(FILES)
    assert store.find(digest_of(FILES["config.json"])) is not None
    with store.lease() as lease:
        lease.pin(digest_of(b"x"))
        lease.pin_generation(current.directory)
    assert set(refused(store)) == {Code.STORE_READ_ONLY}
    assert store.verify().problems == ()


def test_row50_a_read_only_store_never_serves_wrong_bytes(read_only: tuple[Path, Path]) -> None:
    written, mounted = read_only
    store = Store.open(written / "store")
    publish(store)
    path = blob_path(store, FILES["tokenizer.json"])
    tamper(path)
    again = Store.open(mounted / "store")
    assert again.current(MODEL) is None
    assert again.find(digest_of(FILES["tokenizer.json"])) is None
    assert path.exists()


def test_row50_an_empty_read_only_directory_is_refused(read_only: tuple[Path, Path]) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(read_only[1])
    assert caught.value.code is Code.STORE_READ_ONLY
    with pytest.raises(StoreError) as caught:
        Store.open(read_only[1] / "store")
    assert caught.value.code is Code.STORE_READ_ONLY


def test_row50_a_disk_that_turns_read_only_is_no_success(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = publish(store)

    def create(disk: Disk, path: str) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(Disk, "create", create)
    with pytest.raises(StoreError) as caught:
        publish(store, OTHER)
    assert caught.value.code is Code.STORE_READ_ONLY
    assert store.current(MODEL) == old


def test_row50_a_disk_that_turns_read_only_still_serves_what_is_held(
    store: Store, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = publish(store)
    held = store.lease()

    def refuse(disk: Disk, *arguments: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for call in ("append", "create", "overwrite", "write", "mkdir", "rename", "unlink"):
        monkeypatch.setattr(Disk, call, refuse)
    held.pin(digest_of(FILES["config.json"]))
    with store.lease() as lease:
        lease.pin(digest_of(FILES["config.json"]))
        assert store.find(digest_of(FILES["config.json"])) is not None
        assert store.current(MODEL) == snapshot
    assert "lease_not_written" in [fact.kind for fact in facts if isinstance(fact, Fallback)]


def test_row56_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    store = Store.open(tmp_path / "link")
    assert store.root == tmp_path / "real"
    snapshot = publish(store)
    (tmp_path / "link").unlink()
    assert contents(snapshot.directory) == dict(FILES)


def test_row56_a_link_to_nothing_is_followed_and_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("deeper/real")
    assert Store.open(tmp_path / "link").root == tmp_path / "deeper" / "real"


@pytest.mark.parametrize("below", ["", "store"])
def test_row56_a_loop_of_links(tmp_path: Path, below: str) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "a" / below)
    assert caught.value.code is Code.STORE_LOOP


def test_row56_a_file_in_the_place_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "file")
    assert caught.value.code is Code.STORE_IO
    assert "Not a directory" in str(caught.value)


def test_row56_a_parent_swapped_while_running_redirects_no_write(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "parent" / "store")
    (tmp_path / "parent").rename(tmp_path / "moved")
    (tmp_path / "parent" / "store").mkdir(parents=True)
    publish(store)
    assert list((tmp_path / "parent" / "store").iterdir()) == []
    moved = Store.open(tmp_path / "moved" / "store").current(MODEL)
    assert moved is not None
    assert contents(moved.directory) == dict(FILES)


def test_a_store_that_was_deleted_while_running_is_made_again(store: Store, facts: list[Fact]) -> None:
    publish(store)
    subprocess.run(["rm", "-rf", str(store.root)], check=True)
    assert store.current(MODEL) is None
    assert contents(publish(store).directory) == dict(FILES)
    assert store.root.is_dir()
    assert "store_removed" in [fact.kind for fact in facts if isinstance(fact, Fallback)]


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def symlink(disk: Disk, text: str, path: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)

    monkeypatch.setattr(Disk, "symlink", symlink)


@pytest.mark.usefixtures("no_links")
def test_row57_without_links_the_store_copies_and_says_so(store: Store, facts: list[Fact]) -> None:
    assert [fact.kind for fact in facts if isinstance(fact, Fallback)] == ["copy_instead_of_link"]
    first = publish(store, FILES)
    second = publish(store, OTHER)
    assert contents(first.directory) == dict(FILES)
    assert contents(second.directory) == dict(OTHER)
    for path in (p for p in second.directory.rglob("*") if p.is_file()):
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert not [path for path in store.root.rglob("*") if path.is_symlink()]
    again = Store.open(store.root, observe=facts.append)
    assert again.current(MODEL) == second
    assert again.stable_path(MODEL) == second.directory
    assert again.gc(keep_generations=1).generations == 1
    assert again.verify().problems == ()


@pytest.mark.usefixtures("no_links")
@pytest.mark.parametrize("way", ["flip", "truncate", "remove", "add"])
def test_row57_a_damaged_copy_is_noticed_and_made_anew(store: Store, way: str) -> None:
    snapshot = publish(store)
    path = snapshot.directory / "tokenizer.json"
    match way:
        case "flip":
            tamper(path)
        case "truncate":
            path.chmod(0o644)
            path.write_bytes(b"")
        case "remove":
            path.unlink()
        case _:
            (snapshot.directory / "modeling_evil.py").write_text("x")
    assert Store.open(store.root).current(MODEL) is None
    assert len(store.verify().problems) == 1
    again = publish(store)
    assert again.generation == snapshot.generation
    assert contents(again.directory) == dict(FILES)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_row57_a_file_system_that_cannot_sync_directories(
    store: Store, facts: list[Fact], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    assert contents(publish(store).directory) == dict(FILES)
    assert "no_directory_sync" in [fact.kind for fact in facts if isinstance(fact, Fallback)]


def test_row57_an_error_of_the_disk_is_not_a_missing_feature(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError) as caught:
        publish(store)
    assert caught.value.code is Code.STORE_IO
    assert store.current(MODEL) is None


def test_row57_hard_links_and_unnamed_files_are_never_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", link)
    assert contents(publish(store).directory) == dict(FILES)


def test_row57_every_name_fits_a_short_file_system(store: Store) -> None:
    model = "a/" + "Very-Long-Name." * 60
    publish(store, FILES, model)
    with store.lease():
        names = [path.name for path in store.root.rglob("*")]
    assert max(map(len, names)) <= 143  # eCryptfs; others allow 255
    assert {name for name in names if name != name.lower()} == {"CACHEDIR.TAG"}


def dead_owner(store: Store) -> str:
    """The name of an owner of this boot whose process is gone: no process has pid 1 and the start time 1."""
    boot, space, *_ = store._leases.new_owner().split(".")
    return f"{boot}.{space}.1.1.{'0' * 16}"


def test_row61_leftovers_of_the_dead_go_and_others_stay(store: Store) -> None:
    ingest = store.root / "ingest"
    dead = dead_owner(store)
    (ingest / f"{dead}-0").write_text("half a file")
    (ingest / f"{dead}-1" / "generations" / "x" / "model").mkdir(parents=True)
    (store.root / "leases" / dead).write_text("")
    foreign = [ingest / ".tmp.editor", ingest / "notes-1", store.root / "README", store.root / "blobs-v1" / "notes"]
    for path in foreign:
        path.write_text("mine")
    (store.root / "blobs-v2").mkdir()
    with store.ingest(digest=None, size=None, limit_bytes=10) as alive:
        alive.write(b"alive")
        Store.open(store.root).gc()
        alive.commit()
    assert sorted(os.listdir(ingest)) == [".tmp.editor", "notes-1"]
    assert not (store.root / "leases" / dead).exists()
    assert all(path.read_text() == "mine" for path in foreign)
    assert (store.root / "blobs-v2").is_dir()


@pytest.mark.parametrize("marker", ['{"layout": 2, "links": true}', "not JSON", "[]", '{"layout": "x"}'])
def test_row61_a_newer_layout_is_read_and_not_written(store: Store, marker: str) -> None:
    publish(store)
    path = store.root / "placecard-store.json"
    path.chmod(0o644)
    path.write_text(marker)
    newer = Store.open(store.root)
    assert not newer.writable
    current = newer.current(MODEL)
    assert current is not None
    assert contents(current.directory) == dict(FILES)
    assert set(refused(newer)) == {Code.STORE_NEWER}
    assert path.read_text() == marker


def test_row61_an_empty_marker_is_written_again(store: Store) -> None:
    path = store.root / "placecard-store.json"
    path.chmod(0o644)
    path.write_text("")
    assert Store.open(store.root).writable
    assert json.loads(path.read_text())["layout"] == 1


def test_row62_an_unknown_bucket_of_a_newer_release_is_left_alone(store: Store) -> None:
    publish(store)
    other = store.root / "models-v2" / "x"
    other.mkdir(parents=True)
    store.gc(keep_generations=1)
    assert other.is_dir()


@pytest.mark.parametrize("change", [("ADVERTISED", "NOTARIZED"), ('"schema":1', '"schema":2')])
def test_row62_a_generation_of_a_newer_release_is_not_collected(store: Store, change: tuple[str, str]) -> None:
    snapshot = publish(store)
    path = snapshot.directory.parent / "manifest.json"
    tamper(path, path.read_text().replace(*change).encode())
    assert store.current(MODEL) is None
    assert store.gc(keep_generations=1).generations == 0
    assert contents(snapshot.directory) == dict(FILES)


def test_row62_unknown_keys_of_a_manifest_are_passed_over(store: Store) -> None:
    snapshot = publish(store)
    path = snapshot.directory.parent / "manifest.json"
    tamper(path, b'{"signature":"later",' + path.read_bytes()[1:])
    assert store.current(MODEL) == snapshot


@pytest.mark.parametrize("text", ['{"layout": Infinity, "links": true}', "[" * 4000, '{"layout": NaN, "links": 1}'])
def test_a_marker_that_is_no_marker_counts_as_newer(tmp_path: Path, text: str) -> None:
    root = Store.open(tmp_path / "store").root
    marker = root / "placecard-store.json"
    marker.chmod(0o600)
    marker.write_text(text)
    opened = Store.open(root)
    assert not opened.writable
    with pytest.raises(StoreError) as caught:
        opened.write_state(MODEL, "test", {})
    assert caught.value.code is Code.STORE_NEWER


def test_a_state_holds_a_path_that_is_no_unicode(store: Store) -> None:
    store.write_state(MODEL, "test", {"path": "/tmp/bad\udcff", "name": "größe"})
    assert store.read_state(MODEL, "test") == {"path": "/tmp/bad\udcff", "name": "größe"}
