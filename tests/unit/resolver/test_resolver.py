"""Resolving, end to end in memory: what the card advertises becomes a directory, or the outcome says why not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec
import pytest

from placecard.admission import State
from placecard.card import Card, digest_of
from placecard.discovery import Record
from placecard.errors import Code
from placecard.resolver import Budget, Overlay, Peers, ResolveSettings
from placecard.store import Origin, Proof
from placecard.telemetry import CandidateFailed, FileVerified

from .world import FILES, WORKER, World, make_card, read_all, write


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_self_hosted_card_becomes_a_directory_with_every_file(world: World) -> None:
    outcome = await world.resolve(world.serve(make_card(), FILES))
    assert outcome.state is State.READY
    assert outcome.directory is not None
    assert read_all(outcome.directory) == FILES
    assert {entry.proof for entry in outcome.entries} == {Proof.ADVERTISED}
    assert {entry.origin for entry in outcome.entries} == {Origin.WORKER}


async def test_every_real_path_lies_in_the_store(world: World) -> None:
    outcome = await world.resolve(world.serve(make_card(), FILES))
    assert outcome.directory is not None
    root = (world.root / "store").resolve()
    for path in outcome.directory.rglob("*"):
        assert path.resolve().is_relative_to(root)


async def test_a_second_resolve_fetches_nothing_and_gives_the_same_directory(world: World) -> None:
    record = world.serve(make_card(), FILES)
    first = await world.resolve(record)
    asked = len(world.http.asked)
    second = await world.resolve(record)
    assert len(world.http.asked) == asked
    assert second.directory == first.directory


async def test_another_front_end_with_the_same_store_needs_no_source(world: World) -> None:
    card = make_card()
    await world.resolve(world.serve(card, FILES))
    silent = replace(world, http=type(world.http)())
    assert (await silent.resolve(Record("2" * 32, card, WORKER))).state is State.READY


async def test_row17_a_wrong_byte_in_a_typed_file_is_refused_with_the_reason(world: World) -> None:
    record = world.serve(make_card(), FILES)
    wrong = FILES["tokenizer.json"].replace(b"1", b"2")
    for uri in world.http.content:
        if world.http.content[uri] == FILES["tokenizer.json"]:
            world.http.content[uri] = wrong
    outcome = await world.resolve(record)
    assert outcome.state is State.REFUSED
    assert [error.code for error in outcome.errors] == [Code.DIGEST_MISMATCH]
    assert digest_of(wrong) in str(outcome.errors[0])
    assert outcome.directory is None


async def test_row17_a_mismatch_moves_on_to_the_next_source(world: World) -> None:
    good = world.serve(make_card(), FILES)
    other = "http://127.0.0.1:9999"
    peers = Peers()
    peers.add(good)
    peers.add(replace(world.serve(make_card(), FILES, other), instance="2" * 32))
    for uri in list(world.http.content):
        if uri.startswith(WORKER) and world.http.content[uri] == FILES["tokenizer.json"]:
            world.http.content[uri] = b'{"version": "9.9"}'
    outcome = await world.resolve(good, peers)
    assert outcome.state is State.READY
    failed = [fact for fact in world.facts if isinstance(fact, CandidateFailed)]
    assert {fact.code for fact in failed} == {Code.DIGEST_MISMATCH}
    entry = next(entry for entry in outcome.entries if entry.name == "tokenizer.json")
    assert entry.origin is Origin.PEER


async def test_row36_a_truncated_answer_is_told_apart_from_a_wrong_one(world: World) -> None:
    record = world.serve(make_card(), FILES)
    for uri in world.http.content:
        if uri.endswith("tokenizer.json"):
            world.http.content[uri] = FILES["tokenizer.json"][:-1]
    outcome = await world.resolve(record)
    assert [error.code for error in outcome.errors] == [Code.SIZE_MISMATCH]


async def test_a_transient_error_is_tried_again_at_the_same_source(world: World) -> None:
    record = world.serve(make_card(), FILES)
    uri = f"{WORKER}/v1/metadata/m/config.json"
    world.http.errors[uri] = [Code.TRUNCATED]
    outcome = await world.resolve(record)
    assert outcome.state is State.READY
    assert world.http.asked.count(uri) == 2


async def test_an_error_that_cannot_heal_is_asked_once_and_remembered(world: World) -> None:
    card = make_card()
    async with world.resolver() as resolver:
        for _ in range(2):
            outcome = await resolver.resolve(Record("1" * 32, card, WORKER))
            assert outcome.state is State.REFUSED
    assert world.http.asked.count(f"{WORKER}/v1/metadata/m/config.json") == 1


async def test_row27_a_failed_resolve_leaves_the_last_good_directory_in_place(world: World) -> None:
    good = await world.resolve(world.serve(make_card(), FILES))
    changed = make_card(FILES | {"tokenizer.json": b"{new}"})
    outcome = await world.resolve(Record("2" * 32, changed, WORKER))
    assert outcome.state is State.REFUSED
    assert outcome.stable_path is not None
    assert read_all(outcome.stable_path.resolve()) == FILES
    assert good.directory is not None
    assert read_all(good.directory) == FILES


async def test_a_file_that_nobody_reads_degrades_when_it_is_wrong(world: World) -> None:
    files = FILES | {"LICENSE": b"do as you like"}
    record = world.serve(make_card(files), files)
    for uri in world.http.content:
        if world.http.content[uri] == files["LICENSE"]:
            world.http.content[uri] = b"do as we like!"
    outcome = await world.resolve(record)
    assert outcome.state is State.DEGRADED
    assert [(fact.code, fact.missing) for fact in outcome.degraded] == [(Code.DIGEST_MISMATCH, "LICENSE")]
    assert outcome.directory is not None
    assert "LICENSE" not in read_all(outcome.directory)


async def test_a_wrong_file_that_a_consumer_reads_is_refused(world: World) -> None:
    files = FILES | {"preprocessor_config.json": b'{"size": 1}'}
    card = make_card(files, consumers={"preprocessor_config.json": ("image_processor",)})
    record = world.serve(card, files)
    for uri in world.http.content:
        if world.http.content[uri] == files["preprocessor_config.json"]:
            world.http.content[uri] = b'{"size": 9}'
    outcome = await world.resolve(record)
    assert outcome.state is State.REFUSED
    assert outcome.errors[0].code is Code.DIGEST_MISMATCH


async def test_an_absent_file_that_a_consumer_reads_degrades_with_name_consumer_and_mend(world: World) -> None:
    files = FILES | {"preprocessor_config.json": b'{"size": 1}'}
    card = make_card(files, consumers={"preprocessor_config.json": ("image_processor",)})
    record = world.serve(card, files)
    for uri in list(world.http.content):
        if world.http.content[uri] == files["preprocessor_config.json"]:
            del world.http.content[uri]
    outcome = await world.resolve(record)
    assert outcome.state is State.DEGRADED
    (fact,) = outcome.degraded
    assert (fact.code, fact.consumer, fact.missing) == (
        Code.FILE_UNAVAILABLE,
        "image_processor",
        "preprocessor_config.json",
    )
    assert fact.mend
    assert world.counters.as_json()["Degraded:FILE_UNAVAILABLE"] == 1


async def test_strict_refuses_what_would_be_degraded(world: World) -> None:
    files = FILES | {"LICENSE": b"x"}
    record = world.serve(make_card(files), files)
    world.http.content = {uri: data for uri, data in world.http.content.items() if data != b"x"}
    world.settings = ResolveSettings(strict=True)
    assert (await world.resolve(record)).state is State.REFUSED


async def test_row82_one_fetch_per_digest_however_many_resolve_at_once(world: World) -> None:
    record = world.serve(make_card(), FILES)
    peers = Peers()
    records = [replace(record, instance=f"{index:032x}") for index in range(64)]
    for each in records:
        peers.add(each)
    async with world.resolver() as resolver, anyio.create_task_group() as tasks:
        for each in records:
            tasks.start_soon(resolver.resolve, each, peers)
    fetched = [fact.name for fact in world.facts if isinstance(fact, FileVerified)]
    assert sorted(fetched) == sorted(FILES)


async def test_two_names_of_one_content_are_one_fetch(world: World) -> None:
    files = FILES | {"copy.json": FILES["config.json"]}
    outcome = await world.resolve(world.serve(make_card(files), files))
    assert outcome.directory is not None
    assert read_all(outcome.directory) == files
    assert len([fact for fact in world.facts if isinstance(fact, FileVerified)]) == len(FILES)


async def test_row03_a_size_that_is_too_small_ends_at_the_first_byte_too_many(world: World) -> None:
    card = make_card()
    short = Card(
        name=card.name,
        files=tuple(msgspec.structs.replace(f, size=1) if f.name == "config.json" else f for f in card.files),
    )
    outcome = await world.resolve(world.serve(short, FILES))
    assert [error.code for error in outcome.errors] == [Code.SIZE_EXCEEDED]


async def test_row19_without_a_size_the_cap_alone_bounds_the_file(world: World) -> None:
    card = make_card(sizes=False)
    world.settings = ResolveSettings(budget=Budget(max_file_bytes=len(FILES["special_tokens_map.json"]) - 1))
    outcome = await world.resolve(world.serve(card, FILES))
    assert outcome.state is State.DEGRADED  # the largest file is an extra that nobody reads
    assert {fact.code for fact in outcome.degraded} == {Code.SIZE_CAP}


async def test_row20_a_card_over_its_budget_is_refused_before_any_connection(world: World) -> None:
    world.settings = ResolveSettings(budget=Budget(max_card_bytes=1))
    outcome = await world.resolve(world.serve(make_card(), FILES))
    assert [error.code for error in outcome.errors] == [Code.CARD_TOO_LARGE]
    assert world.http.asked == []


async def test_row15_a_policy_on_the_card_is_ignored_and_told(world: World) -> None:
    card = make_card()
    pushy = Card(name=card.name, files=card.files, unknown={"allow_private_ips": True})
    outcome = await world.resolve(world.serve(pushy, FILES))
    assert outcome.state is State.READY
    assert [fact.code for fact in outcome.notices] == [Code.CARD_POLICY_IGNORED]


async def test_row59_a_blob_that_gc_took_meanwhile_is_fetched_again(world: World) -> None:
    record = world.serve(make_card(), FILES)
    first = await world.resolve(record)
    world.store.remove(first.model)
    world.store.gc()
    assert (await world.resolve(record)).state is State.READY


async def test_row51_a_flipped_bit_in_the_store_is_set_aside_and_fetched_again(world: World) -> None:
    record = world.serve(make_card(), FILES)
    first = await world.resolve(record)
    assert first.directory is not None
    blob = (first.directory / "tokenizer.json").resolve()
    blob.chmod(0o644)
    blob.write_bytes(FILES["tokenizer.json"].replace(b"1", b"7"))
    outcome = await world.resolve(record)
    assert outcome.state is State.READY
    assert outcome.directory is not None
    assert read_all(outcome.directory) == FILES


async def test_row49_a_full_disk_is_one_typed_error_and_nothing_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await world.resolve(world.serve(make_card(), FILES))
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if bytes(data[:5]) == b"{fres":
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    files = FILES | {"tokenizer.json": b"{fresh bytes of a new tokenizer}"}
    outcome = await world.resolve(world.serve(make_card(files), files))
    assert [error.code for error in outcome.errors] == [Code.STORE_FULL]
    assert outcome.stable_path is not None
    assert good.directory == outcome.stable_path.resolve()
    assert list((world.root / "store" / "ingest").iterdir()) == []


async def test_an_overlay_takes_the_place_of_the_model_s_file(world: World) -> None:
    own = world.root / "own.jinja"
    own.write_bytes(b"{{ mine }}")
    world.settings = ResolveSettings(overlays=(Overlay("tokenizer_config.json", own),))
    outcome = await world.resolve(world.serve(make_card(), FILES))
    assert outcome.directory is not None
    assert (outcome.directory / "tokenizer_config.json").read_bytes() == b"{{ mine }}"
    entry = next(entry for entry in outcome.entries if entry.name == "tokenizer_config.json")
    assert entry.origin is Origin.OVERLAY


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "absent.json"])
async def test_an_overlay_that_cannot_be_used_is_one_typed_error(world: World, name: str) -> None:
    world.settings = ResolveSettings(overlays=(Overlay(name, world.root / "absent"),))
    outcome = await world.resolve(world.serve(make_card(), FILES))
    assert [error.code for error in outcome.errors] == [Code.USAGE]


async def test_one_bad_model_harms_no_other(world: World) -> None:
    bad = Record("2" * 32, make_card(name="bad/model", source=None), None)
    good = world.serve(make_card(), FILES)
    async with world.resolver() as resolver:
        assert (await resolver.resolve(bad)).state is State.REFUSED
        assert (await resolver.resolve(good)).state is State.READY


async def test_without_any_source_the_error_says_what_to_do(world: World) -> None:
    outcome = await world.resolve(Record("1" * 32, make_card(source=None), None))
    assert {error.code for error in outcome.errors} == {Code.NO_CANDIDATE}
    assert all("self-host" in error.mend for error in outcome.errors)


async def test_the_outcome_is_kept_beside_the_model(world: World) -> None:
    await world.resolve(world.serve(make_card(), FILES))
    state = world.store.read_state("acme/river", "outcome")
    assert state is not None
    assert state["state"] == "READY"


def test_write_helper_makes_nested_folders(tmp_path: Path) -> None:
    assert read_all(write(tmp_path / "m", FILES)) == FILES
