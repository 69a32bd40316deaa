"""What hostile, careless or unlucky neighbours do, and what must not come of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec
import pytest

from placecard.admission import State
from placecard.card import Card, content_digest, digest_of
from placecard.discovery import Record
from placecard.errors import Code, StoreError
from placecard.resolver import Budget, Peers, Resolver, ResolveSettings
from placecard.telemetry import CandidateFailed, Fallback

from .world import FILES, WORKER, World, make_card, read_all, write

SIBLINGS = {"preprocessor_config.json": b'{"size": 1}', "added_tokens.json": b"{}"}
TYPED = {name: FILES[name] for name in ("config.json", "tokenizer.json")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def mount(world: World) -> Path:
    world.roots = [world.root]
    return write(world.root / "mount", TYPED | SIBLINGS)


def typed_card(directory: Path) -> Record:
    return Record("1" * 32, make_card(TYPED, source=lambda name: (directory / name).as_uri()), complete=False)


async def test_a_mount_that_is_away_takes_no_sibling_with_it(world: World, mount: Path) -> None:
    first = await world.resolve(typed_card(mount))
    shutil.move(mount, world.root / "away")
    again = await world.resolve(typed_card(mount))
    assert again.state is State.READY
    assert again.directory == first.directory
    assert any(isinstance(fact, Fallback) and fact.kind == "siblings_of_the_last_resolve" for fact in world.facts)


async def test_an_empty_mount_point_is_not_a_directory_without_siblings(world: World, mount: Path) -> None:
    await world.resolve(typed_card(mount))
    shutil.rmtree(mount)
    mount.mkdir()
    again = await world.resolve(typed_card(mount))
    assert again.directory is not None
    assert read_all(again.directory) == TYPED | SIBLINGS


async def test_the_card_alone_keeps_the_siblings_of_its_last_resolve(world: World, mount: Path) -> None:
    first = await world.resolve(typed_card(mount))
    alone = Record("0" * 32, make_card(TYPED, source=None))
    again = await world.resolve(alone)
    assert (again.state, again.directory) == (State.READY, first.directory)


async def test_another_content_inherits_no_sibling(world: World, mount: Path) -> None:
    await world.resolve(typed_card(mount))
    changed = TYPED | {"tokenizer.json": b"{other}"}
    outcome = await world.resolve(world.serve(make_card(changed), changed))
    assert outcome.directory is not None
    assert read_all(outcome.directory) == changed


async def test_a_card_that_lies_about_a_size_spoils_no_other_card(world: World) -> None:
    honest = world.serve(make_card(), FILES)
    card = make_card(name="evil/model")
    lie = Card(name="evil/model", files=tuple(msgspec.structs.replace(file, size=1) for file in card.files))
    async with world.resolver() as resolver:
        assert (await resolver.resolve(Record("2" * 32, lie, WORKER))).state is State.REFUSED
        assert (await resolver.resolve(honest)).state is State.READY


async def test_who_joins_a_doomed_flight_still_asks_its_own_places(world: World) -> None:
    honest = world.serve(make_card(), FILES)
    dead = make_card(name="evil/model", source=lambda name: f"http://127.0.0.1:1/{name}")
    for name in FILES:
        world.http.errors[f"http://127.0.0.1:1/{name}"] = [Code.CONNECT_FAILED] * 9
    states: dict[str, State] = {}

    async def resolve(resolver: Resolver, record: Record) -> None:
        states[record.card.name] = (await resolver.resolve(record)).state

    async with world.resolver() as resolver, anyio.create_task_group() as tasks:
        tasks.start_soon(resolve, resolver, Record("2" * 32, dead, None))
        tasks.start_soon(resolve, resolver, honest)
    assert states["acme/river"] is State.READY  # the other may be lucky: it shares the flight


async def test_each_place_is_asked_once_for_a_file_that_nobody_has_right(world: World) -> None:
    record = world.serve(make_card(), FILES)
    peers = Peers()
    peers.add(record)
    for uri, data in list(world.http.content.items()):
        if data == FILES["tokenizer.json"]:
            world.http.content[uri] = data.replace(b"1", b"2")
    assert (await world.resolve(record, peers)).state is State.REFUSED
    failed = [fact.uri for fact in world.facts if isinstance(fact, CandidateFailed)]
    assert len(failed) == len(set(failed)) == 2


async def test_row39_a_slow_place_is_asked_once_and_then_last(world: World) -> None:
    good = world.serve(make_card(), FILES)
    slow = "http://127.0.0.1:9999"
    world.settings = ResolveSettings(parallel=1)
    card = make_card()
    files = tuple(
        msgspec.structs.replace(file, sources=(f"{slow}/{file.name}", *file.sources)) for file in card.files
    )  # fmt: skip
    for name in FILES:
        world.http.errors[f"{slow}/{name}"] = [Code.SLOW_SOURCE] * 9
    outcome = await world.resolve(replace(good, card=Card(name=card.name, files=files)))
    assert outcome.state is State.READY
    assert sum(uri.startswith(slow) for uri in world.http.asked) == 1


async def test_row21_files_without_sizes_are_counted_as_they_arrive(world: World) -> None:
    world.settings = ResolveSettings(budget=Budget(max_card_bytes=60))
    outcome = await world.resolve(world.serve(make_card(sizes=False), FILES))
    assert [error.code for error in outcome.errors] == [Code.CARD_TOO_LARGE]


async def test_an_operator_s_template_stands_where_consumers_look(world: World) -> None:
    files = FILES | {"prod.jinja": b"{{ own }}", "chat_template.jinja": b"{{ the_model_s }}"}
    card = make_card(files)
    roles = {"prod.jinja": "chat_template", "chat_template.jinja": "extra"}
    mine = Card(
        name=card.name,
        files=tuple(msgspec.structs.replace(file, role=roles.get(file.name, file.role)) for file in card.files),
    )
    outcome = await world.resolve(world.serve(mine, files))
    assert outcome.directory is not None
    assert (outcome.directory / "chat_template.jinja").read_bytes() == b"{{ own }}"
    assert not (outcome.directory / "prod.jinja").exists()
    assert [(each.name, "prod.jinja" in each.reason) for each in outcome.left_out] == [("chat_template.jinja", True)]


async def test_a_slot_whose_file_may_not_come_in_refuses_the_card(world: World) -> None:
    files = FILES | {".prod.jinja": b"{{ own }}"}
    card = make_card(files)
    hidden = tuple(
        msgspec.structs.replace(file, role="chat_template") if file.name == ".prod.jinja" else file
        for file in card.files
    )
    outcome = await world.resolve(world.serve(Card(name="m", files=hidden), files))
    assert [error.code for error in outcome.errors] == [Code.SLOT_TYPE_MISMATCH]


async def test_row08_a_model_without_tokenizer_is_served_and_that_is_told(world: World) -> None:
    files = {"config.json": b"{}"}
    outcome = await world.resolve(world.serve(make_card(files), files))
    assert outcome.state is State.READY
    assert [(fact.code, "tokenizer" in fact.detail) for fact in outcome.notices] == [(Code.CARD_INCOMPLETE, True)]


async def test_a_model_that_was_removed_meanwhile_gets_its_stable_path_back(world: World) -> None:
    record = world.serve(make_card(), FILES)
    first = await world.resolve(record)
    world.store.remove(first.model)
    again = await world.resolve(record)
    assert again.stable_path is not None
    assert read_all(again.stable_path.resolve()) == FILES


async def test_peers_of_another_model_with_the_same_file_are_used(world: World) -> None:
    shared = {"config.json": FILES["config.json"], "tokenizer.json": FILES["tokenizer.json"]}
    other = world.serve(make_card(shared, name="other/model"), shared, "http://127.0.0.1:9191")
    peers = Peers()
    peers.add(other)
    lonely = Record("3" * 32, make_card(shared, source=None), None)
    outcome = await world.resolve(lonely, peers)
    assert outcome.state is State.READY
    assert outcome.content_digest == content_digest(lonely.card)
    assert {entry.digest for entry in outcome.entries} == {digest_of(data) for data in shared.values()}


async def test_row50_a_read_only_store_serves_what_it_has_whole(world: World, mount: Path) -> None:
    first = await world.resolve(typed_card(mount))
    store = world.store
    store.writable = False
    store._refusal = StoreError(Code.STORE_READ_ONLY, "is on a read-only file system", subject=str(store.root))
    async with world.resolver(store) as resolver:
        again = await resolver.resolve(typed_card(mount))
    assert (again.state, again.directory, again.stable_path) == (State.READY, first.directory, first.stable_path)


async def test_row50_a_read_only_store_refuses_what_it_has_not(world: World, mount: Path) -> None:
    store = world.store
    store.writable = False
    store._refusal = StoreError(Code.STORE_READ_ONLY, "is on a read-only file system", subject=str(store.root))
    async with world.resolver(store) as resolver:
        outcome = await resolver.resolve(typed_card(mount))
    assert {error.code for error in outcome.errors} == {Code.STORE_READ_ONLY}
