"""Laws of discovery: leases, records, changes, and registries against a model."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from placecard.card import Card, CheckedFile, digest_of
from placecard.discovery import Joined, Left, Record, Registry, changes, decode_record, encode_record
from placecard.discovery.lease import lease_end
from placecard.errors import PlacecardError
from tests.contract.registry_suite import Lab, record, watching
from tests.contract.test_registries import FileLab, MemoryLab

TIMES = st.floats(0, 4e9)
SPANS = st.floats(0.001, 1e5)
RECORDS = st.builds(record, st.integers(1, 6), name=st.sampled_from(["a", "b"]))
RECORD_MAPS = st.dictionaries(st.integers(1, 6), st.sampled_from(["a", "b"])).map(
    lambda drawn: {record(number).instance: record(number, name=name) for number, name in drawn.items()}
)


@given(TIMES, TIMES, TIMES, SPANS, st.none() | TIMES)
def test_a_lease_is_between_ended_and_whole(
    touched: float, file_now: float, now: float, ttl_s: float, untouched_at: float | None
) -> None:
    end = lease_end(touched=touched, file_now=file_now, now=now, ttl_s=ttl_s, untouched_at=untouched_at)
    assert now - 1e-3 <= end <= now + ttl_s + 1e-3


@given(TIMES, st.floats(0, 100), st.floats(0, 100))
def test_at_first_sight_a_lease_ends_ttl_after_the_touch(now: float, age: float, ttl_s: float) -> None:
    end = lease_end(touched=1e9 - age, file_now=1e9, now=now, ttl_s=ttl_s)
    assert end - now == pytest.approx(max(0.0, ttl_s - age), abs=1e-5)


@given(st.floats(-4e9, 4e9), st.floats(0, 9), st.floats(0, 9))
def test_a_touch_that_was_seen_happened_since_the_last_look(jump: float, age: float, more: float) -> None:
    """Whatever a clock jump makes of the age, a lease is cut by no more than the time since that look."""
    end = lease_end(touched=1e9, file_now=1e9 + age + jump, now=500.0, ttl_s=10, untouched_at=500.0 - age - more)
    assert end >= 500 + 10 - (age + more) - 1e-5


@given(st.binary(max_size=200))
def test_bytes_are_a_record_that_comes_back_or_a_typed_error(data: bytes) -> None:
    try:
        found = decode_record(data)
    except PlacecardError:
        return
    assert decode_record(encode_record(found)) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
WHOLE: dict[str, Any] = json.loads(encode_record(record(1, address="http://10.0.0.1:80")))


@given(st.sampled_from([*WHOLE, "card.files", "card.name", "card.schema", "card.serving", "card.new", "new"]), JSON)
def test_a_record_with_one_value_changed_is_a_record_or_a_typed_error(where: str, value: Any) -> None:
    raw = copy.deepcopy(WHOLE)
    *parents, key = where.split(".")
    (raw[parents[0]] if parents else raw)[key] = value
    try:
        found = decode_record(json.dumps(raw).encode())
    except PlacecardError:
        return
    assert decode_record(encode_record(found)) == found


@given(
    st.integers(1, 2**128 - 1),
    st.dictionaries(st.from_regex(r"f[a-z]{1,8}(/g[a-zü ]{0,6}[a-z])?\.txt", fullmatch=True), st.binary(max_size=8)),
    st.booleans(),
    st.none() | st.sampled_from(["http://w", "https://10.0.0.1:8080", "http://[::1]:1"]),
)
def test_every_record_comes_back_as_it_went(
    instance: int, files: dict[str, bytes], complete: bool, address: str | None
) -> None:
    listed = [CheckedFile(name="config.json", digest=digest_of(b"{}"), size=2, role="model_info")]
    listed += [CheckedFile(name=name, digest=digest_of(data), size=len(data)) for name, data in files.items()]
    try:
        card = Card(name="org/m", files=tuple(listed))
    except PlacecardError:
        return
    whole = Record(f"{instance:032x}", card, address, complete)
    assert decode_record(encode_record(whole)) == whole


@given(RECORD_MAPS, RECORD_MAPS)
def test_changes_lead_from_one_state_to_the_other_and_are_the_fewest(
    before: dict[str, Record], after: dict[str, Record]
) -> None:
    told = list(changes(before, after))
    state = dict(before)
    for change in told:
        match change:
            case Left(instance):
                del state[instance]
            case Joined(joined):
                assert state.get(joined.instance) != joined
                state[joined.instance] = joined
    assert state == after
    assert [type(change) for change in told] == sorted((type(change) for change in told), key=lambda t: t is Joined)


@given(RECORD_MAPS)
def test_no_change_is_no_news(state: dict[str, Record]) -> None:
    assert not list(changes(state, dict(state)))


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), RECORDS),
        st.tuples(st.just("refresh"), RECORDS),
        st.tuples(st.just("delete"), RECORDS),
        st.tuples(st.just("scribble"), RECORDS),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 3.0, 6.0, 11.0])),
    ),
    max_size=25,
)


class Model:
    """What a registry should hold: records, or garbage (None), with the end of the lease."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self.now = 0.0
        self.entries: dict[str, tuple[Record | None, float]] = {}

    def alive(self) -> tuple[Record, ...]:
        kept = [kept for _, (kept, end) in sorted(self.entries.items()) if end > self.now]
        return tuple(record for record in kept if record is not None)


