"""The laws of every registry. A back end joins by a :class:`Lab`, which lets time pass and does what strangers do."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Protocol, cast

import anyio
import pytest

from placecard.card import Card, CheckedFile, digest_of
from placecard.discovery import Change, Joined, Left, Record, Registry, encode_record
from placecard.errors import Code, DiscoveryError
from placecard.telemetry import Fact, Observe, RecordRejected, ignore

BUDGET_S = 20.0


class Lab(Protocol):
    """One registry to be looked at from several sides."""

    ttl_s: float

    def open(self, observe: Observe = ignore) -> AbstractAsyncContextManager[Registry]:
        """Return a handle of its own on the registry."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass for every handle; watchers look again."""
        ...

    async def scribble(self, instance: str, data: bytes) -> None:
        """Put ``data`` where the record of ``instance`` belongs, as a stranger would."""
        ...


def card(name: str = "org/model", body: bytes = b"{}") -> Card:
    """Return a small valid card whose content is ``body``."""
    file = CheckedFile(name="config.json", digest=digest_of(body), size=len(body), role="model_info")
    return Card(name=name, files=(file,))


def record(number: int, *, name: str = "org/model", body: bytes = b"{}", address: str | None = None) -> Record:
    """Return a record whose instance is ``number``."""
    return Record(instance=f"{number:032x}", card=card(name, body), address=address)


class Watcher:
    """Reads a watch in step with a test."""

    def __init__(self, changes: AsyncIterator[Change]) -> None:
        self._changes = changes

    async def next(self) -> Change:
        with anyio.fail_after(BUDGET_S):
            return await anext(self._changes)

    async def joined(self) -> Record:
        change = await self.next()
        assert isinstance(change, Joined), change
        return change.record

    async def left(self) -> str:
        change = await self.next()
        assert isinstance(change, Left), change
        return change.instance


@asynccontextmanager
async def watching(registry: Registry) -> AsyncGenerator[Watcher]:
    async with aclosing(cast("AsyncGenerator[Change]", registry.watch())) as changes:
        yield Watcher(changes)


def rejected(facts: list[Fact]) -> list[RecordRejected]:
    return [fact for fact in facts if isinstance(fact, RecordRejected)]


