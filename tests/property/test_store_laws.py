"""Laws of the store: only the advertised bytes get through; a directory is whole or absent, whatever comes when."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from placecard.card import Card, CheckedFile, digest_of
from placecard.errors import Code, StoreError, VerificationError
from placecard.store import Entry, Origin, Proof, Snapshot, Store, Verifier
from placecard.store.gc import Holding, plan_drops
from placecard.store.leases import Here, Pins, is_alive
from placecard.store.manifest import generation_id
from tests.unit.store.kit import tamper

# Syncing costs nothing in memory, and these laws are not about it.
HOME = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
CHUNKS = st.lists(st.binary(max_size=20), max_size=6)
NAMES = st.sampled_from(["a.json", "b/c.json", "b/d e.txt", "ü.txt", "empty"])


@given(good=st.binary(max_size=64), sent=CHUNKS, size_known=st.booleans(), limit=st.integers(0, 80))
def test_only_the_advertised_bytes_get_through(good: bytes, sent: list[bytes], size_known: bool, limit: int) -> None:
    try:
        size = len(good) if size_known else None
        verifier = Verifier(digest=digest_of(good), size=size, limit_bytes=limit)
        for chunk in sent:
            verifier.feed(chunk)
        digest = verifier.finish()
    except VerificationError:
        assert b"".join(sent) != good or len(good) > limit
    else:
        assert digest == digest_of(good)
        assert b"".join(sent) == good
        assert len(good) <= limit


@given(data=st.binary(max_size=64), cuts=st.lists(st.integers(0, 64), max_size=5))
def test_chunking_changes_nothing(data: bytes, cuts: list[int]) -> None:
    verifier = Verifier(digest=None, size=len(data), limit_bytes=64)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        verifier.feed(memoryview(data)[start:end])
    assert verifier.finish() == digest_of(data)


ENTRIES = st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(st.binary(max_size=3), st.sampled_from(Proof)))


def _entries(files: dict[str, tuple[bytes, Proof]]) -> list[Entry]:
    return [Entry(n, digest_of(d), len(d), "extra", proof, Origin.HUB) for n, (d, proof) in files.items()]


@given(one=ENTRIES, other=ENTRIES)
def test_a_generation_is_its_names_digests_and_proofs(
    one: dict[str, tuple[bytes, Proof]], other: dict[str, tuple[bytes, Proof]]
) -> None:
    assert (generation_id(_entries(one)) == generation_id(_entries(other))) == (one == other)
    assert generation_id(_entries(one)) == generation_id(_entries(one)[::-1])


HOLDINGS = st.lists(
    st.builds(
        Holding,
        key=st.sampled_from("abc"),
        generation=st.sampled_from(["0" * 32, "1" * 32, "2" * 32, "3" * 32]),
        sequence=st.integers(0, 5),
        current=st.booleans(),
        whole=st.booleans(),
        blobs=st.frozensets(st.sampled_from("pqrs")),
    ),
    max_size=10,
    unique_by=lambda holding: holding.path,
)


@given(
    HOLDINGS,
    st.integers(-1, 4),
    st.sets(st.sampled_from(["a/" + "0" * 32, "b/" + "1" * 32])),
    st.none() | st.integers(0, 40),
)
def test_a_plan_never_drops_what_is_current_or_pinned(
    holdings: list[Holding], keep: int, pinned: set[str], target: int | None
) -> None:
    sizes = dict.fromkeys("pqrs", 10)
    drops = plan_drops(holdings, keep=keep, pinned=Pins(generations=pinned), sizes=sizes, target_bytes=target)
    assert len(set(drops)) == len(drops)
    assert not [drop for drop in drops if drop.current or drop.path in pinned]
    for key in "abc":
        mine = [h for h in holdings if h.key == key and not h.current and h.path not in pinned]
        kept = [h for h in mine if h not in drops]
        has_current = any(h.current for h in holdings if h.key == key)
        assert len(kept) <= (max(keep, 1) - 1 if has_current else 0)
        newest_dropped = max((h.sequence for h in mine if h in drops and h.whole), default=-1)
        assert all(h.whole and h.sequence >= newest_dropped for h in kept)


@given(st.text(max_size=60), st.none() | st.booleans(), st.floats(allow_nan=False))
def test_only_owners_are_ever_dead(owner: str, locked: bool | None, age_s: float) -> None:
    assert is_alive(owner, Here("0" * 8, "0" * 8, lambda pid: None), locked=locked, age_s=age_s)


@pytest.fixture(scope="module")
def bundle() -> bytes:
    with tempfile.TemporaryDirectory(dir=HOME) as home:
        store = Store.open(Path(home) / "store")
        _publish(store, {"config.json": b"{}", "b/c.json": b"x" * 600})
        target = io.BytesIO()
        store.export("M", target)
        return target.getvalue()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_bundle_imports_all_or_nothing(bundle: bytes, data: st.DataObject) -> None:
    changed = bytearray(bundle)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(changed)))
        end = start + data.draw(st.integers(0, 20))
        changed[start:end] = data.draw(st.binary(max_size=20))
    with tempfile.TemporaryDirectory(dir=HOME) as home:
        store = Store.open(Path(home) / "store")
        try:
            snapshot = store.import_(io.BytesIO(bytes(changed)))
        except StoreError as error:
            assert error.code is Code.BUNDLE_MALFORMED
            assert store.models() == ()
        else:  # only the index has room for a change that stays true, such as another URI
            assert _contents(snapshot.directory).items() >= {"b/c.json": b"x" * 600}.items()
            assert not store.verify().problems


SEEN = st.sampled_from([(Proof.OBSERVED, Origin.FILE), (Proof.COMMIT, Origin.HUB), (Proof.ADVERTISED, Origin.OVERLAY)])


@settings(max_examples=60, deadline=None)
@given(
    listed=st.dictionaries(NAMES, st.sampled_from([b"", b"one", b"two"])),
    gone=st.sets(NAMES),
    replaced=st.sets(NAMES),
    beside=st.dictionaries(st.sampled_from(["x.json", "y/z.txt"]), st.tuples(st.binary(max_size=3), SEEN)),
)
def test_what_was_resolved_comes_back_through_a_bundle(
    listed: dict[str, bytes], gone: set[str], replaced: set[str], beside: dict[str, tuple[bytes, tuple[Proof, Origin]]]
) -> None:
    """Whatever could not be had, was replaced, or was found beside: bytes and names stay, no proof grows stronger."""
    files = {"config.json": b"{}", **listed}
    card = Card(name="M", files=tuple(CheckedFile(name=n, digest=digest_of(d), size=len(d)) for n, d in files.items()))
    held = {n: (d, Proof.ADVERTISED, Origin.WORKER) for n, d in files.items() if n not in gone}
    held |= dict.fromkeys(replaced & files.keys(), (b"mine", Proof.ADVERTISED, Origin.OVERLAY))
    held |= {n: (d, proof, origin) for n, (d, (proof, origin)) in beside.items()}
    with tempfile.TemporaryDirectory(dir=HOME) as home:
        near, far = Store.open(Path(home) / "near"), Store.open(Path(home) / "far")
        _put(near, [d for d, _, _ in held.values()])
        entries = [Entry(n, digest_of(d), len(d), "extra", proof, origin) for n, (d, proof, origin) in held.items()]
        here = near.publish("M", entries, card=card)
        there = _carried(near, far)
        assert _contents(there.directory) == _contents(here.directory)
        assert there.card == here.card
        strong = {entry.name for entry in there.manifest.entries if entry.proof is not Proof.OBSERVED}
        assert strong == {n for n in held if n not in replaced and n in files}
        assert _carried(far, Store.open(Path(home) / "farther")).generation == there.generation


def _carried(near: Store, far: Store) -> Snapshot:
    target = io.BytesIO()
    near.export("M", target)
    return far.import_(io.BytesIO(target.getvalue()))


def _put(store: Store, contents: Iterable[bytes]) -> None:
    for data in contents:
        if store.find(digest_of(data)) is None:
            with store.ingest(digest=digest_of(data), size=len(data), limit_bytes=1000) as ingest:
                ingest.write(data)
                ingest.commit()


def _contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def _publish(store: Store, files: dict[str, bytes]) -> Snapshot:
    with store.lease() as lease:
        lease.pin(*map(digest_of, files.values()))
        _put(store, files.values())
        entries = [Entry(n, digest_of(d), len(d), "extra", Proof.ADVERTISED, Origin.WORKER) for n, d in files.items()]
        checked = tuple(CheckedFile(name=n, digest=digest_of(d), size=len(d)) for n, d in files.items())
        return store.publish("M", entries, card=Card(name="M", files=checked))


class StoreMachine(RuleBasedStateMachine):
    """Publishing, collecting, reopening and tampering in any order: what is served is right, or nothing is."""

    files = st.dictionaries(NAMES, st.sampled_from([b"", b"one", b"two", b"three" * 50]), max_size=4)

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory(dir=HOME)
        self.published: dict[str, dict[str, bytes]] = {}

    @initialize()
    def open(self) -> None:
        self.store = Store.open(Path(self.home.name) / "store")

    def teardown(self) -> None:
        self.home.cleanup()

    @rule(files=files)
    def publish(self, files: dict[str, bytes]) -> None:
        files = {"config.json": b"{}", **files}
        snapshot = _publish(self.store, files)
        self.published[snapshot.generation] = files
        assert _contents(snapshot.directory) == files
        assert self.store.current("M") == snapshot

    @rule(keep=st.integers(1, 3), bound=st.none() | st.integers(0, 300))
    def collect(self, keep: int, bound: int | None) -> None:
        before = self.store.current("M")
        self.store.gc(keep_generations=keep, target_bytes=bound)
        assert self.store.current("M") == before
        assert os.listdir(self.store.root / "trash") == []

    @rule()
    def reopen(self) -> None:
        self.store = Store.open(self.store.root)

    @rule()
    def remove(self) -> None:
        self.store.remove("M")
        assert self.store.current("M") is None

    @rule(data=st.data(), junk=st.binary(max_size=8))
    def tamper(self, data: st.DataObject, junk: bytes) -> None:
        if blobs := sorted((self.store.root / "blobs-v1").iterdir()):
            path = data.draw(st.sampled_from(blobs))
            tamper(path, junk)

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        if found := sorted((self.store.root / "models-v1").glob("*/generations/*/*")):
            path = data.draw(st.sampled_from(found))
            path.rename(path.with_name("gone")) if path.is_dir() else path.unlink()

    @rule()
    def verify(self) -> None:
        self.store.verify()
        assert not self.store.verify().corrupt

    @invariant()
    def what_is_found_is_right(self) -> None:
        for data in (b"", b"one", b"two", b"three" * 50, b"{}"):
            blob = self.store.find(digest_of(data))
            assert blob is None or blob.path.read_bytes() == data

    @invariant()
    def what_is_current_is_whole(self) -> None:
        current = self.store.current("M")
        assert current is None or _contents(current.directory) == self.published[current.generation]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
