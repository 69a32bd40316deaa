from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from placecard.card import digest_of
from placecard.errors import Code, StoreError
from placecard.store import Store
from placecard.store.bundle import header
from tests.unit.store.kit import FILES, MODEL, OTHER, blob_path, contents, publish, put, tamper


def bundle_of(store: Store, model: str = MODEL) -> bytes:
    target = io.BytesIO()
    report = store.export(model, target)
    assert report.bytes == len(target.getvalue())
    return target.getvalue()


@pytest.fixture
def bundle(store: Store) -> bytes:
    publish(store)
    return bundle_of(store)


@pytest.fixture
def far(tmp_path: Path) -> Store:
    """A store on a host without network."""
    return Store.open(tmp_path / "far")


def test_a_model_comes_back_whole(bundle: bytes, store: Store, far: Store) -> None:
    snapshot = far.import_(io.BytesIO(bundle))
    here = store.current(MODEL)
    assert here is not None
    assert contents(snapshot.directory) == dict(FILES)
    assert (snapshot.generation, snapshot.manifest.entries) == (here.generation, here.manifest.entries)
    assert far.current(MODEL) == snapshot
    assert bundle_of(far) == bundle


def test_the_same_model_is_the_same_bytes(bundle: bytes, store: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other")
    publish(other, OTHER)
    publish(other, FILES)
    assert bundle_of(other) == bundle == bundle_of(store)


def test_any_tar_reads_it(bundle: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        members = archive.getmembers()
        assert members[0].name == "placecard.json"
        assert [m.name for m in members[1:]] == sorted(f"blobs/{digest_of(d)[7:]}" for d in FILES.values())
        assert {(m.type, m.uid, m.gid, m.mtime, m.mode, m.uname) for m in members} == {(b"0", 0, 0, 0, 0o444, "")}
        index = archive.extractfile(members[0])
        assert index is not None
        assert json.load(index)["format"] == 1


def test_a_header_is_what_tar_writes() -> None:
    info = tarfile.TarInfo("blobs/" + "a" * 64)
    info.size, info.mode = 123, 0o444
    ours = tarfile.TarInfo.frombuf(header(info.name, 123), "ascii", "strict")
    assert (ours.name, ours.size, ours.mode, ours.type) == (info.name, 123, 0o444, tarfile.REGTYPE)


def refused(far: Store, data: bytes) -> str:
    with pytest.raises(StoreError) as caught:
        far.import_(io.BytesIO(data))
    assert caught.value.code is Code.BUNDLE_MALFORMED
    assert far.models() == ()
    assert list((far.root / "ingest").iterdir()) == []
    return str(caught.value)


def test_a_bundle_cut_anywhere_imports_nothing(bundle: bytes, far: Store) -> None:
    for length in [*range(0, 600, 7), *range(600, len(bundle), 97), len(bundle) - 1]:
        refused(far, bundle[:length])


def test_a_changed_byte_anywhere_imports_nothing(bundle: bytes, store: Store, tmp_path: Path) -> None:
    index_end = 512 + int(bundle[124:135], 8)
    for place in [*range(0, 512, 3), *range(index_end + 1, len(bundle), 61)]:
        far = Store.open(tmp_path / str(place))
        changed = bytearray(bundle)
        changed[place] ^= 1
        refused(far, bytes(changed))
        shutil.rmtree(far.root)


def member(name: str, data: bytes, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + b"\0" * (-len(data) % 512)


ATTACKS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda bundle: b"",
    "no tar": lambda bundle: b"PK\x03\x04" + b"x" * 5000,
    "only zeros": lambda bundle: b"\0" * 10_240,
    "more after the end": lambda bundle: bundle + b"\0",
    "two bundles": lambda bundle: bundle + bundle,
    "an extra member": lambda bundle: bundle[:-1024] + member("blobs/" + "f" * 64, b"x") + b"\0" * 1024,
    "a path that leaves": lambda bundle: bundle[:-1024] + member("../../evil", b"x") + b"\0" * 1024,
    "an absolute path": lambda bundle: member("/etc/passwd", b"x") + bundle,
    "a link first": lambda bundle: member("placecard.json", b"", type=b"2", linkname="/etc/passwd") + bundle,
    "a device": lambda bundle: member("placecard.json", b"", type=b"3") + bundle,
    "an extended header": lambda bundle: member("x", b"20 path=../../evil\n\n", type=b"x") + bundle,
    "a long-name member": lambda bundle: member("././@LongLink", b"placecard.json\0", type=b"L") + bundle,
    "the last blob missing": lambda bundle: bundle[: bundle.rindex(b"blobs/")] + b"\0" * 1024,
    "a blob twice": lambda bundle: bundle[:-1024] + bundle[bundle.rindex(b"blobs/") : -1024] + b"\0" * 1024,
    "endless zeros of an index": lambda bundle: header("placecard.json", 2**33 - 1) + b"\0" * 4096,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_no_bundle_imports_nothing(bundle: bytes, far: Store, attack: str) -> None:
    refused(far, ATTACKS[attack](bundle))


def with_index(bundle: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    size = int(bundle[124:135], 8)
    index = json.loads(bundle[512 : 512 + size])
    change(index)
    data = json.dumps(index).encode()
    rest = bundle[512 + size + -size % 512 :]
    return header("placecard.json", len(data)) + data + b"\0" * (-len(data) % 512) + rest


def _entry(index: dict[str, object], number: int = 0) -> dict[str, object]:
    entries = index["entries"]
    assert isinstance(entries, list)
    entry = entries[number]
    assert isinstance(entry, dict)
    return entry


CHANGES: dict[str, Callable[[dict[str, object]], object]] = {
    "a newer format": lambda index: index.update(format=2),
    "no format": lambda index: index.pop("format"),
    "another model": lambda index: index.update(model="Other"),
    "no card": lambda index: index.update(card={}),
    "entries of another type": lambda index: index.update(entries="x"),
    "a name that leaves": lambda index: _entry(index).update(name="../../evil"),
    "an absolute name": lambda index: _entry(index).update(name="/etc/cron.d/evil"),
    "two names that are one": lambda index: _entry(index).update(name=str(_entry(index, 1)["name"]).upper()),
    "a digest that is a path": lambda index: _entry(index).update(digest="blake3:../../../../evil"),
    "a digest that is not there": lambda index: _entry(index).update(digest=digest_of(b"never")),
    "another size": lambda index: _entry(index).update(size=7),
    "a negative size": lambda index: _entry(index).update(size=-1),
    "a huge size": lambda index: _entry(index).update(size=2**62),
    "an unknown proof": lambda index: _entry(index).update(proof="TRUST_ME"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_index_that_lies_imports_nothing(bundle: bytes, far: Store, change: str) -> None:
    def apply(index: dict[str, object]) -> None:
        CHANGES[change](index)

    refused(far, with_index(bundle, apply))


def test_an_index_that_is_rewritten_truthfully_is_fine(bundle: bytes, far: Store) -> None:
    assert contents(far.import_(io.BytesIO(with_index(bundle, lambda index: None))).directory) == dict(FILES)


def test_an_import_that_fails_leaves_the_old_model(bundle: bytes, far: Store) -> None:
    old = publish(far, OTHER)
    with pytest.raises(StoreError):
        far.import_(io.BytesIO(bundle[:-2000]))
    assert far.current(MODEL) == old


def test_an_import_into_a_store_that_holds_some_of_it(bundle: bytes, far: Store) -> None:
    put(far, FILES["tokenizer.json"])
    assert contents(far.import_(io.BytesIO(bundle)).directory) == dict(FILES)


def test_what_is_not_there_is_not_exported(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.export("Unknown", io.BytesIO())
    assert caught.value.code is Code.STORE_MISSING


def test_a_damaged_model_is_not_exported(store: Store) -> None:
    publish(store)
    blob_path(store, FILES["config.json"]).unlink()
    with pytest.raises(StoreError) as caught:
        store.export(MODEL, io.BytesIO())
    assert caught.value.code is Code.STORE_MISSING


def test_a_forged_seal_does_not_get_wrong_bytes_into_a_bundle(store: Store) -> None:
    publish(store)
    path = blob_path(store, FILES["tokenizer.json"])
    tamper(path)
    store._seals.put(path.name, path.lstat())
    with pytest.raises(StoreError) as caught:
        store.export(MODEL, io.BytesIO())
    assert caught.value.code is Code.STORE_CORRUPT


def test_a_source_that_gives_little_at_a_time(bundle: bytes, far: Store) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size, 100) if size and size > 0 else size)

    assert contents(far.import_(Slow(bundle)).directory) == dict(FILES)
