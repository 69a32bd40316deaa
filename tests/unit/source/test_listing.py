"""Listing a model directory, whatever it holds."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from placecard.card import LeftOut
from placecard.errors import Code
from placecard.source import LocalSource, Reason, Walk, walk
from placecard.source import listing as listing_module
from tests.simulator.models import write_text_model
from tests.unit.source.test_local import COMMIT, hub_cache


def names(found: Walk) -> list[str]:
    return [entry.name for entry in found.files]


def reasons(found: Walk) -> dict[str, str]:
    return {each.name: each.reason for each in found.left_out}


def test_a_model_directory_is_listed_with_weights(tmp_path: Path) -> None:
    write_text_model(tmp_path)
    found = walk(tmp_path, max_files=100)
    on_disk = {p.relative_to(tmp_path).as_posix(): p for p in tmp_path.rglob("*") if p.is_file() and p.name[0] != "."}
    assert set(names(found)) == set(on_disk)
    assert any(name.endswith(".safetensors") for name in names(found))
    for entry in found.files:
        status = on_disk[entry.name].stat()
        assert (entry.dev, entry.ino, entry.size) == (status.st_dev, status.st_ino, status.st_size)
        assert (entry.mtime_ns, entry.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)
    assert not found.truncated and found.problem is None


def test_nested_files_come_after_those_at_the_top(tmp_path: Path) -> None:
    for name in ("a/deep.json", "z.json", "b.json", "a/b/deeper.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(walk(tmp_path, max_files=100)) == ["b.json", "z.json", "a/deep.json", "a/b/deeper.json"]


def test_hidden_entries_are_left_out_whole(tmp_path: Path) -> None:
    (tmp_path / ".git" / "objects").mkdir(parents=True)
    (tmp_path / ".git" / "objects" / "x").touch()
    (tmp_path / ".env").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".hidden").touch()
    found = walk(tmp_path, max_files=100)
    assert names(found) == []
    assert reasons(found) == dict.fromkeys((".git", ".env", "sub/.hidden"), "hidden")


def test_a_hub_snapshot_is_listed_through_its_links(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path / "hub")
    found = walk(snapshot, max_files=100)
    assert names(found) == ["config.json", "tokenizer.json"]
    assert found.left_out == ()
    source = LocalSource([snapshot])
    contents = []
    for entry in found.files:
        assert not entry.real.is_symlink()
        with os.fdopen(source.reopen(entry), "rb") as file:
            contents.append(file.read())
    assert contents == [b"own", b"shared"]


def test_row34_links_that_lead_out_are_left_out_with_the_reason(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (model / "file").symlink_to("../secret")
    (model / "absolute").symlink_to("/etc/passwd")
    (model / "folder").symlink_to("../elsewhere")
    (model / "self").symlink_to("self")
    (model / "dangling").symlink_to("nowhere")
    (model / "dangling-out").symlink_to("../nowhere")
    (model / "device").symlink_to("/dev/zero")
    found = walk(model, max_files=100)
    assert names(found) == []
    assert reasons(found) == {
        "file": Reason.ESCAPES,
        "absolute": Reason.ESCAPES,
        "folder": Reason.ESCAPES,
        "self": Reason.ESCAPES,
        "dangling": Reason.DANGLING,
        "dangling-out": Reason.ESCAPES,
        "device": Reason.ESCAPES,
    }


def test_row34_links_of_one_hub_repository_do_not_reach_another(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path / "hub")
    other = tmp_path / "hub" / "models--other--secret" / "blobs"
    other.mkdir(parents=True)
    (other / "e9").write_bytes(b"secret")
    (snapshot / "stolen").symlink_to("../../../models--other--secret/blobs/e9")
    (snapshot / "refs").symlink_to("../../refs")
    found = walk(snapshot, max_files=100)
    assert reasons(found) == {"stolen": Reason.ESCAPES, "refs": Reason.ESCAPES}


def test_row34_blobs_that_are_a_link_out_of_the_root_are_not_the_cache_s(tmp_path: Path) -> None:
    snapshot = tmp_path / "root" / "models--org--name" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (snapshot.parent.parent / "blobs").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "blobs").symlink_to(tmp_path / "outside")
    (snapshot / "own.json").symlink_to("../../blobs/secret")
    (snapshot / "shared.json").symlink_to("../../../blobs/secret")
    for source in (LocalSource([tmp_path / "root"]), LocalSource([snapshot])):
        found = source.walk(snapshot, max_files=9)
        assert found.files == ()
        assert set(reasons(found)) == {"own.json", "shared.json"}


def test_row34_shared_blobs_outside_of_the_root_are_not_reached(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path / "hub")
    repository = snapshot.parent.parent
    found = LocalSource([repository]).walk(snapshot, max_files=9)
    assert names(found) == ["config.json"]
    assert reasons(found) == {"tokenizer.json": Reason.ESCAPES}


def test_row34_a_directory_swapped_for_a_link_during_the_walk_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, outside = tmp_path / "root" / "m", tmp_path / "outside"
    for folder in (model / "sub", outside / "sub"):
        folder.mkdir(parents=True)
        (folder / "shadow.json").write_bytes(b"secret" if folder.parent == outside else b"decoy")
    real = os.scandir

    def list_then_swap(fd: int) -> object:
        if not model.is_symlink():
            model.rename(tmp_path / "root" / "m-old")
            model.symlink_to(outside)
        return real(fd)

    monkeypatch.setattr("placecard.source.listing.os.scandir", list_then_swap)
    found = LocalSource([tmp_path / "root"]).walk(model, max_files=9)
    assert found.files == ()
    assert reasons(found) == {"sub": Reason.ESCAPES}


def test_row34_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found = walk(tmp_path, max_files=100)
    assert reasons(found) == {"pipe": Reason.NOT_REGULAR, "socket": Reason.NOT_REGULAR}


def test_row34_devices_are_left_out() -> None:
    found = walk(Path("/dev"), max_files=1000, max_depth=1)
    assert reasons(found)["null"] == Reason.DEVICE
    assert "null" not in names(found)


def test_row34_links_inside_the_directory_are_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "real.json").write_bytes(b"{}")
    (tmp_path / "link.json").symlink_to("sub/real.json")
    (tmp_path / "other").symlink_to("sub")
    found = walk(tmp_path, max_files=100)
    assert names(found) == ["link.json", "other/real.json", "sub/real.json"]
    assert {entry.real for entry in found.files} == {(tmp_path / "sub" / "real.json").resolve()}


def test_row34_directory_cycles_end(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "up").symlink_to("../../a")
    (tmp_path / "top").symlink_to(".")
    (tmp_path / "a" / "x.json").touch()
    found = walk(tmp_path, max_files=100)
    assert names(found) == ["a/x.json"]
    assert reasons(found) == {"a/b/up": Reason.CYCLE, "top": Reason.CYCLE}


def test_row34_mutual_links_stay_within_the_bounds(tmp_path: Path) -> None:
    folders = [tmp_path / f"d{number}" for number in range(6)]
    for folder in folders:
        folder.mkdir()
        (folder / "f.json").touch()
    for folder in folders:
        for other in folders:
            if other is not folder:
                (folder / f"to-{other.name}").symlink_to(f"../{other.name}")
    found = walk(tmp_path, max_files=100)
    assert len(found.files) == 100
    assert found.truncated


@pytest.mark.parametrize("name", ["nul", "a\nb", "x:y", "trailing.", " lead", "bidi\u202e"])
def test_unsafe_names_are_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    found = walk(tmp_path, max_files=100)
    assert found.left_out == (LeftOut(name, Reason.NAME_UNSAFE),)


def test_names_that_are_not_utf8_are_left_out_printably(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.json")).touch()
    assert reasons(walk(tmp_path, max_files=100)) == {"\\udcff.json": Reason.NAME_NOT_UTF8}


def test_row35_more_files_than_allowed_truncate(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.json").touch()
        (tmp_path / f"{number:02}.safetensors").touch()
    found = walk(tmp_path, max_files=10)
    assert found.truncated
    assert [name for name in names(found) if name.endswith(".json")] == [f"{number:02}.json" for number in range(10)]
    exact = walk(tmp_path, max_files=30)
    assert not exact.truncated and len(exact.files) == 60, "weights do not count"


def test_row35_entries_looked_at_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MAX_ENTRIES", 8)
    for number in range(9):
        (tmp_path / f"{number}.safetensors").touch()
    found = walk(tmp_path, max_files=100)
    assert found.truncated and len(found.files) == 8


def test_row35_a_flood_of_hidden_files_is_bounded(tmp_path: Path) -> None:
    for number in range(1100):
        (tmp_path / f".{number}").touch()
    found = walk(tmp_path, max_files=10)
    assert found.truncated and len(found.left_out) == 1024


def test_folders_deeper_than_allowed_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "x").touch()
    (tmp_path / "a" / "b" / "y").touch()
    found = walk(tmp_path, max_files=100, max_depth=2)
    assert names(found) == ["a/b/y"]
    assert reasons(found) == {"a/b/c": Reason.TOO_DEEP}


@pytest.mark.parametrize("kind", ["absent", "file", "outside"])
def test_a_directory_that_cannot_be_listed_is_a_problem_not_an_exception(tmp_path: Path, kind: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").touch()
    (tmp_path / "outside").mkdir()
    place = {"absent": "root/absent", "file": "root/file", "outside": "outside"}[kind]
    found = walk(tmp_path / place, (tmp_path / "root",), max_files=100)
    assert found.files == () and found.problem is not None
    expected = {"absent": Code.NOT_FOUND, "file": Code.NOT_REGULAR, "outside": Code.PATH_FORBIDDEN}
    assert found.problem.code is expected[kind]


def test_row34_a_directory_that_is_a_link_out_of_the_root_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    (tmp_path / "root" / "link").symlink_to("../outside")
    source = LocalSource([tmp_path / "root"])
    assert source.covers(tmp_path / "root" / "link"), "as far as its text goes"
    found = source.walk(tmp_path / "root" / "link", max_files=9)
    assert found.problem is not None and found.problem.code is Code.PATH_ESCAPE
    assert found.files == ()
    assert LocalSource([]).walk(tmp_path, max_files=9).problem is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_entries_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    (tmp_path / "file").touch(mode=0)
    assert reasons(walk(tmp_path, max_files=9)) == {"locked": Reason.UNREADABLE, "file": Reason.UNREADABLE}


def test_unreadable_files_are_left_out_as_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("placecard.source.listing.os.access", lambda *args, **options: False)
    assert reasons(walk(tmp_path, max_files=9)) == {"file": Reason.UNREADABLE}


def test_a_relative_directory_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").touch()
    monkeypatch.chdir(tmp_path / "m")
    assert names(walk(Path("../m"), max_files=9)) == ["config.json"]
    assert walk(Path(), max_files=9).directory == (tmp_path / "m").resolve()


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "out").symlink_to("/etc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        walk(tmp_path, max_files=1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_snapshot_pattern_wants_a_commit(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path / "hub")
    renamed = snapshot.with_name("main")
    snapshot.rename(renamed)
    assert len(COMMIT) == 40
    assert reasons(walk(renamed, max_files=9)) == {"config.json": Reason.ESCAPES, "tokenizer.json": Reason.ESCAPES}
