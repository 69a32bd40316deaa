"""The harvest when directories are hostile, huge, or written to meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from placecard.card import digest_of, name_key
from placecard.errors import Code, StoreError, UsageError
from placecard.resolver import Budget, HubPin, Overlay, ResolveSettings
from placecard.resolver import harvest as harvest_module
from placecard.resolver.harvest import MAX_DIRECTORIES, Harvest, Harvester, Observed, existing
from placecard.resolver.overlay import take_overlays
from placecard.resolver.siblings import HubSiblings
from placecard.source import LocalSource
from placecard.store import Lease, Origin, Proof, Store
from placecard.telemetry import ignore

from .world import MemoryHub, write

COMMIT, REPO = "c" * 40, "acme/river"
HUB_ROW = {"name": "b.txt", "size": 1, "git_sha1": "x", "sha256": None}


@dataclass
class Barn:
    """A store, a root to harvest beneath, and a lease."""

    root: Path
    store: Store
    lease: Lease
    budget: Budget = field(default_factory=Budget)
    observed: Observed = field(default_factory=dict)
    taken: tuple[str, ...] = ("config.json",)
    local: LocalSource | None = None

    def harvester(self) -> Harvester:
        local = self.local or LocalSource([self.root])
        return Harvester(
            self.store, self.lease, local, taken=self.taken, observed=self.observed, budget=self.budget
        )  # fmt: skip

    def harvest(self, *directories: Path, origin: Origin = Origin.FILE) -> Harvest:
        """Harvest ``directories`` in order; what was observed is remembered for the next time."""
        harvester = self.harvester()
        for directory in directories:
            harvester.directory(directory, origin)
        self.observed = harvester.observed
        return harvester.result

    def contents(self, found: Harvest) -> dict[str, bytes]:
        """Return the bytes of every sibling by its name."""
        blobs = {entry.name: self.store.find(entry.digest, entry.size) for entry in found.entries}
        return {name: blob.path.read_bytes() for name, blob in blobs.items() if blob is not None}

    def stored(self) -> int:
        """Return the bytes of all blobs."""
        return sum(path.stat().st_size for path in (self.store.root / "blobs-v1").iterdir())


@pytest.fixture
def barn(tmp_path: Path) -> Iterator[Barn]:
    (tmp_path / "root").mkdir()
    store = Store.open(tmp_path / "store", observe=ignore)
    with store.lease() as lease:
        yield Barn(tmp_path / "root", store, lease)


def losses(found: Harvest) -> dict[str, Code]:
    return {fact.missing: fact.code for fact in found.degraded}


def reasons(found: Harvest) -> dict[str, str]:
    return {each.name: each.reason for each in found.left_out}


def after_the_walk(barn: Barn, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Let ``act`` happen between the walk and the first copy."""
    barn.local = LocalSource([barn.root])
    real = barn.local.walk

    def walk(directory: Path, **options: Any) -> Any:
        found = real(directory, **options)
        act()
        return found

    monkeypatch.setattr(barn.local, "walk", walk)


