"""The card beside the pointer: the same files served in another way make no new generation, and are not forgotten."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest

from placecard.card import Card, Serving, serving_digest, to_json
from placecard.card.wire import card_from_json
from placecard.errors import StoreError
from placecard.store import Snapshot, Store
from tests.unit.store.kit import FILES, MODEL, OTHER, card_of, entries_of, publish, put


def served(length: int) -> Card:
    return msgspec.structs.replace(card_of(FILES), serving=Serving(context_length=length, aliases=("other",)))


def current(store: Store) -> Snapshot:
    found = store.current(MODEL)
    assert found is not None
    return found


def card_files(store: Store) -> list[Path]:
    return sorted((store.root / "models-v1").glob("*/state-card-*.json"))


def test_a_snapshot_carries_the_card_it_was_made_with(store: Store) -> None:
    assert publish(store).card == current(store).card == to_json(card_of(FILES))
    assert card_files(store) == []


def test_the_same_files_served_otherwise_carry_the_newest_card(store: Store) -> None:
    old = publish(store)
    store.activate(old, card=served(4096))
    assert current(store).generation == old.generation
    assert current(store).manifest == old.manifest
    assert current(store).card == to_json(served(4096))
    store.activate(current(store), card=served(8192))
    assert Store.open(store.root).current(MODEL) == current(store)
    assert serving_digest(card_from_json(current(store).card)) == serving_digest(served(8192))


def test_activating_without_a_card_keeps_the_newest(store: Store) -> None:
    store.activate(publish(store), card=served(4096))
    store.activate(current(store))
    assert current(store).card == to_json(served(4096))


def test_publishing_the_same_files_again_keeps_the_new_card(store: Store) -> None:
    publish(store)
    again = store.publish(MODEL, entries_of(FILES), card=served(4096))
    assert again.card == current(store).card == to_json(served(4096))


def test_a_generation_that_is_not_activated_changes_no_card(store: Store) -> None:
    publish(store)
    waiting = store.publish(MODEL, entries_of(FILES), card=served(4096), activate=False)
    assert waiting.card == to_json(served(4096))
    assert current(store).card == to_json(card_of(FILES))
    store.activate(waiting)
    assert current(store).card == to_json(served(4096))


def test_each_generation_has_its_own_card(store: Store) -> None:
    first = publish(store)
    store.activate(first, card=served(4096))
    publish(store, OTHER)
    assert current(store).card == to_json(card_of(OTHER))
    store.activate(first, card=served(2048))
    assert current(store).card == to_json(served(2048))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":1,"name":"x"}', '{"a":' * 4000, "\x00"])
def test_a_damaged_card_gives_way_to_the_manifests(store: Store, text: str) -> None:
    store.activate(publish(store), card=served(4096))
    (path,) = card_files(store)
    path.chmod(0o600)
    path.write_text(text)
    assert current(store).card == to_json(card_of(FILES))
    store.activate(current(store), card=served(4096))
    assert current(store).card == to_json(served(4096))


def test_an_export_tells_the_newest_card(store: Store, tmp_path: Path) -> None:
    store.activate(publish(store), card=served(4096))
    target = io.BytesIO()
    store.export(MODEL, target)
    there = Store.open(tmp_path / "far").import_(io.BytesIO(target.getvalue()))
    assert there.card == to_json(served(4096))
    assert there.generation == current(store).generation


def test_a_card_goes_with_its_generation(store: Store) -> None:
    old = publish(store)
    store.activate(old, card=served(4096))
    publish(store, OTHER)
    store.gc(keep_generations=2)
    assert len(card_files(store)) == 1
    store.gc(keep_generations=1)
    assert not old.directory.exists()
    assert card_files(store) == []


def test_a_card_goes_with_its_model(store: Store) -> None:
    store.activate(publish(store), card=served(4096))
    store.remove(MODEL)
    assert list((store.root / "models-v1").iterdir()) == []


def test_a_card_is_written_only_when_it_changes(store: Store) -> None:
    store.activate(publish(store), card=served(4096))
    (path,) = card_files(store)
    before = path.stat().st_ino
    put(store, FILES["config.json"])
    store.activate(current(store), card=served(4096))
    assert path.stat().st_ino == before
    assert json.loads(path.read_text()) == to_json(served(4096))


def test_a_generation_that_is_gone_takes_no_card(store: Store) -> None:
    snapshot = publish(store)
    store.remove(MODEL)
    with pytest.raises(StoreError):
        store.activate(snapshot, card=served(4096))
    assert card_files(store) == []
