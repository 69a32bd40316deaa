"""A bundle says what its card bears out, and nothing else comes in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from placecard.card import Card, CheckedFile, LeftOut, digest_of, to_json
from placecard.errors import Code, StoreError
from placecard.store import Entry, Origin, Proof, Store
from placecard.store.bundle import FORMAT, header
from tests.unit.store.kit import FILES, LIMIT, MODEL, contents, publish

CONFIG = b'{"model_type": "test"}'
CODE = b"import os\n"


def entry(name: str, data: bytes, proof: str = "ADVERTISED", origin: str = "WORKER", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "digest": digest_of(data), "size": len(data), "role": "extra", "proof": proof, "origin": origin,
    } | more  # fmt: skip


def listed(files: Mapping[str, bytes], **roles: str) -> Card:
    """Return a card of ``files``; ``config_json="model_info"`` gives one its role."""
    return Card(
        name=MODEL,
        files=tuple(
            CheckedFile(name=n, digest=digest_of(d), size=len(d), role=roles.get(n.replace(".", "_"), "extra"))
            for n, d in files.items()
        ),
    )


def bundle(card: Card, entries: list[dict[str, Any]], *blobs: bytes, left_out: tuple[str, ...] = ()) -> io.BytesIO:
    index = {
        "format": FORMAT, "model": card.name, "card": to_json(card), "entries": entries,
        "left_out": [{"name": name, "reason": "test"} for name in left_out],
    }  # fmt: skip
    members = [("placecard.json", msgspec.json.encode(index))]
    members += [(f"blobs/{digest_of(data)[7:]}", data) for data in sorted(set(blobs), key=digest_of)]
    text = b"".join(header(name, len(data)) + data + b"\0" * (-len(data) % 512) for name, data in members)
    return io.BytesIO(text + b"\0" * 1024)


def refused(store: Store, source: io.BytesIO, *, allow_code: tuple[str, ...] = ()) -> str:
    """Return why ``source`` is refused; the model that stood there before still does."""
    old = publish(store, {"config.json": b"{}", "old.txt": b"old"})
    with pytest.raises(StoreError) as caught:
        store.import_(source, allow_code=allow_code)
    assert caught.value.code is Code.BUNDLE_MALFORMED
    assert store.current(MODEL) == old
    return str(caught.value)


def test_other_bytes_than_the_cards_do_not_come_in_as_advertised(store: Store) -> None:
    card = listed({"config.json": CONFIG}, config_json="model_info")
    assert "config.json" in refused(store, bundle(card, [entry("config.json", b"evil", role="model_info")], b"evil"))


@pytest.mark.parametrize("proof", ["OBSERVED", "COMMIT"])
def test_other_bytes_than_the_cards_do_not_come_in_as_seen(store: Store, proof: str) -> None:
    card = listed({"config.json": CONFIG})
    refused(store, bundle(card, [entry("config.json", b"evil", proof)], b"evil"))
    refused(store, bundle(card, [entry("Config.JSON", b"evil", proof)], b"evil", left_out=("config.json",)))


def test_what_the_card_does_not_list_is_not_advertised(store: Store) -> None:
    card = listed({"config.json": CONFIG})
    why = refused(store, bundle(card, [entry("config.json", CONFIG), entry("more.json", b"1")], CONFIG, b"1"))
    assert "more.json" in why


@pytest.mark.parametrize("change", [{"size": 3}, {"role": "model_info"}, {"digest": digest_of(b"x")}])
def test_an_advertised_entry_is_the_cards_in_every_way(store: Store, change: dict[str, Any]) -> None:
    card = listed({"config.json": CONFIG})
    refused(store, bundle(card, [entry("config.json", CONFIG) | change], CONFIG, b"x"))


@pytest.mark.parametrize("name", ["evil.py", ".git", "w.safetensors", "a/b.so", "x.pkl", ".hidden/a.json"])
@pytest.mark.parametrize("proof", ["ADVERTISED", "OBSERVED"])
@pytest.mark.parametrize("origin", ["WORKER", "OVERLAY"])
def test_code_weights_and_hidden_files_stay_out(store: Store, name: str, proof: str, origin: str) -> None:
    entries = [entry("config.json", CONFIG), entry(name, CODE, proof, origin)]
    refused(store, bundle(listed({"config.json": CONFIG}), entries, CONFIG, CODE), allow_code=(digest_of(CODE),))
    refused(store, bundle(listed({"config.json": CONFIG, name: CODE}), entries, CONFIG, CODE))


def test_code_that_the_card_lists_comes_in_by_its_digest(store: Store) -> None:
    card = listed({"config.json": CONFIG, "model.py": CODE})
    source = bundle(card, [entry("config.json", CONFIG), entry("model.py", CODE)], CONFIG, CODE)
    snapshot = store.import_(source, allow_code=(digest_of(CODE),))
    assert contents(snapshot.directory) == {"config.json": CONFIG, "model.py": CODE}
    target = io.BytesIO()
    store.export(MODEL, target)
    assert "model.py" in refused(store, io.BytesIO(target.getvalue()))


def test_code_that_stays_out_need_not_be_listed(store: Store) -> None:
    card = listed({"config.json": CONFIG, "model.py": CODE})
    assert set(contents(store.import_(bundle(card, [entry("config.json", CONFIG)], CONFIG)).directory)) == {
        "config.json"
    }


def test_an_empty_bundle_does_not_empty_the_model(store: Store) -> None:
    card = listed({"config.json": CONFIG}, config_json="model_info")
    refused(store, bundle(card, []))
    refused(store, bundle(card, [], left_out=("config.json",)))
    refused(store, bundle(listed({"config.json": CONFIG}), [], left_out=("config.json",)))
    refused(store, bundle(card, [entry("LICENSE", b"x", "OBSERVED")], b"x", left_out=("config.json",)))


def test_a_file_of_the_card_is_there_or_left_out_aloud(store: Store) -> None:
    card = listed({"config.json": CONFIG, "more.json": b"1"})
    assert "more.json" in refused(store, bundle(card, [entry("config.json", CONFIG)], CONFIG))
    snapshot = store.import_(bundle(card, [entry("config.json", CONFIG)], CONFIG, left_out=("more.json",)))
    assert snapshot.manifest.left_out == (LeftOut("more.json", "test"),)


def test_a_typed_file_cannot_be_left_out(store: Store) -> None:
    card = listed({"config.json": CONFIG, "tokenizer.json": b"{}"}, tokenizer_json="tokenizer")
    refused(store, bundle(card, [entry("config.json", CONFIG)], CONFIG, left_out=("tokenizer.json",)))


def test_a_file_of_an_unknown_role_may_be_absent(store: Store) -> None:
    card = listed({"config.json": CONFIG, "x.new": b"1"}, x_new="newer_slot")
    assert contents(store.import_(bundle(card, [entry("config.json", CONFIG)], CONFIG)).directory)


@pytest.mark.parametrize(("proof", "origin"), [("COMMIT", "HUB"), ("OBSERVED", "FILE"), ("ADVERTISED", "OVERLAY")])
def test_what_a_bundle_cannot_show_counts_as_seen(store: Store, proof: str, origin: str) -> None:
    entries = [
        entry("config.json", CONFIG),
        entry("beside.json", b"1", proof, origin, role="tokenizer", consumers=["config"], uri="file:///a\x1b[31m"),
    ]
    found = store.import_(bundle(listed({"config.json": CONFIG}), entries, CONFIG, b"1")).manifest.entries
    assert [(each.name, each.proof) for each in found] == [
        ("beside.json", Proof.OBSERVED),
        ("config.json", Proof.ADVERTISED),
    ]
    assert (found[0].role, found[0].consumers, found[0].uri, found[0].origin.value) == ("extra", (), "", origin)


def ingest(store: Store, data: bytes) -> None:
    with store.ingest(digest=None, size=None, limit_bytes=LIMIT) as taking:
        taking.write(data)
        taking.commit()


def model_with_all(store: Store) -> Card:
    """Publish a model as a resolve would: advertised files, one of them not to be had, an overlay, and siblings."""
    files = {"config.json": CONFIG, "tokenizer.json": b"{}", "gone.json": b"gone", "x.py": CODE}
    card = listed(files, config_json="model_info", tokenizer_json="tokenizer")
    overlay, sibling, pinned = b"mine", b"sibling", b"pinned"
    for data in (CONFIG, b"{}", overlay, sibling, pinned):
        ingest(store, data)
    entries = [
        Entry("config.json", digest_of(CONFIG), len(CONFIG), "model_info", Proof.ADVERTISED, Origin.WORKER),
        Entry("tokenizer.json", digest_of(overlay), len(overlay), "extra", Proof.ADVERTISED, Origin.OVERLAY),
        Entry("LICENSE", digest_of(sibling), len(sibling), "extra", Proof.OBSERVED, Origin.FILE, "file:///w/LICENSE"),
        Entry("vocab.json", digest_of(pinned), len(pinned), "extra", Proof.COMMIT, Origin.HUB),
    ]
    left_out = [LeftOut("tokenizer.json", "replaced by the operator's overlay"), LeftOut("x.py", "code")]
    store.publish(MODEL, entries, card=card, left_out=left_out)
    return card


def test_what_is_exported_can_be_imported(store: Store, tmp_path: Path) -> None:
    card = model_with_all(store)
    here = store.current(MODEL)
    first, second = io.BytesIO(), io.BytesIO()
    store.export(MODEL, first)
    far = Store.open(tmp_path / "far")
    there = far.import_(io.BytesIO(first.getvalue()))
    assert here is not None
    assert contents(there.directory) == contents(here.directory)
    assert there.card == to_json(card)
    assert {e.name: e.proof.value for e in there.manifest.entries} == {
        "config.json": "ADVERTISED", "tokenizer.json": "OBSERVED", "LICENSE": "OBSERVED", "vocab.json": "OBSERVED",
    }  # fmt: skip
    assert LeftOut("gone.json", "not in the store") in there.manifest.left_out
    far.export(MODEL, second)
    again = Store.open(tmp_path / "farther").import_(io.BytesIO(second.getvalue()))
    assert (again.generation, again.manifest.entries) == (there.generation, there.manifest.entries)


def test_an_export_speaks_of_roles_as_the_newest_card_does(store: Store, tmp_path: Path) -> None:
    snapshot = publish(store)
    newest = listed(FILES, config_json="model_info", tokenizer_json="tokenizer")
    store.activate(snapshot, card=newest)
    target = io.BytesIO()
    store.export(MODEL, target)
    there = Store.open(tmp_path / "far").import_(io.BytesIO(target.getvalue()))
    assert {e.role for e in there.manifest.entries} == {"model_info", "tokenizer", "extra"}


def test_what_could_not_be_imported_is_not_exported(store: Store) -> None:
    ingest(store, CONFIG)
    ingest(store, CODE)
    entries = [
        Entry("config.json", digest_of(CONFIG), len(CONFIG), "extra", Proof.ADVERTISED, Origin.WORKER),
        Entry("mine.py", digest_of(CODE), len(CODE), "extra", Proof.ADVERTISED, Origin.OVERLAY),
    ]
    store.publish(MODEL, entries, card=listed({"config.json": CONFIG}))
    with pytest.raises(StoreError) as caught:
        store.export(MODEL, io.BytesIO())
    assert caught.value.code is Code.STORE_CORRUPT
    assert "mine.py" in str(caught.value)
