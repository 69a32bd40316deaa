"""Reading files of this host, and refusing to read any others."""

from __future__ import annotations

import errno
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from placecard.card import FileUri
from placecard.errors import Code, SourceError
from placecard.source import LocalSource, identity_of
from placecard.source.beneath import MAX_HOPS
from tests.unit.source.tools import at, code, failure, read

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one file, next to a secret that no URI may reach."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "config.json").write_bytes(b"{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return root


def hub_cache(cache: Path) -> Path:
    """Write one repository in the layout of the hub's client; return its snapshot."""
    repo = cache / "models--org--name"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "blobs" / "e1").write_bytes(b"own")
    (snapshot / "config.json").symlink_to("../../blobs/e1")
    (cache / "blobs" / "ab").mkdir(parents=True)
    (cache / "blobs" / "ab" / "abcd").write_bytes(b"shared")
    (repo / "blobs" / "e2").symlink_to("../../blobs/ab/abcd")
    (snapshot / "tokenizer.json").symlink_to("../../blobs/e2")
    return snapshot


async def test_a_file_beneath_a_root_is_read(root: Path) -> None:
    assert await read(LocalSource([root]), at(root / "sub" / "config.json")) == b"{}"


async def test_names_with_spaces_and_unicode_are_read(root: Path) -> None:
    (root / "a b é.txt").write_bytes(b"x")
    assert await read(LocalSource([root]), at(root / "a b é.txt")) == b"x"