class RegistrySuite:
    """Subclass it with a ``lab`` fixture."""

    @pytest.fixture
    async def registry(self, lab: Lab) -> AsyncGenerator[Registry]:
        async with lab.open() as registry:
            yield registry

    async def test_an_empty_registry_lists_nothing(self, registry: Registry) -> None:
        assert await registry.list() == ()

    async def test_what_was_put_is_listed_by_another_handle_in_order(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(2, address="http://10.0.0.2:80"))
        await registry.put(record(1))
        async with lab.open() as other:
            assert await other.list() == (record(1), record(2, address="http://10.0.0.2:80"))

    async def test_a_put_replaces_the_record_of_its_instance(self, registry: Registry) -> None:
        await registry.put(record(1))
        await registry.put(record(1, name="org/other"))
        assert await registry.list() == (record(1, name="org/other"),)

    async def test_a_deleted_record_is_gone(self, registry: Registry) -> None:
        await registry.put(record(1))
        await registry.put(record(2))
        await registry.delete(record(1).instance)
        assert await registry.list() == (record(2),)

    async def test_deleting_what_is_not_there_is_no_error(self, registry: Registry) -> None:
        await registry.delete(record(1).instance)
        assert await registry.list() == ()

    async def test_refreshing_what_is_not_there_says_so_and_makes_nothing(self, registry: Registry) -> None:
        assert await registry.refresh(record(1).instance) is False
        assert await registry.list() == ()

    async def test_a_lease_that_nobody_renews_ends(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        assert await registry.list() == (record(1),)
        await lab.advance(lab.ttl_s * 1.01)
        assert await registry.list() == ()

    async def test_a_lease_that_ended_is_seen_at_first_sight(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        await lab.advance(lab.ttl_s * 1.01)
        async with lab.open() as other:
            assert await other.list() == ()

    async def test_a_lease_that_is_renewed_lives_on(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        for _ in range(5):
            await lab.advance(lab.ttl_s * 0.6)
            assert await registry.refresh(record(1).instance) is True
        assert await registry.list() == (record(1),)

    async def test_a_renewal_does_not_help_a_neighbour(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        await registry.put(record(2))
        await lab.advance(lab.ttl_s * 0.6)
        assert await registry.refresh(record(2).instance) is True
        await lab.advance(lab.ttl_s * 0.6)
        assert await registry.list() == (record(2),)

    @pytest.mark.parametrize(
        "instance", ["", "x", "A" * 32, "0" * 32, "0" * 31, "0" * 33, "../" + "0" * 29, "0" * 31 + "\n"]
    )
    async def test_an_unfit_instance_is_refused(self, registry: Registry, instance: str) -> None:
        with pytest.raises(DiscoveryError) as caught:
            await registry.put(dataclasses.replace(record(1), instance=instance))
        assert caught.value.code == Code.RECORD_MALFORMED
        with pytest.raises(DiscoveryError):
            await registry.refresh(instance)
        with pytest.raises(DiscoveryError):
            await registry.delete(instance)
        assert await registry.list() == ()

    @pytest.mark.parametrize("garbage", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"schema":1}', b"{" * 40])
    async def test_row75_a_malformed_neighbour_harms_nobody(self, lab: Lab, garbage: bytes) -> None:
        facts: list[Fact] = []
        async with lab.open(facts.append) as registry:
            await registry.put(record(1))
            await lab.scribble(record(2).instance, garbage)
            await registry.put(record(3))
            assert await registry.list() == (record(1), record(3))
            assert await registry.list() == (record(1), record(3))
        assert len(rejected(facts)) == 1
        assert record(2).instance in rejected(facts)[0].key

    async def test_row75_a_record_under_another_name_is_rejected(self, lab: Lab) -> None:
        facts: list[Fact] = []
        async with lab.open(facts.append) as registry:
            await lab.scribble(record(2).instance, encode_record(record(1)))
            assert await registry.list() == ()
        assert [fact.code for fact in rejected(facts)] == [Code.RECORD_MALFORMED]

    async def test_a_malformed_record_is_mended_by_its_worker(self, lab: Lab, registry: Registry) -> None:
        await lab.scribble(record(1).instance, b"{")
        assert await registry.list() == ()
        await registry.put(record(1))
        assert await registry.list() == (record(1),)

    async def test_a_watch_begins_with_what_is_there(self, registry: Registry) -> None:
        await registry.put(record(2))
        await registry.put(record(1))
        async with watching(registry) as watcher:
            assert [await watcher.joined(), await watcher.joined()] == [record(1), record(2)]

    async def test_a_watch_tells_of_arrival_and_departure(self, lab: Lab, registry: Registry) -> None:
        async with lab.open() as reader, watching(reader) as watcher:
            await registry.put(record(1))
            assert await watcher.joined() == record(1)
            await registry.put(record(2))
            assert await watcher.joined() == record(2)
            await registry.delete(record(1).instance)
            assert await watcher.left() == record(1).instance

    async def test_row71_a_watch_tells_of_a_lease_that_ended(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        async with lab.open() as reader, watching(reader) as watcher:
            assert await watcher.joined() == record(1)
            await lab.advance(lab.ttl_s * 1.01)
            assert await watcher.left() == record(1).instance

    async def test_row72_a_worker_that_was_stopped_comes_back(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        async with lab.open() as reader, watching(reader) as watcher:
            assert await watcher.joined() == record(1)
            await lab.advance(lab.ttl_s * 1.01)
            assert await watcher.left() == record(1).instance
            if not await registry.refresh(record(1).instance):
                await registry.put(record(1))
            assert await watcher.joined() == record(1)
            assert await reader.list() == (record(1),)

    async def test_row76_a_new_incarnation_joins_after_the_old_one_left(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(2, name="org/old"))
        async with lab.open() as reader, watching(reader) as watcher:
            assert await watcher.joined() == record(2, name="org/old")
            await registry.delete(record(2).instance)
            await registry.put(record(1, name="org/new"))
            assert await watcher.left() == record(2).instance
            assert await watcher.joined() == record(1, name="org/new")

    async def test_a_changed_record_is_told_and_an_equal_one_is_not(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        async with lab.open() as reader, watching(reader) as watcher:
            assert await watcher.joined() == record(1)
            await registry.put(record(1))
            assert await registry.refresh(record(1).instance) is True
            await registry.put(record(2))
            assert await watcher.joined() == record(2)
            await registry.put(record(1, body=b'{"a":1}'))
            assert await watcher.joined() == record(1, body=b'{"a":1}')

    async def test_two_watchers_see_the_same(self, lab: Lab, registry: Registry) -> None:
        async with lab.open() as reader, watching(reader) as one, watching(reader) as other:
            await registry.put(record(1))
            assert await one.joined() == await other.joined() == record(1)
            await registry.delete(record(1).instance)
            assert await one.left() == await other.left() == record(1).instance

    async def test_a_watch_passes_over_a_malformed_neighbour(self, lab: Lab, registry: Registry) -> None:
        facts: list[Fact] = []
        async with lab.open(facts.append) as reader, watching(reader) as watcher:
            await registry.put(record(1))
            assert await watcher.joined() == record(1)
            await lab.scribble(record(2).instance, b"not json")
            await registry.put(record(3))
            assert await watcher.joined() == record(3)
        assert [fact.code for fact in rejected(facts)] == [Code.CARD_MALFORMED]

    async def test_a_slow_consumer_misses_no_state(self, lab: Lab, registry: Registry) -> None:
        await registry.put(record(1))
        async with lab.open() as reader, watching(reader) as watcher:
            assert await watcher.joined() == record(1)
            for number in range(2, 12):
                await registry.put(record(number))
            await registry.delete(record(1).instance)
            assert await watcher.left() == record(1).instance
            assert [await watcher.joined() for _ in range(10)] == [record(number) for number in range(2, 12)]

    async def test_a_cancelled_watch_leaves_nothing_behind(self, lab: Lab, registry: Registry) -> None:
        before = {task.id for task in anyio.get_running_tasks()}
        await registry.put(record(1))
        async with lab.open() as reader:
            with anyio.CancelScope() as scope:
                async with watching(reader) as watcher, anyio.create_task_group() as tasks:
                    assert await watcher.joined() == record(1)
                    tasks.start_soon(watcher.next)
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
            assert await reader.list() == (record(1),)
        assert {task.id for task in anyio.get_running_tasks()} == before
