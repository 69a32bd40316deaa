"""The directory registry among strangers: half-written files, links, pipes, floods, lost folders, jumping clocks."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest
from tests.contract.registry_suite import record, rejected, watching

from placecard.discovery import Change, FileRegistry, Joined, encode_record
from placecard.discovery import folder as folder_module
from placecard.discovery import scan as scan_module
from placecard.discovery.bell import Bell
from placecard.discovery.folder import TEMPORARY
from placecard.discovery.scan import MAX_STATED_NAMES, Scanner
from placecard.errors import Code, DiscoveryError
from placecard.telemetry import Fact, Fallback

TTL_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def facts() -> list[Fact]:
    return []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
async def registry(root: Path, clock: Clock, facts: list[Fact]) -> AsyncGenerator[FileRegistry]:
    async with FileRegistry(root, ttl_s=TTL_S, clock=clock, observe=facts.append) as registry:
        yield registry


def path_of(root: Path, number: int) -> Path:
    return root / f"{record(number).instance}.json"


def fallbacks(facts: list[Fact]) -> list[str]:
    return [fact.kind for fact in facts if isinstance(fact, Fallback)]


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it had been touched ``seconds`` earlier."""
    status = path.stat(follow_symlinks=False)
    os.utime(path, (status.st_atime, status.st_mtime - seconds), follow_symlinks=False)


async def test_the_directory_is_made_for_this_user_alone(registry: FileRegistry, root: Path) -> None:
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert await registry.list() == ()


async def test_a_put_leaves_one_file_that_is_no_link(registry: FileRegistry, root: Path) -> None:
    path_of(root, 1).symlink_to(root / "elsewhere")
    await registry.put(record(1))
    assert os.listdir(root) == [path_of(root, 1).name]
    assert not path_of(root, 1).is_symlink()
    assert path_of(root, 1).read_bytes() == encode_record(record(1))