async def apply(lab: Lab, registry: Registry, model: Model, name: str, value: Any) -> None:
    """Do one operation to a registry and to its model. Garbage is only written where nothing lives."""
    match name:
        case "advance":
            model.now += value
            await lab.advance(value)
        case "put":
            await registry.put(value)
            model.entries[value.instance] = (value, model.now + model.ttl_s)
        case "delete":
            await registry.delete(value.instance)
            model.entries.pop(value.instance, None)
        case "scribble" if value not in model.alive() and value.instance not in {r.instance for r in model.alive()}:
            await lab.scribble(value.instance, b"garbage")
            model.entries[value.instance] = (None, model.now + model.ttl_s)
        case "refresh":
            kept, end = model.entries.get(value.instance, (None, 0.0))
            if kept is not None and end > model.now:
                assert await registry.refresh(value.instance) is True
                model.entries[value.instance] = (kept, model.now + model.ttl_s)


async def check_against_model(lab: Lab, operations: list[tuple[str, Any]]) -> None:
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(lab.open())
        reader = await stack.enter_async_context(lab.open())
        watched = await stack.enter_async_context(lab.open())
        watcher = await stack.enter_async_context(watching(watched))
        model, seen = Model(lab.ttl_s), dict[str, Record]()
        for name, value in operations:
            await apply(lab, writer, model, name, value)
            assert await reader.list() == model.alive()
            assert await writer.list() == model.alive()
        end = dataclasses.replace(record(1 << 100))
        await writer.put(end)
        while end.instance not in seen:
            match await watcher.next():
                case Left(instance):
                    del seen[instance]
                case Joined(joined):
                    assert seen.get(joined.instance) != joined
                    seen[joined.instance] = joined
        assert tuple(seen[key] for key in sorted(seen)) == (*model.alive(), end)


@given(OPERATIONS)
@settings(max_examples=60, deadline=None)
async def test_a_registry_in_memory_is_its_model(operations: list[tuple[str, Any]]) -> None:
    with anyio.fail_after(20):
        await check_against_model(MemoryLab(), operations)


@given(OPERATIONS)
@example([("put", record(1)), ("advance", 6.0), ("advance", 6.0)])
@example([("put", record(1)), ("advance", 6.0), ("refresh", record(1)), ("advance", 6.0), ("advance", 3.0)])
@settings(max_examples=40, deadline=None)
async def test_a_registry_in_a_directory_is_its_model(operations: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as root, anyio.fail_after(20):
        await check_against_model(FileLab(Path(root) / "registry", inotify=os.name == "posix"), operations)