async def test_a_root_behind_links_is_resolved_once(root: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    source = LocalSource([alias])
    assert await read(source, at(alias / "sub" / "config.json")) == b"{}"
    assert await read(source, at(root / "sub" / "config.json")) == b"{}"
    alias.unlink()
    alias.symlink_to(tmp_path / "outside")
    assert await code(source, at(alias / "secret")) is Code.NOT_FOUND


async def test_links_of_a_hub_snapshot_are_followed_within_the_cache(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path / "hub")
    source = LocalSource([tmp_path / "hub"])
    assert await read(source, at(snapshot / "config.json")) == b"own"
    assert await read(source, at(snapshot / "tokenizer.json")) == b"shared"


async def test_a_snapshot_as_root_brings_its_blobs_as_targets_only(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path / "hub")
    source = LocalSource([snapshot])
    assert await read(source, at(snapshot / "config.json")) == b"own"
    assert await code(source, at(tmp_path / "hub/models--org--name/blobs/e1")) is Code.PATH_FORBIDDEN


@pytest.mark.parametrize("target", ["sub/config.json", "./sub/../sub/config.json", "{root}/sub/config.json", "hop"])
async def test_links_inside_the_root_are_followed(root: Path, target: str) -> None:
    (root / "hop").symlink_to("sub/config.json")
    (root / "link").symlink_to(target.format(root=root))
    assert await read(LocalSource([root]), at(root / "link")) == b"{}"


async def test_a_link_to_a_directory_in_the_middle_is_followed(root: Path) -> None:
    (root / "way").symlink_to("sub")
    assert await read(LocalSource([root]), at(root / "way" / "config.json")) == b"{}"


async def test_the_innermost_of_nested_roots_serves(root: Path) -> None:
    assert await read(LocalSource([root, root / "sub"]), at(root / "sub" / "config.json")) == b"{}"


async def test_an_empty_file_has_no_chunks(root: Path) -> None:
    (root / "empty").touch()
    assert await read(LocalSource([root]), at(root / "empty")) == b""


async def test_a_missing_file_is_raised_on_entry(root: Path) -> None:
    with pytest.raises(SourceError) as caught:
        async with LocalSource([root]).open(at(root / "absent")):
            pytest.fail("was entered")
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("name", ["sub/config.json/x", "n" * 300])
async def test_impossible_paths_are_not_found(root: Path, name: str) -> None:
    assert await code(LocalSource([root]), FileUri(at(root).path / name)) is Code.NOT_FOUND


def test_a_nul_in_a_path_is_not_found(root: Path) -> None:
    with pytest.raises(SourceError) as caught:
        LocalSource([root]).open_fd(root / "a\0b")
    assert caught.value.code is Code.NOT_FOUND


async def test_without_roots_nothing_is_read(root: Path) -> None:
    assert await code(LocalSource([]), at(root / "sub" / "config.json")) is Code.PATH_FORBIDDEN


async def test_a_refusal_names_the_path_and_the_flag(root: Path, tmp_path: Path) -> None:
    error = await failure(LocalSource([root]), at(tmp_path / "outside" / "secret"))
    assert str(tmp_path / "outside" / "secret") in str(error)
    assert "--file-root" in str(error) and "--file-root" in error.mend


async def test_a_root_is_no_prefix_of_text(root: Path, tmp_path: Path) -> None:
    (tmp_path / "rootless").mkdir()
    (tmp_path / "rootless" / "x").touch()
    assert await code(LocalSource([root]), at(tmp_path / "rootless" / "x")) is Code.PATH_FORBIDDEN


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/proc/self/mem", "/etc/passwd"])
async def test_row24_devices_outside_every_root_are_forbidden(root: Path, path: str) -> None:
    assert await code(LocalSource([root]), at(Path(path))) is Code.PATH_FORBIDDEN


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty"])
async def test_row24_devices_beneath_a_root_are_not_regular(path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"{path} is not here")
    assert await code(LocalSource([Path("/dev")]), at(Path(path))) is Code.NOT_REGULAR


async def test_row24_pipes_sockets_and_directories_never_block(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        with anyio.fail_after(5):
            for name in ("pipe", "socket", "sub"):
                assert await code(LocalSource([root]), at(root / name)) is Code.NOT_REGULAR
            assert await code(LocalSource([root]), at(root)) is Code.NOT_REGULAR


async def test_row24_a_pipe_behind_a_link_never_blocks(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("pipe")
    with anyio.fail_after(5):
        assert await code(LocalSource([root]), at(root / "link")) is Code.NOT_REGULAR


async def test_row24_a_huge_sparse_file_streams_in_bounded_chunks(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    received = 0
    async with LocalSource([root]).open(at(root / "sparse")) as chunks:
        async for chunk in chunks:
            assert len(chunk) <= 1 << 20
            received += len(chunk)
            if received >= 4 << 20:
                break
    assert received == 4 << 20


@pytest.mark.parametrize(
    "target", ["../outside/secret", "{tmp}/outside/secret", "/etc/passwd", "../root/../outside/secret"]
)
async def test_row25_a_link_that_leads_out_escapes(root: Path, tmp_path: Path, target: str) -> None:
    (root / "link").symlink_to(target.format(tmp=tmp_path))
    assert await code(LocalSource([root]), at(root / "link")) is Code.PATH_ESCAPE


async def test_row25_a_link_at_each_component_escapes(root: Path, tmp_path: Path) -> None:
    deep = tmp_path / "outside" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "secret").write_bytes(b"secret")
    for depth, name in enumerate(("a", "b", "secret")):
        here = root / f"depth{depth}"
        here = here.joinpath(*("a", "b", "secret")[:depth])
        here.mkdir(parents=True)
        (here / name).symlink_to((tmp_path / "outside").joinpath(*("a", "b", "secret")[: depth + 1]))
        path = root / f"depth{depth}" / "a" / "b" / "secret"
        assert path.read_bytes() == b"secret", "the kernel would have followed it"
        assert await code(LocalSource([root]), at(path)) is Code.PATH_ESCAPE


def test_row25_dots_in_a_path_escape(root: Path) -> None:
    for path in (root / ".." / "outside" / "secret", root / "sub" / ".." / "sub" / "config.json"):
        with pytest.raises(SourceError) as caught:
            LocalSource([root]).open_fd(path)
        assert caught.value.code is Code.PATH_ESCAPE


async def test_row25_a_link_that_leaves_and_comes_back_may_pass(root: Path) -> None:
    (root / "link").symlink_to("../root/sub/config.json")
    assert await read(LocalSource([root]), at(root / "link")) == b"{}"


async def test_row25_loops_of_links_end(root: Path) -> None:
    (root / "self").symlink_to("self")
    (root / "ping").symlink_to("pong")
    (root / "pong").symlink_to("ping")
    for name in ("self", "ping"):
        assert await code(LocalSource([root]), at(root / name)) is Code.PATH_ESCAPE


async def test_row25_a_long_chain_of_links_ends(root: Path) -> None:
    previous = "sub/config.json"
    for number in range(MAX_HOPS + 1):
        (root / f"l{number}").symlink_to(previous)
        previous = f"l{number}"
    source = LocalSource([root])
    assert await read(source, at(root / f"l{MAX_HOPS - 1}")) == b"{}"
    assert await code(source, at(root / f"l{MAX_HOPS}")) is Code.PATH_ESCAPE


@pytest.mark.parametrize("swapped", ["sub", "config.json"])
def test_row25_a_component_swapped_while_it_is_opened_is_not_followed(
    root: Path, tmp_path: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside" / "config.json").write_bytes(b"secret")
    target = root / "sub" if swapped == "sub" else root / "sub" / "config.json"
    real = os.stat

    def stat_then_swap(path: Any, **options: Any) -> os.stat_result:
        status = real(path, **options)
        if path == swapped and "dir_fd" in options and not target.is_symlink():
            target.rename(tmp_path / "moved")
            target.symlink_to(tmp_path / "outside" / ("" if swapped == "sub" else "config.json"))
        return status

    monkeypatch.setattr("placecard.source.beneath.os.stat", stat_then_swap)
    with pytest.raises(SourceError) as caught:
        LocalSource([root]).open_fd(root / "sub" / "config.json")
    assert caught.value.code is Code.PATH_ESCAPE


def test_row25_a_racing_attacker_never_gets_the_secret(root: Path, tmp_path: Path) -> None:
    decoy = tmp_path / "decoy"
    decoy.symlink_to(tmp_path / "outside" / "secret")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            spare = root / "spare"
            spare.write_bytes(b"good")
            os.replace(spare, root / "target")
            os.symlink(tmp_path / "outside" / "secret", spare)
            os.replace(spare, root / "target")

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        source, seen = LocalSource([root]), set()
        for _ in range(500):
            try:
                fd = source.open_fd(root / "target")
            except SourceError as error:
                seen.add(error.code)
                continue
            with os.fdopen(fd, "rb") as file:
                assert file.read() != b"secret"
        assert seen <= {Code.PATH_ESCAPE, Code.NOT_FOUND}
    finally:
        done.set()
        attacker.join()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, Code.UNREADABLE),
        (errno.EPERM, Code.UNREADABLE),
        (errno.EIO, Code.UNREADABLE),
        (errno.ESTALE, Code.UNREADABLE),
        (errno.EMFILE, Code.UNREADABLE),
        (errno.ELOOP, Code.PATH_ESCAPE),
        (errno.ENXIO, Code.NOT_REGULAR),
        (errno.ENOENT, Code.NOT_FOUND),
    ],
)
def test_what_the_system_answers_has_a_code(
    root: Path, number: int, expected: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, **options: Any) -> int:
        if path == "config.json":
            raise OSError(number, os.strerror(number))
        return real(path, flags, **options)

    monkeypatch.setattr("placecard.source.beneath.os.open", refuse)
    with pytest.raises(SourceError) as caught:
        LocalSource([root]).open_fd(root / "sub" / "config.json")
    assert caught.value.code is expected
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_without_permission_is_unreadable(root: Path) -> None:
    (root / "sub" / "config.json").chmod(0)
    assert await code(LocalSource([root]), at(root / "sub" / "config.json")) is Code.UNREADABLE


async def test_a_read_that_fails_half_way_is_unreadable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "big").write_bytes(bytes(3 << 20))
    real, calls = os.read, []

    def fail_later(fd: int, count: int) -> bytes:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, count)

    monkeypatch.setattr("placecard.source.local.os.read", fail_later)
    assert await code(LocalSource([root]), at(root / "big")) is Code.UNREADABLE