async def test_a_put_that_fails_leaves_nothing_behind(registry: FileRegistry, root: Path) -> None:
    path_of(root, 1).mkdir()
    with pytest.raises(DiscoveryError) as caught:
        await registry.put(record(1))
    assert caught.value.code == Code.DISCOVERY_UNAVAILABLE
    assert os.listdir(root) == [path_of(root, 1).name]


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o702])
async def test_a_directory_that_all_may_write_is_refused(root: Path, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(DiscoveryError) as caught:
        async with FileRegistry(root):
            pytest.fail("opened")
    assert caught.value.code == Code.DISCOVERY_FORBIDDEN


@pytest.mark.parametrize("mode", [0o1777, 0o770, 0o755])
async def test_a_directory_with_a_sticky_bit_or_a_group_is_used(root: Path, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    async with FileRegistry(root) as registry:
        assert await registry.list() == ()


async def test_a_directory_of_another_user_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    if os.geteuid() == 0:
        os.chown(root, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(DiscoveryError, match="belongs to user") as caught:
        async with FileRegistry(root):
            pytest.fail("opened")
    assert caught.value.code == Code.DISCOVERY_FORBIDDEN


async def test_a_link_to_a_directory_is_followed_if_it_is_ours(root: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    root.symlink_to(tmp_path / "real")
    async with FileRegistry(root) as registry:
        await registry.put(record(1))
        assert await registry.list() == (record(1),)
    if os.geteuid() == 0:
        os.chown(root, 12345, -1, follow_symlinks=False)
        with pytest.raises(DiscoveryError, match="belongs to user 12345"):
            async with FileRegistry(root):
                pytest.fail("opened")


async def test_a_place_that_is_no_directory_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DiscoveryError) as caught:
            async with FileRegistry(place):
                pytest.fail("opened")
        assert caught.value.code == Code.DISCOVERY_UNAVAILABLE


async def test_row80_files_of_strangers_are_passed_over(registry: FileRegistry, root: Path, facts: list[Fact]) -> None:
    await registry.put(record(1))
    for name in (".x.json.swp", "4913", "x.json~", "#x.json#", ".hidden.json", "README", "core", TEMPORARY + "x.tmp"):
        (root / name).write_bytes(b"{")
    (root / ".git").mkdir()
    assert await registry.list() == (record(1),)
    assert facts == []


async def test_row80_a_json_file_under_a_strange_name_is_told_once(
    registry: FileRegistry, root: Path, facts: list[Fact]
) -> None:
    (root / "worker.json").write_bytes(encode_record(record(1)))
    (root / f"{record(1).instance.upper()}A.json").write_bytes(encode_record(record(1)))
    for _ in range(3):
        assert await registry.list() == ()
    assert [fact.code for fact in rejected(facts)] == [Code.RECORD_MALFORMED] * 2


async def test_row80_what_is_no_regular_file_is_never_opened(
    registry: FileRegistry, root: Path, facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.put(record(9))
    (tmp_path / "target").write_bytes(encode_record(record(1)))
    path_of(root, 1).symlink_to(tmp_path / "target")
    path_of(root, 2).symlink_to(path_of(root, 2))
    path_of(root, 3).symlink_to("/dev/zero")
    path_of(root, 4).mkdir()
    os.mkfifo(path_of(root, 5))
    monkeypatch.chdir(root)  # the path of a socket is at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path_of(Path(), 6).name)
        with anyio.fail_after(5):
            for _ in range(2):
                assert await registry.list() == (record(9),)
    assert [fact.code for fact in rejected(facts)] == [Code.NOT_REGULAR] * 6


async def test_row80_a_file_that_is_too_large_is_rejected_without_reading_it_all(
    registry: FileRegistry, root: Path, facts: list[Fact]
) -> None:
    path_of(root, 1).touch()
    os.truncate(path_of(root, 1), 1 << 40)
    assert await registry.list() == ()
    assert [fact.code for fact in rejected(facts)] == [Code.CARD_TOO_LARGE]


async def test_row80_a_file_that_cannot_be_read_harms_nobody(
    registry: FileRegistry, root: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.put(record(1))
    await registry.put(record(2))
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == path_of(root, 1).name:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    assert await registry.list() == (record(2),)
    assert [fact.code for fact in rejected(facts)] == [Code.UNREADABLE]


async def test_row80_a_file_that_vanishes_between_listing_and_reading_is_gone(
    registry: FileRegistry, root: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.put(record(1))
    await registry.put(record(2))
    real = folder_module.contents

    def vanish(name: str, directory: int, *, shared: bool) -> object:
        path_of(root, 1).unlink(missing_ok=True)
        return real(name, directory, shared=shared)

    monkeypatch.setattr(scan_module, "contents", vanish)
    assert await registry.list() == (record(2),)
    assert facts == []


async def test_row80_a_half_written_file_is_told_once_and_read_when_it_is_whole(
    registry: FileRegistry, root: Path, facts: list[Fact]
) -> None:
    whole = encode_record(record(1))
    async with watching(registry) as watcher:
        await registry.put(record(2))
        assert await watcher.joined() == record(2)
        path_of(root, 1).write_bytes(whole[:100])
        await registry.put(record(3))
        assert await watcher.joined() == record(3)
        with path_of(root, 1).open("ab") as file:
            file.write(whole[100:])
        assert await watcher.joined() == record(1)
    assert [fact.code for fact in rejected(facts)] == [Code.CARD_MALFORMED]


async def test_row80_a_record_that_is_overwritten_in_place_keeps_the_rest_of_its_lease(
    registry: FileRegistry, root: Path, clock: Clock, facts: list[Fact]
) -> None:
    await registry.put(record(1))
    assert await registry.list() == (record(1),)
    path_of(root, 1).write_bytes(b"{")
    clock.now += TTL_S / 2
    assert await registry.list() == (record(1),)
    path_of(root, 1).write_bytes(b"{{")
    clock.now += TTL_S / 2
    assert await registry.list() == ()
    assert len(rejected(facts)) == 2


async def test_row80_a_rejection_is_told_once_for_each_version(
    registry: FileRegistry, root: Path, facts: list[Fact]
) -> None:
    for size in (1, 2, 3):
        path_of(root, 1).write_bytes(b"{" * size)
        for _ in range(3):
            assert await registry.list() == ()
    assert len(rejected(facts)) == 3
    await registry.put(record(1))
    assert await registry.list() == (record(1),)
    path_of(root, 1).write_bytes(b"{")
    assert await registry.list() == (record(1),)
    assert len(rejected(facts)) == 4


async def test_row80_a_change_within_one_time_stamp_is_seen(registry: FileRegistry, root: Path) -> None:
    one, other = record(1, name="org/a"), record(1, name="org/b")
    assert len(encode_record(one)) == len(encode_record(other))
    await registry.put(one)
    assert await registry.list() == (one,)
    before = path_of(root, 1).stat()
    with path_of(root, 1).open("r+b") as file:
        file.write(encode_record(other))
    os.utime(path_of(root, 1), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await registry.list() == (other,)


async def test_row80_a_directory_that_is_deleted_is_made_again_by_the_worker(
    registry: FileRegistry, root: Path
) -> None:
    async with watching(registry) as watcher:
        await registry.put(record(1))
        assert await watcher.joined() == record(1)
        path_of(root, 1).unlink()
        root.rmdir()
        assert await registry.refresh(record(1).instance) is False
        await registry.delete(record(1).instance)
        await registry.put(record(1))
        await registry.put(record(2))
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        while await watcher.next() != Joined(record(2)):
            pass  # record 1 leaves and comes back if the watch looked in between
        assert await registry.list() == (record(1), record(2))
        await registry.delete(record(2).instance)
        assert await watcher.left() == record(2).instance


async def test_row80_a_directory_that_is_gone_lets_leases_run_out(
    registry: FileRegistry, root: Path, clock: Clock
) -> None:
    await registry.put(record(1))
    assert await registry.list() == (record(1),)
    root.rename(root.with_name("away"))
    assert await registry.list() == (record(1),)
    clock.now += TTL_S + 1
    assert await registry.list() == ()


async def test_row80_a_registry_that_cannot_be_read_raises_and_a_watch_keeps_what_it_knew(
    registry: FileRegistry, root: Path, clock: Clock, facts: list[Fact]
) -> None:
    async with watching(registry) as watcher:
        await registry.put(record(1))
        assert await watcher.joined() == record(1)
        root.chmod(0o777)
        with pytest.raises(DiscoveryError):
            await registry.list()
        clock.now += 10 * TTL_S
        async with anyio.create_task_group() as tasks:
            changes: list[Change] = []

            async def read() -> None:
                changes.append(await watcher.next())

            tasks.start_soon(read)
            with anyio.fail_after(10):
                while "last_known_records" not in fallbacks(facts):
                    (root / "bell").write_bytes(b"")
                    await anyio.sleep(0.01)
            assert changes == []
            root.chmod(0o700)
            assert await registry.list() == (record(1),)
            await registry.put(record(2))
        assert changes == [Joined(record(2))]
    assert fallbacks(facts).count("last_known_records") == 1


async def test_a_watch_of_a_registry_that_cannot_be_read_raises_at_the_start(
    registry: FileRegistry, root: Path
) -> None:
    root.chmod(0o777)
    with pytest.raises(DiscoveryError):
        await anext(registry.watch())


async def test_row80_a_flood_of_foreign_files_hides_no_worker(
    registry: FileRegistry, root: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "MAX_RECORDS", 50)
    await registry.put(record(1 << 100))
    assert await registry.list() == (record(1 << 100),)
    for number in range(2000):
        (root / f"{number}.json").touch()
        (root / f"{number:032x}.json").touch()
        (root / f"{number}.txt").touch()
    assert await registry.list() == (record(1 << 100),)
    assert await registry.list() == (record(1 << 100),)
    assert len(rejected(facts)) <= MAX_STATED_NAMES + 50 + 1
    assert any("no more are stated" in fact.detail for fact in rejected(facts))


async def test_row80_the_number_of_entries_that_are_looked_at_is_bounded(
    registry: FileRegistry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "MAX_ENTRIES", 10)
    for number in range(1, 31):
        await registry.put(record(number))
    assert len(await registry.list()) == 10


async def test_row80_an_overflowing_event_queue_costs_nothing(registry: FileRegistry, root: Path) -> None:
    async with watching(registry) as watcher:
        await registry.put(record(1))
        assert await watcher.joined() == record(1)
        for number in range(20_000):  # the kernel's queue holds 16,384 events
            os.close(os.open(root / f"f{number % 7}", os.O_CREAT | os.O_WRONLY))
        await registry.put(record(2))
        assert await watcher.joined() == record(2)


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), OSError(28, "No space left on device")])
async def test_row80_without_inotify_there_is_polling_and_it_is_stated(
    registry: FileRegistry, facts: list[Fact], monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    inotify_simple = pytest.importorskip("inotify_simple")

    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(inotify_simple.INotify, "add_watch" if error.errno == 28 else "__init__", refuse)
    monkeypatch.setattr(inotify_simple.INotify, "__del__", lambda self: None, raising=False)
    async with watching(registry) as watcher:
        await registry.put(record(1))
        assert await watcher.joined() == record(1)
        await registry.put(record(2))
        assert await watcher.joined() == record(2)
    assert fallbacks(facts) == ["polling_instead_of_inotify"]


async def test_a_platform_without_inotify_is_stated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("placecard.discovery.bell.sys.platform", "darwin")
    with Bell(root) as bell:
        assert [fact.cause for fact in bell.arm() if isinstance(fact, Fallback)] == ["there is none on darwin"]
        assert bell.arm() == ()
    with Bell(root, inotify=False) as chosen:
        assert chosen.arm() == ()


async def test_a_bell_hears_of_records_and_not_of_hidden_files(root: Path) -> None:
    root.mkdir()
    with Bell(root) as bell:
        assert bell.arm() == ()
        assert not bell.heard()
        (root / ".hidden").write_bytes(b"")
        os.utime(root / ".hidden")
        assert not bell.heard()
        (root / ".hidden").rename(root / "shown")
        assert bell.heard()
        assert not bell.heard()
        os.utime(root / "shown")
        assert not bell.heard()
        (root / "shown").unlink()
        with anyio.fail_after(5):
            await bell.wait(60)
    bell.close()
    assert bell.arm() == ()


async def test_a_bell_follows_a_directory_that_is_made_again(root: Path) -> None:
    root.mkdir()
    with Bell(root) as bell:
        bell.arm()
        root.rmdir()
        assert bell.heard()
        bell.arm()
        with anyio.fail_after(5):
            await bell.wait(0.01)
        root.mkdir()
        bell.arm()
        bell.heard()
        (root / "x").write_bytes(b"")
        assert bell.heard()


@pytest.mark.parametrize("years", [-56, -10, 10, 74])
async def test_row58_a_wall_clock_that_jumps_ends_no_lease(
    registry: FileRegistry, root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    await registry.put(record(1))
    assert await registry.list() == (record(1),)
    jump = years * 365.25 * 86400
    real = folder_module.probe
    monkeypatch.setattr(folder_module, "probe", lambda fd: real(fd) + jump)
    clock.now += TTL_S * 0.6
    assert await registry.list() == (record(1),)
    assert await registry.refresh(record(1).instance) is True
    clock.now += TTL_S * 0.6
    assert await registry.list() == (record(1),)
    clock.now += TTL_S * 1.01
    assert await registry.list() == ()


async def test_row58_a_time_stamp_in_the_future_does_not_keep_a_dead_worker_alive(
    registry: FileRegistry, root: Path, clock: Clock
) -> None:
    await registry.put(record(1))
    age(path_of(root, 1), -1e9)
    assert await registry.list() == (record(1),)
    clock.now += TTL_S * 1.01
    assert await registry.list() == ()


async def test_row27_the_readers_own_clock_is_not_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("placecard.discovery.scan.time.time", lambda: 0.0)
    async with FileRegistry(root) as registry:
        await registry.put(record(1))
        age(path_of(root, 1), 9)
        assert await registry.list() == (record(1),)
        age(path_of(root, 1), 9)
    async with FileRegistry(root) as registry:
        assert await registry.list() == ()


async def test_without_permission_to_write_the_readers_clock_is_used_and_it_is_stated(
    registry: FileRegistry, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.put(record(1))

    def refuse(directory: int) -> float:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(folder_module, "probe", refuse)
    assert await registry.list() == (record(1),)
    assert await registry.list() == (record(1),)
    assert fallbacks(facts) == ["reader_clock_instead_of_file_system_clock"]


def test_the_probe_works_without_nameless_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    monkeypatch.delattr(os, "O_TMPFILE")
    fd = os.open(root, os.O_RDONLY)
    try:
        assert folder_module.probe(fd) > 0
        assert os.listdir(root) == []
    finally:
        os.close(fd)


async def test_a_record_that_was_replaced_behind_its_worker_is_put_again(registry: FileRegistry, root: Path) -> None:
    await registry.put(record(1))
    other = root / "other"
    other.write_bytes(b"{")
    other.rename(path_of(root, 1))
    assert await registry.refresh(record(1).instance) is False


def test_what_ended_long_ago_is_removed_and_what_lives_is_not(root: Path, clock: Clock) -> None:
    root.mkdir()
    for number in (1, 2, 3):
        path_of(root, number).write_bytes(encode_record(record(number)))
    path_of(root, 4).write_bytes(b"malformed")
    (root / f"{TEMPORARY}x.tmp").write_bytes(b"")
    (root / "foreign").write_bytes(b"")
    age(path_of(root, 1), 1000)
    scanner = Scanner(root, ttl_s=TTL_S, clock=clock, grace_s=60)
    assert set(scanner.look().records) == {record(2).instance, record(3).instance}
    scanner.sweep()
    assert len(os.listdir(root)) == 6
    clock.now += TTL_S + 61
    os.utime(path_of(root, 2))
    age(path_of(root, 3), -1)
    scanner.look()
    os.utime(path_of(root, 1))  # comes back between look and sweep
    scanner.sweep()
    names = {path_of(root, 1).name, path_of(root, 2).name, path_of(root, 3).name, path_of(root, 4).name, "foreign"}
    assert set(os.listdir(root)) == names
    clock.now += TTL_S + 61
    scanner.sweep()
    assert {path.name for path in (path_of(root, 1), path_of(root, 4))} <= set(os.listdir(root))
    assert not path_of(root, 2).exists()


async def test_a_record_is_read_again_only_if_it_changed(
    registry: FileRegistry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "RACY_S", -1.0)
    await registry.put(record(1))
    assert await registry.list() == (record(1),)
    monkeypatch.setattr(scan_module, "contents", lambda *args, **more: pytest.fail("read again"))
    assert await registry.list() == (record(1),)


async def test_a_heartbeat_decodes_nothing(registry: FileRegistry, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await registry.put(record(1))
    assert await registry.list() == (record(1),)
    monkeypatch.setattr(scan_module, "decode_record", lambda data: pytest.fail("decoded again"))
    assert await registry.refresh(record(1).instance) is True
    assert await registry.list() == (record(1),)


async def test_errors_name_the_directory_and_the_cause(registry: FileRegistry, root: Path) -> None:
    await registry.put(record(1))
    root.rename(root.with_name("away"))
    root.write_bytes(b"")
    for call in (registry.list(), registry.put(record(1)), registry.delete(record(1).instance)):
        with pytest.raises(DiscoveryError, match="Not a directory") as caught:
            await call
        assert caught.value.subject == str(root)
    with pytest.raises(DiscoveryError):
        await registry.refresh(record(1).instance)


async def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        async with FileRegistry(root) as registry:
            await registry.put(record(1))
            async with watching(registry) as watcher:
                assert await watcher.joined() == record(1)
            await registry.delete(record(1).instance)
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after <= before + 1
