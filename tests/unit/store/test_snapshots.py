from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from placecard.card import LeftOut, content_digest, digest_of, serving_digest
from placecard.errors import CardError, Code, PlacecardError, StoreError
from placecard.store import Entry, Origin, Proof, Snapshot, Store, snapshots
from placecard.store.layout import model_key
from placecard.store.manifest import generation_id
from tests.unit.store.kit import FILES, MODEL, OTHER, blob_path, card_of, contents, entries_of, publish, put, tamper


def test_a_directory_holds_just_the_files(store: Store) -> None:
    snapshot = publish(store)
    assert contents(snapshot.directory) == dict(FILES)
    assert store.current(MODEL) == snapshot
    assert store.stable_path(MODEL).resolve() == snapshot.directory
    assert contents(store.stable_path(MODEL)) == dict(FILES)
    for path in snapshot.directory.rglob("*"):
        if path.is_symlink():
            assert not os.readlink(path).startswith("/")
            assert path.resolve().parent == store.root / "blobs-v1"


def test_the_manifest_says_where_each_file_came_from(store: Store) -> None:
    for data in FILES.values():
        put(store, data)
    card = card_of(FILES)
    left_out = (LeftOut("model.safetensors", "weights"),)
    store.publish(MODEL, entries_of(FILES), card=card, left_out=left_out)
    current = Store.open(store.root).current(MODEL)
    assert current is not None
    manifest = current.manifest
    assert sorted(manifest.entries, key=lambda e: e.name) == sorted(entries_of(FILES), key=lambda e: e.name)
    assert (manifest.content_digest, manifest.serving_digest) == (content_digest(card), serving_digest(card))
    assert manifest.left_out == left_out
    assert manifest.card["name"] == MODEL


def test_the_same_files_are_the_same_generation(store: Store) -> None:
    first = publish(store)
    inode = first.directory.stat().st_ino
    assert publish(store) == first
    assert first.directory.stat().st_ino == inode


def test_another_proof_is_another_generation(store: Store) -> None:
    first = publish(store)
    again = store.publish(MODEL, entries_of(FILES, Proof.OBSERVED), card=card_of(FILES))
    assert again.generation != first.generation
    assert contents(first.directory) == contents(again.directory)


def test_the_identity_of_a_generation_is_stable() -> None:
    """Vector of this project: changing the encoding would orphan every stored generation."""
    entries = [
        Entry("b", digest_of(b"2"), 1, "extra", Proof.OBSERVED, Origin.HUB),
        Entry("a", digest_of(b"1"), 1, "extra", Proof.ADVERTISED, Origin.FILE),
    ]
    assert generation_id(entries) == generation_id(entries[::-1])
    assert generation_id(entries) == "2d3a68a2602c7137803a9cb273e0ac96"


def test_models_whose_slugs_are_equal_do_not_meet(store: Store) -> None:
    publish(store, FILES, "org/model.a")
    publish(store, OTHER, "org/model_a")
    one, other = store.current("org/model.a"), store.current("org/model_a")
    assert one is not None
    assert other is not None
    assert contents(one.directory) == dict(FILES)
    assert contents(other.directory) == dict(OTHER)
    assert [info.name for info in store.models()] == ["org/model.a", "org/model_a"]
    assert store.models()[0].bytes == sum(map(len, FILES.values()))


@pytest.mark.parametrize("model", ["../../x", "..", "/etc", "a\0b", "CON", "é" * 300, "-" * 300])
def test_no_model_name_leaves_the_store(store: Store, model: str) -> None:
    assert "/" not in model_key(model)
    publish(store, FILES, "harmless")
    assert store.current(model) is None
    assert store.stable_path(model).is_relative_to(store.root / "models-v1")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../escape", Code.NAME_UNSAFE),
        ("/absolute", Code.NAME_UNSAFE),
        ("a/../../b", Code.NAME_UNSAFE),
        ("", Code.NAME_UNSAFE),
        ("nul\0", Code.NAME_UNSAFE),
        ("CONFIG.JSON", Code.NAME_COLLISION),
        ("config.json/inside", Code.NAME_COLLISION),
        ("x" * 256, Code.NAME_TOO_LONG),
    ],
)
def test_unsafe_names_are_refused_before_anything_is_written(store: Store, name: str, code: Code) -> None:
    put(store, b"x")
    entry = Entry(name, digest_of(b"x"), 1, "extra", Proof.OBSERVED, Origin.HUB)
    with pytest.raises(CardError) as caught:
        store.publish(MODEL, [*entries_of({"config.json": b"x"}), entry], card=card_of(FILES))
    assert caught.value.code is code
    assert os.listdir(store.root / "models-v1") == []


@pytest.mark.parametrize("digest", ["blake3:../../../etc/passwd", "", "md5:" + "0" * 64])
def test_unsafe_digests_are_refused(store: Store, digest: str) -> None:
    with pytest.raises(CardError) as caught:
        store.publish(MODEL, [Entry("a", digest, 1, "extra", Proof.OBSERVED, Origin.HUB)], card=card_of(FILES))
    assert caught.value.code is Code.DIGEST_SYNTAX