def after_the_first_chunk(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> None:
    """Let one of ``acts`` happen after the first read of each copy, while there are any."""
    left, real = list(acts), os.read

    def read(descriptor: int, count: int) -> bytes:
        data = real(descriptor, min(count, 4))
        if left and os.lseek(descriptor, 0, os.SEEK_CUR) == len(data):
            left.pop(0)()
        return data

    monkeypatch.setattr("placecard.resolver.reading.os.read", read)


# Races.


@pytest.mark.parametrize("target", ["outside", "root/other"])
def test_row34_a_directory_swapped_for_a_link_after_the_walk_is_not_followed(
    barn: Barn, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    model, other = write(barn.root / "m", {"shadow.txt": b"decoy"}), barn.root.parent / target
    write(other, {"shadow.txt": b"secret"})

    def swap() -> None:
        model.rename(barn.root / "m-old")
        model.symlink_to(other)

    after_the_walk(barn, monkeypatch, swap)
    found = barn.harvest(model)
    assert found.entries == []
    assert losses(found) == {"shadow.txt": Code.SIBLING_UNREADABLE}
    assert barn.stored() == 0


def test_row34_a_root_swapped_for_a_link_between_two_resolves_is_not_followed(barn: Barn) -> None:
    model = write(barn.root / "m", {"shadow.txt": b"decoy"})
    outside = write(barn.root.parent / "outside", {"shadow.txt": b"secret"})
    barn.local = LocalSource([barn.root, model])
    assert barn.contents(barn.harvest(model)) == {"shadow.txt": b"decoy"}
    model.rename(barn.root / "m-old")
    model.symlink_to(outside)
    found = barn.harvest(model, origin=Origin.MODEL_PATH)
    assert found.entries == []
    assert [fact.code for fact in found.degraded] == [Code.PATH_ESCAPE], "the operator named it, and it is there"


def test_row35_a_file_written_to_while_it_is_copied_is_copied_again(
    barn: Barn, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(barn.root / "m", {"a.dat": b"A" * 12})
    after_the_first_chunk(monkeypatch, lambda: write(model, {"a.dat": b"B" * 16}))
    found = barn.harvest(model)
    assert barn.contents(found) == {"a.dat": b"B" * 16}
    assert found.degraded == []
    assert barn.stored() == 16
    status = (model / "a.dat").stat()
    assert [row[2:4] for row in barn.observed.values()] == [[16, status.st_mtime_ns]]


def test_row35_a_file_that_never_rests_stays_out_and_that_is_told(barn: Barn, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(barn.root / "m", {"a.dat": b"A" * 12, "b.dat": b"calm"})
    after_the_first_chunk(
        monkeypatch, lambda: write(model, {"a.dat": b"B" * 13}), lambda: write(model, {"a.dat": b"C" * 14})
    )
    found = barn.harvest(model)
    assert barn.contents(found) == {"b.dat": b"calm"}
    assert losses(found) == {"a.dat": Code.SIBLING_UNREADABLE}
    assert "changed while it was copied" in found.degraded[0].detail
    assert "a.dat" in reasons(found)
    assert barn.stored() == 4


def test_row35_a_file_that_was_replaced_after_the_walk_is_taken_as_it_is_now(
    barn: Barn, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(barn.root / "m", {"a.dat": b"old"})

    def replace() -> None:
        (model / "new").write_bytes(b"newer")
        (model / "new").replace(model / "a.dat")

    after_the_walk(barn, monkeypatch, replace)
    assert barn.contents(barn.harvest(model)) == {"a.dat": b"newer"}


def test_row35_a_file_that_grew_over_the_bounds_after_the_walk_stays_out(
    barn: Barn, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(barn.root / "m", {"a.dat": b"small"})
    barn.budget = Budget(harvest_bytes=100)
    after_the_walk(barn, monkeypatch, lambda: os.truncate(model / "a.dat", 1 << 40))
    found = barn.harvest(model)
    assert losses(found) == {"a.dat": Code.SIBLING_UNREADABLE}
    assert barn.stored() == 0


def test_row35_a_read_that_fails_is_told(barn: Barn, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(barn.root / "m", {"a.dat": b"a"})

    def fail(descriptor: int, count: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("placecard.resolver.reading.os.read", fail)
    assert losses(barn.harvest(model)) == {"a.dat": Code.SIBLING_UNREADABLE}


def test_descriptors_are_given_back(barn: Barn) -> None:
    model = write(barn.root / "m", {"a.dat": b"a", "b/c.dat": b"b"})
    (model / "out").symlink_to("/etc/passwd")
    barn.harvest(model)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        barn.observed = {}
        barn.harvest(model, barn.root, barn.root / "absent")
    assert len(os.listdir("/proc/self/fd")) == before


# Directories.


def test_a_forbidden_alias_does_not_hide_the_allowed_directory(barn: Barn) -> None:
    model = write(barn.root / "m", {"a.txt": b"a"})
    alias = barn.root.parent / "alias"
    alias.symlink_to(model)
    named = [(alias, Origin.FILE), (model, Origin.MODEL_PATH), (model, Origin.FILE)]
    harvester = barn.harvester()
    assert list(existing(named)) == named[:2]
    for directory, origin in existing(named):
        harvester.directory(directory, origin)
    assert [(entry.name, entry.origin) for entry in harvester.result.entries] == [("a.txt", Origin.MODEL_PATH)]
    assert reasons(harvester.result) == {f"{alias}/": "lies outside every --file-root"}


def test_a_directory_is_walked_once_however_many_paths_lead_to_it(barn: Barn) -> None:
    model = write(barn.root / "m", {"a.txt": b"a"})
    for number in range(2 * MAX_DIRECTORIES):
        (barn.root / f"alias{number}").symlink_to("m")
    found = barn.harvest(model, *sorted(barn.root.glob("alias*")))
    assert [entry.name for entry in found.entries] == ["a.txt"]
    assert (found.left_out, found.degraded) == ([], [])


def test_row35_the_number_of_directories_is_bounded_and_the_operator_s_own_is_not_pushed_out(barn: Barn) -> None:
    places = [write(barn.root / f"{number:02}", {f"{number:02}.txt": b"x"}) for number in range(MAX_DIRECTORIES + 3)]
    own = write(barn.root / "own", {"own.txt": b"x"})
    harvester = barn.harvester()
    for place in places:
        harvester.directory(place, Origin.FILE)
    harvester.directory(own, Origin.MODEL_PATH)
    found = harvester.result
    taken = [f"{number:02}.txt" for number in range(MAX_DIRECTORIES)]
    assert [entry.name for entry in found.entries] == [*taken, "own.txt"]
    assert [fact.code for fact in found.degraded] == [Code.HARVEST_TRUNCATED]
    assert str(places[MAX_DIRECTORIES]) in found.degraded[0].detail


@pytest.mark.parametrize("what", ["file", "outside", "link out"])
def test_a_model_path_that_is_there_and_cannot_be_listed_is_told(barn: Barn, what: str) -> None:
    write(barn.root.parent, {"outside/x": b"x"})
    write(barn.root, {"file": b"x"})
    (barn.root / "out").symlink_to("../outside")
    place = {"file": barn.root / "file", "outside": barn.root.parent / "outside", "link out": barn.root / "out"}[what]
    expected = {"file": Code.NOT_REGULAR, "outside": Code.PATH_FORBIDDEN, "link out": Code.PATH_ESCAPE}[what]
    found = barn.harvest(place, origin=Origin.MODEL_PATH)
    assert [fact.code for fact in found.degraded] == [expected]
    assert str(place) in found.degraded[0].detail
    assert barn.harvest(place).degraded == [], "a card may name what it likes"


def test_a_model_path_that_is_not_there_is_no_error(barn: Barn) -> None:
    found = barn.harvest(barn.root / "absent", barn.root.parent / "absent", origin=Origin.MODEL_PATH)
    assert (found.degraded, found.left_out) == ([], [])


# Proof.


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def lay_out(snapshot: Path, blobs: Path, data: bytes, etag: str | None = None) -> Path:
    blobs.mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True, exist_ok=True)
    blob = blobs / (etag or git_sha1(data))
    blob.write_bytes(data)
    (snapshot / "a.json").symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.mark.parametrize("data", [b"", b"{}"])
@pytest.mark.parametrize("kind", ["git", "large"])
def test_a_file_of_the_hub_cache_is_proven_by_its_commit(barn: Barn, data: bytes, kind: str) -> None:
    repository = barn.root / "models--acme--river"
    etag = git_sha1(data) if kind == "git" else hashlib.sha256(data).hexdigest()
    snapshot = lay_out(repository / "snapshots" / COMMIT, repository / "blobs", data, etag)
    for _ in range(2):
        found = barn.harvest(snapshot, origin=Origin.HUB)
        assert [entry.proof for entry in found.entries] == [Proof.COMMIT]
    assert [entry.proof for entry in barn.harvest(snapshot).entries] == [Proof.OBSERVED], "anybody may name it"
    assert [entry.proof for entry in barn.harvest(snapshot, origin=Origin.HUB).entries] == [Proof.COMMIT]


def test_a_file_of_the_hub_cache_that_is_not_what_its_name_says_is_only_seen(barn: Barn) -> None:
    repository = barn.root / "models--acme--river"
    snapshot = lay_out(repository / "snapshots" / COMMIT, repository / "blobs", b"{}", git_sha1(b"other"))
    assert [entry.proof for entry in barn.harvest(snapshot, origin=Origin.HUB).entries] == [Proof.OBSERVED]


@pytest.mark.parametrize("place", ["m", f"models--acme--river/snapshots/{COMMIT}"])
@pytest.mark.parametrize("origin", [Origin.FILE, Origin.MODEL_PATH, Origin.HUB])
def test_a_blob_named_by_its_own_hash_in_the_directory_itself_proves_no_commit(
    barn: Barn, place: str, origin: Origin
) -> None:
    model = lay_out(barn.root / place, barn.root / place / "blobs", b'{"evil": 1}')
    forged = {str(model / "a.json"): [*_stat(model / "a.json"), digest_of(b'{"evil": 1}'), "COMMIT"]}
    for barn.observed in ({}, forged):
        found = barn.harvest(model, origin=origin)
        assert {entry.proof for entry in found.entries} == {Proof.OBSERVED}


# What is lost is told.


def test_row34_metadata_that_is_not_to_be_had_is_told_and_the_rest_stays_quiet(barn: Barn) -> None:
    model = write(barn.root / "m", {"a.txt": b"a", "nul": b"x", "deep/" * 16 + "x.json": b"x"})
    os.mkfifo(model / "pipe")
    (barn.root / "elsewhere").mkdir()
    links = {
        "chat_template.jinja": "../elsewhere/t.jinja", "added_tokens.json": "nowhere", "folder": "../elsewhere",
        "model.safetensors": "../elsewhere/w", "run.py": "nowhere", ".hidden": "nowhere", "config.json": "nowhere",
        "again": ".",
    }  # fmt: skip
    for name, target in links.items():
        (model / name).symlink_to(target)
    found = barn.harvest(model)
    assert losses(found) == dict.fromkeys(
        ("chat_template.jinja", "added_tokens.json", "folder", "nul", "pipe", "deep/" * 16 + "x.json"),
        Code.SIBLING_UNREADABLE,
    )
    assert links.keys() | {"nul", "pipe"} <= reasons(found).keys()
    assert all(fact.mend for fact in found.degraded)


def test_what_an_earlier_directory_gave_is_not_lost_where_a_later_one_cannot_give_it(barn: Barn) -> None:
    first = write(barn.root / "first", {"added_tokens.json": b"{}"})
    second = write(barn.root / "second", {"b.txt": b"b"})
    (second / "added_tokens.json").symlink_to("nowhere")
    found = barn.harvest(first, second)
    assert found.degraded == []
    assert reasons(found) == {"added_tokens.json": "dangling link"}


@pytest.mark.parametrize(
    ("names", "taken", "lost"),
    [
        (["docs", "Docs/x.md"], ["docs"], "Docs/x.md"),
        (["README.md", "readme.md"], ["README.md"], "readme.md"),
        (["Config.json/x.txt"], [], "Config.json/x.txt"),
        (["1_POOLING"], [], "1_POOLING"),
        (["ﬁle.txt", "file.txt"], ["file.txt"], "ﬁle.txt"),
    ],
)  # fmt: skip
def test_row31_a_sibling_that_collides_stays_out_and_is_told(
    barn: Barn, names: list[str], taken: list[str], lost: str
) -> None:
    barn.taken = ("config.json", "1_Pooling/config.json")
    found = barn.harvest(write(barn.root / "m", dict.fromkeys(names, b"x")))
    assert [entry.name for entry in found.entries] == taken
    assert losses(found) == {lost: Code.NAME_COLLISION}
    assert reasons(found).keys() == {lost}


def test_row31_folders_that_are_shared_do_not_collide(barn: Barn) -> None:
    barn.taken = ("1_Pooling/config.json",)
    found = barn.harvest(write(barn.root / "m", {"1_Pooling/b.json": b"x", "docs/a": b"x", "docs/b": b"x"}))
    assert [entry.name for entry in found.entries] == ["1_Pooling/b.json", "docs/a", "docs/b"]
    assert (found.left_out, found.degraded) == ([], [])


def test_row35_lists_of_losses_are_bounded_and_say_so(barn: Barn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest_module, "_MAX_FACTS", 3)
    monkeypatch.setattr(harvest_module, "_MAX_LEFT_OUT", 5)
    model = write(barn.root / "m", {"a.txt": b"a"})
    for number in range(9):
        (model / f"{number}.json").symlink_to("nowhere")
    found = barn.harvest(model)
    assert [fact.code for fact in found.degraded] == [*[Code.SIBLING_UNREADABLE] * 3, Code.HARVEST_TRUNCATED]
    assert [each.name for each in found.left_out] == [*(f"{number}.json" for number in range(5)), "…"]
    assert [entry.name for entry in found.entries] == ["a.txt"]


# Bounds.


def test_row35_one_huge_file_does_not_end_the_harvest(barn: Barn) -> None:
    model = write(barn.root / "m", {"AAA.dat": b"", "b.txt": b"b", "c/d.txt": b"d"})
    os.truncate(model / "AAA.dat", 1 << 40)
    found = barn.harvest(model)
    assert barn.contents(found) == {"b.txt": b"b", "c/d.txt": b"d"}
    assert losses(found) == {"AAA.dat": Code.HARVEST_TRUNCATED}
    assert reasons(found) == {"AAA.dat": "over the bounds"}


def test_row35_losers_are_hashed_within_bounds_and_never_stored(barn: Barn, monkeypatch: pytest.MonkeyPatch) -> None:
    barn.budget = Budget(harvest_bytes=2500, harvest_files=2)
    places = [write(barn.root / f"{n:02}", {"big.dat": bytes([n]) * 1000}) for n in range(12)]
    read = 0
    real = os.read

    def count(descriptor: int, size: int) -> bytes:
        nonlocal read
        read += len(data := real(descriptor, size))
        return data

    monkeypatch.setattr("placecard.resolver.reading.os.read", count)
    found = barn.harvest(*places)
    assert [entry.name for entry in found.entries] == ["big.dat"]
    assert barn.stored() == 1000
    assert read <= 2 * 2500
    assert len(found.left_out) == 11
    assert ["not compared" in each.reason for each in found.left_out] == [False] * 2 + [True] * 9
    read = 0
    again = barn.harvest(*places)
    assert (again.entries, again.left_out, read) == (found.entries, found.left_out, 0)


def test_losers_cost_no_sibling_its_place(barn: Barn) -> None:
    barn.budget = Budget(harvest_bytes=1500)
    first = write(barn.root / "1", {"big.dat": bytes(1000)})
    second = write(barn.root / "2", {"big.dat": bytes(1000), "more.txt": b"x"})
    third = write(barn.root / "3", {"big.dat": b"another size"})
    found = barn.harvest(first, second, third)
    assert [entry.name for entry in found.entries] == ["big.dat", "more.txt"]
    assert reasons(found) == {"big.dat": f"{third} has another content; {first} comes first"}


# What is remembered.


def _stat(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


@pytest.mark.parametrize(
    "row",
    [
        None, 7, "x", {}, [], [1, 2, 3],
        *([*[None] * 5, digest, proof] for digest, proof in (
            (7, "OBSERVED"), (None, "OBSERVED"), ("blake3:../../etc", "OBSERVED"),
            ("blake3:" + "a" * 64 + "\n", "OBSERVED"),
            ("good", "PROVEN"), ("good", 7), ("good", None), ("good", ["OBSERVED"]),
        )),
    ],
)  # fmt: skip
def test_a_remembered_row_that_is_not_well_formed_is_ignored(barn: Barn, row: Any) -> None:
    model = write(barn.root / "m", {"a.txt": b"a"})
    good = digest_of(b"a")
    if isinstance(row, list) and len(row) == 7:
        row = [*_stat(model / "a.txt"), good if row[5] == "good" else row[5], row[6]]
    barn.observed = {str(model / "a.txt"): row}
    found = barn.harvest(model)
    assert [(entry.digest, entry.proof) for entry in found.entries] == [(good, Proof.OBSERVED)]
    assert barn.observed == {str(model / "a.txt"): [*_stat(model / "a.txt"), good, "OBSERVED"]}


def test_a_folder_whose_name_is_not_utf8_can_be_remembered(barn: Barn) -> None:
    model = Path(os.fsdecode(os.fsencode(barn.root) + b"/m\xff"))
    write(model, {"a.txt": b"a"})
    found = barn.harvest(model)
    assert [entry.name for entry in found.entries] == ["a.txt"]
    barn.store.write_state("m", "observed", barn.observed)
    assert barn.store.read_state("m", "observed") == barn.observed


def read_only(store: Store, patch: pytest.MonkeyPatch) -> None:
    refusal = StoreError(Code.STORE_READ_ONLY, "is on a read-only file system", subject=str(store.root))
    patch.setattr(store, "_refusal", refusal)
    patch.setattr(store, "writable", False)


def test_row50_a_store_that_cannot_be_written_serves_a_touched_sibling(
    barn: Barn, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write(barn.root / "m", {"LICENSE": b"free"})
    before = barn.harvest(model)
    os.utime(model / "LICENSE", ns=(1, 1))
    with monkeypatch.context() as patch:
        read_only(barn.store, patch)
        assert barn.harvest(model).entries == before.entries
        (model / "LICENSE").write_bytes(b"not free")
        with pytest.raises(StoreError) as caught:
            barn.harvest(model)
    assert caught.value.code is Code.STORE_READ_ONLY
    assert barn.contents(barn.harvest(model)) == {"LICENSE": b"not free"}


# Siblings that only the hub has.


@dataclass
class Shop:
    """A hub in memory, what was noted, and what the next resolve remembers."""

    barn: Barn
    hub: MemoryHub = field(default_factory=MemoryHub)
    noted: list[dict[str, Any]] = field(default_factory=list)
    remembered: Any = None

    async def take(self, *taken: str) -> Harvest:
        siblings = HubSiblings(self.hub, self.barn.store, self.barn.lease, self.barn.budget)  # type: ignore[arg-type]
        keys = dict.fromkeys(map(name_key, taken), "advertised")
        return await siblings.take(HubPin(REPO, COMMIT), keys, self.remembered, self.noted.append)


@pytest.fixture
def shop(barn: Barn) -> Shop:
    return Shop(barn)


async def test_row31_odd_and_colliding_names_on_the_hub_stay_out_and_are_told(shop: Shop) -> None:
    names = ["a.txt", "aux.txt", "a:b.txt", "x?", "A.TXT", "a.txt/b", "docs/x", "DOCS", "config.json/y", "nul.bin"]
    shop.hub.add(REPO, COMMIT, dict.fromkeys(names, b"x"))
    found = await shop.take("config.json")
    assert [entry.name for entry in found.entries] == ["a.txt", "docs/x"]
    unsafe = dict.fromkeys(("aux.txt", "a:b.txt", "x?"), Code.SIBLING_UNREADABLE)
    assert losses(found) == unsafe | dict.fromkeys(("A.TXT", "a.txt/b", "DOCS", "config.json/y"), Code.NAME_COLLISION)
    assert reasons(found).keys() == losses(found).keys() | {"nul.bin"}


async def test_row35_one_huge_file_on_the_hub_does_not_end_the_harvest(shop: Shop) -> None:
    shop.barn.budget = Budget(harvest_bytes=10, harvest_files=2)
    shop.hub.add(REPO, COMMIT, {"a.dat": bytes(11), "b.txt": b"b", "c.txt": b"c", "d.txt": b"d"})
    found = await shop.take()
    assert [entry.name for entry in found.entries] == ["b.txt", "c.txt"]
    assert losses(found) == {"a.dat": Code.HARVEST_TRUNCATED, "d.txt": Code.HARVEST_TRUNCATED}


async def test_row50_a_store_that_cannot_be_written_is_not_asked_to_remember(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.hub.add(REPO, COMMIT, {"b.txt": b"b"})
    first = await shop.take()
    shop.remembered = shop.noted[0]
    assert [row["digest"] for row in shop.remembered["files"]] == [digest_of(b"b")]
    assert (await shop.take()).entries == first.entries
    assert len(shop.noted) == 1, "nothing is new"
    read_only(shop.barn.store, monkeypatch)
    assert (await shop.take()).entries == first.entries
    assert len(shop.noted) == 1
    shop.remembered = None
    with pytest.raises(StoreError):
        await shop.take()


@pytest.mark.parametrize(
    "remembered",
    [
        {}, {"repo": REPO, "commit": COMMIT}, {"repo": REPO, "commit": COMMIT, "files": None},
        {"repo": REPO, "commit": "d" * 40, "files": []},
        *(
            {"repo": REPO, "commit": COMMIT, "files": [HUB_ROW | odd]}
            for odd in ({"size": -1}, {"size": "1"}, {"name": None}, {"digest": 7}, {"digest": "blake3:../x"})
        ),
    ],
)  # fmt: skip
async def test_a_remembered_listing_that_is_not_well_formed_is_ignored(shop: Shop, remembered: Any) -> None:
    shop.hub.add(REPO, COMMIT, {"b.txt": b"b"})
    shop.remembered = remembered
    assert [entry.name for entry in (await shop.take()).entries] == ["b.txt"]
    assert shop.noted[0]["files"][0]["digest"] == digest_of(b"b")


# Overlays.


@pytest.mark.parametrize("what", ["absent", "pipe", "folder", "device", "n\0l", "dangling"])
def test_an_overlay_that_is_no_file_is_refused_and_never_waited_for(barn: Barn, what: str) -> None:
    os.mkfifo(barn.root / "pipe")
    (barn.root / "folder").mkdir()
    (barn.root / "device").symlink_to("/dev/zero")
    (barn.root / "dangling").symlink_to("nowhere")
    settings = ResolveSettings(overlays=(Overlay("a.json", barn.root / what),))
    with pytest.raises(UsageError, match=r"--overlay a\.json="):
        take_overlays(barn.store, barn.lease, settings)
    assert barn.stored() == 0


def test_an_overlay_may_be_a_link(barn: Barn) -> None:
    write(barn.root, {"real.json": b"{}"})
    (barn.root / "link.json").symlink_to("real.json")
    settings = ResolveSettings(overlays=(Overlay("a.json", barn.root / "link.json"),))
    (entry,) = take_overlays(barn.store, barn.lease, settings)
    assert (entry.digest, entry.proof, entry.origin) == (digest_of(b"{}"), Proof.ADVERTISED, Origin.OVERLAY)
