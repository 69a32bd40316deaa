"""A registry among many, and among other users: whose records count, and which are read when not all can be."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

import pytest
from tests.contract.registry_suite import record, rejected

from placecard.card import Card, CheckedFile, digest_of
from placecard.discovery import NO_WORKER, FileRegistry, Record, decode_record, encode_record
from placecard.discovery import folder as folder_module
from placecard.discovery import scan as scan_module
from placecard.discovery.turns import in_turn
from placecard.errors import Code, DiscoveryError
from placecard.telemetry import Fact

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for other users")
STRANGER = 65534


@pytest.fixture
def facts() -> list[Fact]:
    return []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "registry"
    root.mkdir(0o700)
    return root


@pytest.fixture
async def registry(root: Path, facts: list[Fact]) -> AsyncGenerator[FileRegistry]:
    async with FileRegistry(root, observe=facts.append) as registry:
        yield registry


def write(root: Path, what: Record, *, uid: int | None = None, age: float = 0.0) -> Path:
    path = root / f"{what.instance}.json"
    path.write_bytes(encode_record(what))
    if uid is not None:
        os.chown(path, uid, uid)
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def large(number: int, files: int = 300) -> Record:
    """Return a record of about 40 KiB for 300 files."""
    listed = [CheckedFile(name="config.json", digest=digest_of(b"{}"), size=2)]
    listed += [CheckedFile(name=f"f{n}.json", digest=digest_of(b"x"), size=1) for n in range(files)]
    return Record(f"{number:032x}", Card(name="org/large", files=tuple(listed)))


@as_root
@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o700])
async def test_row75_a_strangers_record_is_passed_over_and_stated(
    registry: FileRegistry, root: Path, facts: list[Fact], mode: int
) -> None:
    root.chmod(mode)
    await registry.put(record(2))
    write(root, record(1), uid=STRANGER)
    write(root, record(3), uid=0)
    for _ in range(2):
        assert await registry.list() == (record(2), record(3))
    assert [(fact.code, record(1).instance in fact.key) for fact in rejected(facts)] == [
        (Code.DISCOVERY_FORBIDDEN, True)
    ]


@as_root
@pytest.mark.parametrize("mode", [0o770, 0o2770, 0o775])
async def test_a_directory_that_is_shared_with_a_group_holds_records_of_its_users(
    registry: FileRegistry, root: Path, facts: list[Fact], mode: int
) -> None:
    root.chmod(mode)
    write(root, record(1), uid=STRANGER)
    assert await registry.list() == (record(1),)
    assert rejected(facts) == []


@as_root
async def test_row75_a_known_workers_record_that_changes_hands_does_not_speak_for_it(
    registry: FileRegistry, root: Path
) -> None:
    root.chmod(0o1777)
    path = write(root, record(1))
    assert await registry.list() == (record(1),)
    path.unlink()
    write(root, record(1, name="org/evil"), uid=STRANGER)
    assert record(1, name="org/evil") not in await registry.list()


@as_root
async def test_many_strangers_take_no_places(
    registry: FileRegistry, root: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "MAX_RECORDS", 5)
    root.chmod(0o1777)
    for number in range(1, 200):
        write(root, record(number), uid=STRANGER)
    write(root, record(1 << 100))
    assert await registry.list() == (record(1 << 100),)
    assert len(rejected(facts)) <= scan_module.MAX_STATED_NAMES + 1


def test_the_instance_of_no_worker_is_no_records() -> None:
    data = encode_record(record(1)).replace(record(1).instance.encode(), NO_WORKER.encode())
    with pytest.raises(DiscoveryError) as caught:
        decode_record(data)
    assert caught.value.code is Code.RECORD_MALFORMED
    with pytest.raises(DiscoveryError):
        encode_record(record(0))


async def test_a_file_of_no_worker_is_rejected(registry: FileRegistry, root: Path, facts: list[Fact]) -> None:
    data = encode_record(record(1)).replace(record(1).instance.encode(), NO_WORKER.encode())
    (root / f"{NO_WORKER}.json").write_bytes(data)
    assert await registry.list() == ()
    assert [fact.code for fact in rejected(facts)] == [Code.RECORD_MALFORMED]


async def test_row80_many_large_records_are_read_up_to_a_bound_and_the_rest_is_stated(
    registry: FileRegistry, root: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "MAX_BYTES", 200_000)
    size = write(root, large(1)).stat().st_size
    for number in range(2, 30):
        write(root, large(number))
    read = [0]

    def counted(name: str, directory: int, *, shared: bool) -> object:
        stamp, data = real(name, directory, shared=shared)
        read[0] += len(data)
        return stamp, data

    real = folder_module.contents
    monkeypatch.setattr(scan_module, "contents", counted)
    found = await registry.list()
    assert 0 < len(found) == 200_000 // size
    assert read[0] <= 200_000
    passed = [fact for fact in rejected(facts) if "passed over" in fact.detail]
    assert [(fact.code, f"{29 - len(found)} records" in fact.detail) for fact in passed] == [
        (Code.CARD_TOO_LARGE, True)
    ]


async def test_row80_large_records_hide_no_small_one(
    registry: FileRegistry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "MAX_BYTES", 200_000)
    for number in range(1, 30):
        write(root, large(number))
    write(root, record(1 << 100), age=3)
    assert record(1 << 100) in await registry.list()


async def test_row80_a_worker_that_is_known_stays_known_in_a_flood(
    registry: FileRegistry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "MAX_BYTES", 200_000)
    write(root, large(1 << 100), age=3)
    assert await registry.list() == (large(1 << 100),)
    for number in range(1, 30):
        write(root, large(number))
    assert await registry.refresh(large(1 << 100).instance)
    for _ in range(2):
        assert large(1 << 100) in await registry.list()


async def test_row80_a_known_record_that_no_longer_fits_keeps_the_rest_of_its_lease(
    registry: FileRegistry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, large(1))
    assert await registry.list() == (large(1),)
    monkeypatch.setattr(scan_module, "MAX_BYTES", 1000)
    assert await registry.list() == (large(1),)


async def test_row80_many_low_instances_hide_no_worker_that_lives(
    registry: FileRegistry, root: Path, monkeypatch: pytest.MonkeyPatch, facts: list[Fact]
) -> None:
    monkeypatch.setattr(scan_module, "MAX_RECORDS", 20)
    for number in range(1, 100):
        write(root, record(number), age=2)
    for number in range(101, 200):
        write(root, record(number), age=-1000)
    await registry.put(record(1 << 100))
    assert record(1 << 100) in await registry.list()
    assert any("20 are read" in fact.detail for fact in rejected(facts))


def status(uid: int, size: int, touched: float) -> os.stat_result:
    return os.stat_result((0o100644, 1, 1, 1, uid, uid, size, 0, 0, 0, 0.0, touched, 0.0, 0, 0, 0))


def order(found: dict[str, os.stat_result], known: Iterable[str] = ()) -> str:
    alive = frozenset(known)
    return "".join(name for name, _ in in_turn(found.items(), lives=alive.__contains__, latest=1000.0))


def test_each_user_has_a_turn_and_the_latest_comes_first() -> None:
    found = {name: status(1, 10, 900.0 + number) for number, name in enumerate("abcd")}
    found |= {"x": status(2, 10, 1.0), "y": status(2, 10, 2.0), "f": status(1, 10, 2000.0)}
    assert order(found) == "dycxbaf"


def test_who_is_known_to_live_comes_first_and_small() -> None:
    found = {"a": status(1, 900, 3.0), "b": status(1, 10, 1.0), "c": status(1, 1, 2.0)}
    assert order(found, known="ab") == "bac"