def test_a_descriptor_is_not_inherited_and_is_read_only(root: Path) -> None:
    fd = LocalSource([root]).open_fd(root / "sub" / "config.json")
    try:
        assert not os.get_inheritable(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
    finally:
        os.close(fd)


async def test_descriptors_are_given_back_whatever_happens(root: Path) -> None:
    (root / "big").write_bytes(bytes(3 << 20))
    (root / "link").symlink_to("/etc/passwd")
    source = LocalSource([root])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        async with source.open(at(root / "big")) as chunks:
            await anext(chunks)
        await code(source, at(root / "link"))
        await code(source, at(root / "sub"))
        await code(source, at(root / "absent"))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_read_that_hangs_is_left_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, closed = threading.Event(), threading.Event()
    real_read, real_close = os.read, os.close
    hung: list[int] = []

    def hang(fd: int, count: int) -> bytes:
        hung.append(fd)
        release.wait(10)
        return real_read(fd, count)

    def close(fd: int) -> None:
        real_close(fd)
        if fd in hung:
            closed.set()

    monkeypatch.setattr("placecard.source.local.os.read", hang)
    monkeypatch.setattr("placecard.source.local.os.close", close)
    with anyio.move_on_after(0.1) as scope:
        await read(LocalSource([root]), at(root / "sub" / "config.json"))
    assert scope.cancelled_caught
    assert not closed.is_set(), "closed under a read that is still going on"
    release.set()
    assert closed.wait(5), "nobody closed it"


def test_covers_looks_at_the_text_alone(root: Path, tmp_path: Path) -> None:
    source = LocalSource([root])
    assert source.covers(root / "no" / "such")
    assert not source.covers(tmp_path / "outside")


# What takes a place later is not taken for what was there.


def swap_for_link(place: Path, target: Path) -> None:
    place.rename(place.with_name(place.name + "-old"))
    place.symlink_to(target)


def test_row25_a_root_that_is_swapped_for_a_link_later_is_not_followed(root: Path, tmp_path: Path) -> None:
    (root / "sub" / "secret").write_bytes(b"own")
    source = LocalSource([root, root / "sub"])
    swap_for_link(root / "sub", tmp_path / "outside")
    for look in (lambda: source.open_fd(root / "sub" / "secret"), lambda: source.identify(root / "sub")):
        with pytest.raises(SourceError) as caught:
            look()
        assert caught.value.code is Code.PATH_ESCAPE
    found = source.walk(root / "sub", max_files=9)
    assert found.files == () and found.problem is not None and found.problem.code is Code.PATH_ESCAPE


def test_row25_a_folder_above_a_root_that_is_swapped_for_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside" / "config.json").write_bytes(b"secret")
    inner = root / "sub"
    (tmp_path / "outside" / "sub").mkdir()
    (tmp_path / "outside" / "sub" / "config.json").write_bytes(b"secret")
    source = LocalSource([inner])
    swap_for_link(root, tmp_path / "outside")
    with pytest.raises(SourceError) as caught:
        source.open_fd(inner / "config.json")
    assert caught.value.code is Code.PATH_ESCAPE


@pytest.mark.parametrize("swapped", ["m", "m/config.json"])
@pytest.mark.parametrize("inside", [True, False])
def test_row25_a_listed_file_is_opened_again_without_following_any_link(
    root: Path, tmp_path: Path, swapped: str, inside: bool
) -> None:
    other = (root if inside else tmp_path) / "other"
    for folder in (root / "m", other):
        folder.mkdir()
        (folder / "config.json").write_bytes(b"secret" if folder == other else b"{}")
    source = LocalSource([root])
    found = source.walk(root / "m", max_files=9)
    with os.fdopen(source.reopen(found.files[0]), "rb") as file:
        assert file.read() == b"{}" and identity_of(os.fstat(file.fileno())) == found.files[0].identity
    swap_for_link(root / swapped, other if swapped == "m" else other / "config.json")
    with pytest.raises(SourceError) as caught:
        source.reopen(found.files[0])
    assert caught.value.code is Code.PATH_ESCAPE


def test_row24_a_listed_file_that_became_a_pipe_is_not_opened(root: Path) -> None:
    source = LocalSource([root])
    found = source.walk(root / "sub", max_files=9)
    (root / "sub" / "config.json").unlink()
    os.mkfifo(root / "sub" / "config.json")
    with pytest.raises(SourceError) as caught:
        source.reopen(found.files[0])
    assert caught.value.code is Code.NOT_REGULAR


def test_row25_an_entry_of_another_source_is_not_opened(root: Path, tmp_path: Path) -> None:
    foreign = LocalSource([tmp_path / "outside"]).walk(tmp_path / "outside", max_files=9).files[0]
    dots = replace(foreign, real=root / ".." / "outside" / "secret")
    for entry in (foreign, dots):
        with pytest.raises(SourceError) as caught:
            LocalSource([root]).reopen(entry)
        assert caught.value.code is Code.PATH_FORBIDDEN


def test_a_directory_is_the_same_by_every_path_that_leads_to_it(root: Path, tmp_path: Path) -> None:
    (root / "alias").symlink_to("sub")
    source = LocalSource([root])
    status = (root / "sub").stat()
    assert source.identify(root / "sub") == source.identify(root / "alias") == (status.st_dev, status.st_ino)
    codes = {root / "absent": Code.NOT_FOUND, root / "sub" / "config.json": Code.NOT_REGULAR}
    for path, expected in (codes | {tmp_path / "outside": Code.PATH_FORBIDDEN}).items():
        with pytest.raises(SourceError) as caught:
            source.identify(path)
        assert caught.value.code is expected


def test_nothing_outside_the_roots_is_looked_at(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = LocalSource([root])
    (tmp_path / "alias").symlink_to(root)

    def tell(*args: Any, **options: Any) -> Any:
        raise AssertionError(f"looked at {args}")

    monkeypatch.setattr("placecard.source.beneath.os.stat", tell)
    monkeypatch.setattr("placecard.source.beneath.os.open", tell)
    monkeypatch.setattr("placecard.source.beneath.os.path.realpath", tell)
    with pytest.raises(SourceError) as caught:
        source.identify(tmp_path / "alias")
    assert caught.value.code is Code.PATH_FORBIDDEN
    assert source.walk(tmp_path / "alias", max_files=9).problem is not None