def test_a_missing_blob_is_named_and_nothing_is_published(store: Store) -> None:
    old = publish(store)
    blob_path(store, FILES["config.json"])
    with pytest.raises(StoreError) as caught:
        store.publish(MODEL, entries_of(OTHER), card=card_of(OTHER))
    assert caught.value.code is Code.STORE_MISSING
    assert caught.value.subject == "tokenizer.json"
    assert store.current(MODEL) == old
    assert os.listdir(store.root / "ingest") == []


def test_a_wrong_size_is_a_missing_blob(store: Store) -> None:
    put(store, b"12345")
    entry = Entry("a", digest_of(b"12345"), 4, "extra", Proof.OBSERVED, Origin.HUB)
    with pytest.raises(StoreError) as caught:
        store.publish(MODEL, [entry], card=card_of(FILES))
    assert caught.value.code is Code.STORE_MISSING


def test_a_blob_that_vanishes_while_the_directory_is_built(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = snapshots.Snapshots._fill

    def fill(self: snapshots.Snapshots, path: str, manifest: object) -> None:
        real(self, path, manifest)  # type: ignore[arg-type]
        blob_path(store, FILES["config.json"]).unlink()

    monkeypatch.setattr(snapshots.Snapshots, "_fill", fill)
    with pytest.raises(StoreError) as caught:
        publish(store)
    assert caught.value.code is Code.STORE_MISSING
    assert store.current(MODEL) is None
    assert os.listdir(store.root / "ingest") == []


def _remove_link(directory: Path) -> None:
    (directory / "config.json").unlink()


def _foreign_link(directory: Path) -> None:
    (directory / "config.json").unlink()
    (directory / "config.json").symlink_to("/etc/passwd")


def _other_link(directory: Path) -> None:
    other = os.readlink(directory / "tokenizer.json")
    (directory / "config.json").unlink()
    (directory / "config.json").symlink_to(other)


def _file_instead(directory: Path) -> None:
    (directory / "config.json").unlink()
    (directory / "config.json").write_bytes(b"x" * len(FILES["config.json"]))


def _extra_file(directory: Path) -> None:
    (directory / "modeling_evil.py").write_text("import os")


def _torn_manifest(directory: Path) -> None:
    manifest = directory.parent / "manifest.json"
    text = manifest.read_bytes()
    manifest.chmod(0o644)
    manifest.write_bytes(text[: len(text) // 2])


def _empty_manifest(directory: Path) -> None:
    (directory.parent / "manifest.json").unlink()
    (directory.parent / "manifest.json").write_bytes(b"")


def _edited_manifest(directory: Path) -> None:
    manifest = directory.parent / "manifest.json"
    text = manifest.read_bytes()
    manifest.chmod(0o644)
    manifest.write_bytes(text.replace(b"ADVERTISED", b"COMMIT"))


def _moved(directory: Path) -> None:
    directory.rename(directory.parent / "elsewhere")


@pytest.mark.parametrize(
    "damage",
    [
        _remove_link, _foreign_link, _other_link, _file_instead, _extra_file, _torn_manifest, _empty_manifest,
        _edited_manifest, _moved,
    ],
)  # fmt: skip
def test_a_damaged_generation_is_noticed_and_built_anew(store: Store, damage: Callable[[Path], None]) -> None:
    snapshot = publish(store)
    damage(snapshot.directory)
    assert store.current(MODEL) is None
    report = store.verify()
    assert len(report.problems) == 1
    assert len(report.models) == 1
    again = publish(store)
    assert again.generation == snapshot.generation
    assert contents(again.directory) == dict(FILES)
    assert store.current(MODEL) == again
    assert store.verify().problems == ()
    store.gc()
    assert os.listdir(store.root / "trash") == []


@pytest.mark.parametrize("pointer", ["/etc", "../../..", "generations/" + "0" * 32 + "/model", "x"])
def test_a_pointer_that_leads_elsewhere_is_no_model(store: Store, pointer: str) -> None:
    snapshot = publish(store)
    current = store.stable_path(MODEL)
    current.unlink()
    current.symlink_to(pointer)
    assert store.current(MODEL) is None
    assert publish(store) == snapshot
    assert store.current(MODEL) == snapshot


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_something_else_in_the_place_of_the_pointer(store: Store, kind: str) -> None:
    snapshot = publish(store)
    current = store.stable_path(MODEL)
    current.unlink()
    if kind == "file":
        current.write_text("x")
    else:
        current.mkdir()
        (current / "x").write_text("x")
    assert store.current(MODEL) is None
    publish(store)
    assert store.current(MODEL) == snapshot


def test_a_generation_waits_until_it_is_activated(store: Store) -> None:
    old = publish(store)
    for data in OTHER.values():
        put(store, data)
    with store.lease() as lease:
        lease.pin(*(entry.digest for entry in entries_of(OTHER)))
        new = store.publish(MODEL, entries_of(OTHER), card=card_of(OTHER), activate=False, lease=lease)
        assert store.current(MODEL) == old
        store.gc(keep_generations=1)
        store.activate(new)
    assert store.current(MODEL) == new


def test_a_generation_that_is_gone_is_not_activated(store: Store) -> None:
    old = publish(store)
    for data in OTHER.values():
        put(store, data)
    new = store.publish(MODEL, entries_of(OTHER), card=card_of(OTHER), activate=False)
    store.gc(keep_generations=1)
    with pytest.raises(StoreError) as caught:
        store.activate(new)
    assert caught.value.code is Code.STORE_MISSING
    assert store.current(MODEL) == old


def test_going_back_is_a_switch(store: Store) -> None:
    first = publish(store, FILES)
    second = publish(store, OTHER)
    assert publish(store, FILES) == first
    assert store.current(MODEL) == first
    assert (first.manifest.sequence, second.manifest.sequence) == (1, 2)


def test_a_scrub_finds_what_seals_would_hide(store: Store) -> None:
    """A seal can be forged by whoever owns the store; the scrub hashes whatever it says."""
    publish(store)
    path = blob_path(store, FILES["tokenizer.json"])
    tamper(path)
    store._seals.put(path.name, path.lstat())
    assert store.current(MODEL) is not None
    report = store.verify()
    assert report.corrupt == (digest_of(FILES["tokenizer.json"]),)
    assert report.models == (MODEL,)
    assert report.blobs == len(FILES)
    assert store.current(MODEL) is None


@pytest.mark.parametrize(("sample", "hashed"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_a_scrub_hashes_the_share_that_was_asked_for(store: Store, sample: float, hashed: int) -> None:
    publish(store)
    assert store.verify(sample=sample).blobs == hashed


def test_state_is_kept_beside_the_model(store: Store) -> None:
    assert store.read_state(MODEL, "pins") is None
    store.write_state(MODEL, "pins", {"org/repo": "é"})
    store.write_state(MODEL, "pins", {"org/repo": "commit"})
    assert Store.open(store.root).read_state(MODEL, "pins") == {"org/repo": "commit"}
    assert store.read_state("Other", "pins") is None
    assert store.models() == ()
    assert os.listdir(store.root / "ingest") == []


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_torn_state_is_no_state(store: Store, garbage: bytes) -> None:
    store.write_state(MODEL, "pins", {})
    path = next(store.root.glob("models-v1/*/state-pins.json"))
    path.chmod(0o644)
    path.write_bytes(garbage)
    assert store.read_state(MODEL, "pins") is None
    store.write_state(MODEL, "pins", {"a": 1})
    assert store.read_state(MODEL, "pins") == {"a": 1}


@pytest.mark.parametrize("key", ["", "../x", "a/b", "A", "x" * 65, ".hidden"])
def test_a_state_key_is_one_plain_word(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        store.write_state(MODEL, key, {})


def test_nothing_is_written_outside_the_store(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    store = Store.open(inside / "store")
    for name in ("../x", "a/../../../x"):
        with pytest.raises(PlacecardError):
            put(store, b"x")
            store.publish(
                "../../m", [Entry(name, digest_of(b"x"), 1, "extra", Proof.OBSERVED, Origin.HUB)], card=card_of(FILES)
            )
    publish(store, FILES, "../../m")
    assert os.listdir(tmp_path) == ["inside"]
    assert os.listdir(inside) == ["store"]


def test_a_snapshot_is_a_value(store: Store) -> None:
    snapshot = publish(store)
    assert isinstance(snapshot, Snapshot)
    with pytest.raises(AttributeError):
        snapshot.generation = "x"  # type: ignore[misc]


@pytest.mark.parametrize("depth", [70, 900, 5000])
def test_a_manifest_that_nests_too_deep_harms_its_own_model_alone(store: Store, depth: int) -> None:
    publish(store)
    bad = publish(store, FILES, "Org/Bad")
    path = bad.directory.parent / "manifest.json"
    path.chmod(0o600)
    path.write_text('{"schema":1,"model":"Org/Bad","card":' + '{"a":' * depth + "1" + "}" * depth + "}")
    for _ in range(2):
        assert store.current("Org/Bad") is None
        assert [info.name for info in store.models()] == [MODEL]
        assert store.current(MODEL) is not None
        store.verify()
        store.gc()
    assert publish(store, FILES, "Org/Bad").directory.exists()


def test_folders_that_nest_too_deep_harm_their_own_model_alone(store: Store) -> None:
    publish(store)
    bad = publish(store, FILES, "Org/Bad")
    with_folders = os.open(bad.directory, os.O_RDONLY)
    for _ in range(1200):  # deeper than calls may nest, by names that are short enough
        os.mkdir("d", dir_fd=with_folders)
        deeper = os.open("d", os.O_RDONLY, dir_fd=with_folders)
        os.close(with_folders)
        with_folders = deeper
    os.close(with_folders)
    try:
        (bad.directory / "foreign").write_bytes(b"")
        assert store.current("Org/Bad") is None
        assert store.current(MODEL) is not None
        assert "foreign" in str(store.verify().problems)
        assert store.remove("Org/Bad")
        store.gc()
        assert not bad.directory.exists()
        assert list((store.root / "trash").iterdir()) == []
    finally:
        subprocess.run(["rm", "-rf", str(store.root)], check=True)  # Python itself gives up on such a tree
