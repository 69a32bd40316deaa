"""Dynamo's file discovery: what its workers wrote is found, what is no record is stated and harms nothing."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.card import Card, CheckedFile, Role, digest_of, encode_card
from placecard.card.model import Lora, Serving
from placecard.discovery import Joined, Left, Record
from placecard.dynamo import DynamoFileRegistry, Worker, encode_model_record
from placecard.dynamo.filekv import MODELS, FileKv, decode_key, encode_key
from placecard.dynamo.record import decode_model_record, dynamo_instance_id
from placecard.errors import Code, DiscoveryError
from placecard.telemetry import Fact, Fallback, RecordRejected
from tests.unit.dynamo.cards import GOLDEN, HOST, checked, dynamo_card, record, refusals

INSTANCE = "00112233445566778899aabbccddeeff"
KEY = "prod/backend/generate/ff"


def put_raw(root: Path, key: str, value: Any) -> Path:
    """Write a model record as a stock worker would."""
    path = root / MODELS / encode_key(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


async def listing(root: Path) -> tuple[tuple[Record, ...], list[Fact]]:
    facts: list[Fact] = []
    async with DynamoFileRegistry(root, observe=facts.append) as registry:
        return await registry.list(), facts


def our_record(**changes: Any) -> Record:
    data = b"{}"
    config = CheckedFile(name="config.json", digest=digest_of(data), size=2, role=Role.MODEL_INFO.value)
    return Record(INSTANCE, Card(name="River", files=(config,)), address="http://127.0.0.1:9000", **changes)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("stock-*.json")), ids=lambda path: path.stem)
async def test_records_of_the_real_worker_are_found(tmp_path: Path, path: Path) -> None:
    raw = json.loads(path.read_bytes())
    key = f"{raw['namespace']}/backend/generate/{raw['instance_id']:x}"
    put_raw(tmp_path, key + (f"/{raw['model_suffix']}" if "model_suffix" in raw else ""), raw)
    (found,), facts = await listing(tmp_path)
    assert facts == []
    assert found.card.name == raw["card_json"]["display_name"]
    assert (found.address, found.complete) == (None, "hosted" in path.stem)
    assert len(found.instance) == 32
    assert (await listing(tmp_path))[0] == (found,)  # the instance is the same for every reader


async def test_an_absent_directory_is_an_empty_registry(tmp_path: Path) -> None:
    assert await listing(tmp_path / "later") == ((), [])


async def test_workers_and_adapters_are_told_apart(tmp_path: Path) -> None:
    put_raw(tmp_path, KEY, record())
    put_raw(tmp_path, "prod/backend/generate/fe", record(instance_id=254))
    adapter = record(dynamo_card(display_name="tuned", lora={"name": "tuned"}), model_suffix="tuned")
    put_raw(tmp_path, f"{KEY}/tuned", adapter)
    found, facts = await listing(tmp_path)
    assert len({each.instance for each in found}) == 3
    assert list(found) == sorted(found, key=lambda each: each.instance)
    assert facts == []


async def test_a_lease_that_ran_out_is_no_worker(tmp_path: Path) -> None:
    age(put_raw(tmp_path, KEY, record()), 11.0)
    put_raw(tmp_path, "prod/backend/generate/fe", record(instance_id=254))
    found, _ = await listing(tmp_path)
    assert [each.card.unknown["dynamo"]["instance_id"] for each in found] == [254]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", Code.CARD_MALFORMED),
        (b'{"type": "Mod', Code.CARD_MALFORMED),
        (b"\xff\xfe", Code.CARD_MALFORMED),
        ({"type": "Model"}, Code.RECORD_MALFORMED),
        (record(namespace=None), Code.RECORD_MALFORMED),
        (record(instance_id=None), Code.RECORD_MALFORMED),
        (record(instance_id=254), Code.RECORD_MALFORMED),
        (record(namespace="other"), Code.RECORD_MALFORMED),
        (record(model_suffix="tuned"), Code.RECORD_MALFORMED),
        (record(type="Endpoint"), Code.CARD_SCHEMA),
        (record(dynamo_card(model_info=None)), Code.CARD_INCOMPLETE),
        (record(dynamo_card(checked(f"{HOST}/a", checksum="TODO"))), Code.DIGEST_SYNTAX),
        (record(dynamo_card(slug="../../../evil")), Code.CARD_BAD_STRING),
        (b'{"a": "' + b"x" * (4 << 20) + b'"}', Code.CARD_TOO_LARGE),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_malformed_record_is_stated_once_and_others_are_untouched(
    tmp_path: Path, value: Any, code: Code
) -> None:
    put_raw(tmp_path, KEY, value)
    put_raw(tmp_path, "prod/backend/generate/1", record(instance_id=1))
    facts: list[Fact] = []
    async with DynamoFileRegistry(tmp_path, observe=facts.append) as registry:
        for _ in range(3):
            assert len(await registry.list()) == 1
            os.utime(tmp_path / MODELS / encode_key(KEY))
    (fact,) = facts
    assert isinstance(fact, RecordRejected)
    assert (fact.code, fact.key) == (code, ascii(KEY))


async def test_what_is_no_file_is_no_record(tmp_path: Path) -> None:
    directory = tmp_path / MODELS
    (directory / encode_key(KEY)).mkdir(parents=True)
    os.mkfifo(directory / encode_key("a/b/c/1"))
    (tmp_path / "secret").write_text(json.dumps(record()))
    (directory / encode_key("prod/backend/generate/fe")).symlink_to(tmp_path / "secret")
    (directory / ".tmp_0123456789abcdef").write_text(json.dumps(record()))
    assert await listing(tmp_path) == ((), [])


async def test_an_unreadable_rewrite_keeps_the_last_good_record(tmp_path: Path) -> None:
    path = put_raw(tmp_path, KEY, record())
    facts: list[Fact] = []
    async with DynamoFileRegistry(tmp_path, observe=facts.append) as registry:
        before = await registry.list()
        path.write_bytes(b"{half")
        assert await registry.list() == before
        put_raw(tmp_path, KEY, record(dynamo_card(display_name="new")))
        (after,) = await registry.list()
    assert after.card.name == "new"
    assert [type(fact) for fact in facts] == [RecordRejected]


async def test_what_was_passed_over_is_stated(tmp_path: Path) -> None:
    put_raw(tmp_path, KEY, record(dynamo_card(tokenizer={"of_tomorrow": {}})))
    (found,), facts = await listing(tmp_path)
    assert found.card.slot(Role.TOKENIZER) is None
    assert [fact.kind for fact in facts if isinstance(fact, Fallback)] == ["dynamo_card_read_in_part"]


async def test_one_look_takes_a_bounded_number_of_bytes_and_keeps_whom_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: list[Fact] = []
    known = put_raw(tmp_path, "prod/backend/generate/ff", record())
    monkeypatch.setattr("placecard.dynamo.registry.MAX_LOOK_BYTES", 3 * known.stat().st_size)
    async with DynamoFileRegistry(tmp_path, observe=facts.append) as registry:
        (before,) = await registry.list()
        dead = put_raw(tmp_path, "prod/backend/generate/1", record(instance_id=1))
        age(dead, 3600.0)
        for number in range(2, 8):
            put_raw(tmp_path, f"prod/backend/generate/{number:x}", record(instance_id=number))
        for _ in range(3):
            found = await registry.list()
            assert len(found) == 3 and before in found
        (fact,) = facts
        assert isinstance(fact, Fallback)
        assert fact.kind == "dynamo_records_passed_over" and "4 records" in fact.cause
        for number in range(2, 8):
            (tmp_path / MODELS / encode_key(f"prod/backend/generate/{number:x}")).unlink()
        assert await registry.list() == (before,)


async def test_a_root_that_is_a_file_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("")
    with pytest.raises(DiscoveryError) as caught:
        await listing(tmp_path / "kv")
    assert caught.value.code is Code.DISCOVERY_UNAVAILABLE


async def test_a_root_that_every_user_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv").chmod(0o777)
    with pytest.raises(DiscoveryError) as caught:
        await listing(tmp_path / "kv")
    assert caught.value.code is Code.DISCOVERY_FORBIDDEN


async def test_a_clock_that_jumps_ends_no_lease_that_is_renewed(tmp_path: Path) -> None:
    now = 0.0
    path = put_raw(tmp_path, KEY, record())
    async with DynamoFileRegistry(tmp_path, clock=lambda: now) as registry:
        assert len(await registry.list()) == 1
        now = 1.0
        age(path, 3600.0)  # the worker's clock went back an hour; it was touched all the same
        assert len(await registry.list()) == 1
        now = 11.5
        assert await registry.list() == ()


async def test_watch_reports_each_state_once(tmp_path: Path) -> None:
    put_raw(tmp_path, KEY, record())
    async with DynamoFileRegistry(tmp_path, period_s=0.01) as registry:
        watch = registry.watch()
        with anyio.fail_after(10):
            first = await anext(watch)
            path = put_raw(tmp_path, "prod/backend/generate/1", record(instance_id=1))
            second = await anext(watch)
            os.utime(path)
            await anyio.sleep(0.05)
            path.unlink()
            third = await anext(watch)
            put_raw(tmp_path, KEY, record(dynamo_card(display_name="new")))
            fourth = await anext(watch)
    assert isinstance(first, Joined)
    assert isinstance(second, Joined)
    assert third == Left(second.record.instance)
    assert isinstance(fourth, Joined)
    assert (fourth.record.instance, fourth.record.card.name) == (first.record.instance, "new")


async def test_watch_keeps_what_it_knew_while_it_cannot_look(tmp_path: Path) -> None:
    put_raw(tmp_path, KEY, record())
    facts: list[Fact] = []
    async with DynamoFileRegistry(tmp_path, period_s=0.01, observe=facts.append) as registry:
        watch = registry.watch()
        with anyio.fail_after(10):
            await anext(watch)
            (tmp_path / MODELS).rename(tmp_path / "aside")
            (tmp_path / MODELS).write_text("in the way")
            with anyio.move_on_after(0.1):
                raise AssertionError(await anext(watch))
    assert [fact.kind for fact in facts if isinstance(fact, Fallback)] == ["last_known_records"]


async def test_what_is_put_is_found_with_its_own_instance_and_address(tmp_path: Path) -> None:
    async with DynamoFileRegistry(tmp_path) as registry:
        await registry.put(our_record())
        (found,) = await registry.list()
        assert (found.instance, found.address, found.complete) == (INSTANCE, "http://127.0.0.1:9000", True)
        assert found.card == our_record().card
        names = {decode_key(path.name) for path in (tmp_path / "v1").glob("*/*")}
        assert names == {f"dynamo/backend/generate/{dynamo_instance_id(INSTANCE):x}"}
        assert await registry.refresh(INSTANCE)
        await registry.delete(INSTANCE)
        assert await registry.list() == ()
        assert not await registry.refresh(INSTANCE)
        await registry.delete(INSTANCE)
    assert list((tmp_path / "v1").glob("*/*")) == []


async def test_what_dynamo_cannot_do_with_our_record_is_stated_once(tmp_path: Path) -> None:
    facts: list[Fact] = []
    async with DynamoFileRegistry(
        tmp_path, worker=Worker(request_address="10.0.0.1:7"), observe=facts.append
    ) as registry:
        await registry.put(our_record())
        await registry.put(our_record())
    (fact,) = facts
    assert isinstance(fact, Fallback)
    assert (fact.kind, "10.0.0.1:7" in fact.cause) == ("dynamo_lists_metadata_only", True)


async def test_refresh_says_when_a_front_end_swept_the_record(tmp_path: Path) -> None:
    async with DynamoFileRegistry(tmp_path) as registry:
        await registry.put(our_record())
        for bucket in ("v1/instances", "v1/mdc"):
            (path,) = (tmp_path / bucket).iterdir()
            path.unlink()
            assert not await registry.refresh(INSTANCE)
            await registry.put(our_record())
            assert await registry.refresh(INSTANCE)


async def test_delete_finds_what_an_earlier_process_wrote(tmp_path: Path) -> None:
    adapter = our_record()
    serving = Serving(lora=Lora(name="My.Adapter"))
    card = Card(name="My.Adapter", files=adapter.card.files, serving=serving)
    async with DynamoFileRegistry(tmp_path) as registry:
        await registry.put(Record(INSTANCE, card, address="http://127.0.0.1:9000"))
        (path,) = (tmp_path / MODELS).iterdir()
        assert decode_key(path.name).endswith("/my_adapter")
    async with DynamoFileRegistry(tmp_path) as registry:
        put_raw(tmp_path, KEY, record())
        await registry.delete(INSTANCE)
        assert [each.card.name for each in await registry.list()] == ["river"]


async def test_put_again_under_another_name_leaves_one_record(tmp_path: Path) -> None:
    async with DynamoFileRegistry(tmp_path) as registry:
        await registry.put(our_record())
        card = Card(name="t", files=our_record().card.files, serving=Serving(lora=Lora(name="t")))
        await registry.put(Record(INSTANCE, card, address="http://127.0.0.1:9000"))
        assert [each.card.name for each in await registry.list()] == ["t"]


def written(record: Record) -> dict[str, Any]:
    """Return the record that stands in Dynamo's registry for one of ours."""
    body: dict[str, Any] = json.loads(encode_model_record(record, Worker()).model)
    return body


async def test_nobody_speaks_for_another_instance(tmp_path: Path) -> None:
    async with DynamoFileRegistry(tmp_path) as registry:
        await registry.put(our_record())
    forged = written(replace(our_record(), address="http://6.6.6.6:6"))
    put_raw(tmp_path, "dynamo/backend/generate/ff", forged | {"instance_id": 255})
    twin = forged | {"namespace": "zzz"}
    put_raw(tmp_path, f"zzz/backend/generate/{twin['instance_id']:x}", twin)
    found, facts = await listing(tmp_path)
    assert {each.address for each in found if each.instance == INSTANCE} == {"http://127.0.0.1:9000"}
    assert len(found) == 2
    assert [fact.code for fact in facts if isinstance(fact, RecordRejected)] == [Code.RECORD_MALFORMED]


@pytest.mark.parametrize(
    "change",
    [
        {"card": None},
        {"card": {"schema": 99, "name": "River", "files": []}},
        {"card": {"schema": 1, "name": "River", "files": []}},
        {"card": json.loads(encode_card(Card(name="Other", files=our_record().card.files)))},
        {"instance": "x"},
        {"instance": "0" * 32},
        {"address": "ftp://h"},
        {"address": "http://u:p@h:1"},
        {"address": 7},
        {"complete": 1},
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_mark_that_is_none_of_ours_is_stated_and_dynamos_card_read(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    body = written(our_record())
    body["card_json"]["user_data"]["placecard"] |= change
    put_raw(tmp_path, f"dynamo/backend/generate/{body['instance_id']:x}", body)
    (found,), facts = await listing(tmp_path)
    assert (found.card.name, found.address, found.instance == INSTANCE) == ("River", None, False)
    assert [type(fact) for fact in facts] == [Fallback]


async def test_a_record_with_other_files_than_dynamos_is_dynamos(tmp_path: Path) -> None:
    body = written(our_record())
    body["card_json"]["model_info"]["hf_config_json"]["checksum"] = digest_of(b"other")
    put_raw(tmp_path, f"dynamo/backend/generate/{body['instance_id']:x}", body)
    (found,), _ = await listing(tmp_path)
    assert found.card.files[0].digest == digest_of(b"other")
    assert found.instance != INSTANCE


def test_nested_files_and_sources_survive_for_other_placecards() -> None:
    nested = CheckedFile(name="1_Pooling/config.json", digest=digest_of(b"1"), size=1, sources=("file:///m/x",))
    card = Card(name="river", files=(*our_record().card.files, nested), origin="hf://a/b@" + "0" * 40)
    record = Record(INSTANCE, card, address="http://127.0.0.1:9000")
    written = encode_model_record(record, Worker())
    assert decode_model_record(written.model, key=written.model_key)[0] == record


@pytest.mark.parametrize("instance", ["", "0" * 31, "0" * 33, "G" * 32, "../../../../../../../../../../.."])
def test_an_instance_that_is_none_is_refused(instance: str) -> None:
    assert refusals(lambda: dynamo_instance_id(instance)) == [Code.RECORD_MALFORMED]


def test_a_key_is_encoded_as_dynamo_does() -> None:
    """Source: file names that ai-dynamo 1.6.1 wrote for a worker's query endpoint and topic."""
    name = "dynamo%2Fbackend%2Fworker%5Fkv%5Fquery%5Fsource%5F128523c280e948%2F24b247b9180f9f8"
    assert encode_key("dynamo/backend/worker_kv_query_source_128523c280e948/24b247b9180f9f8") == name
    assert encode_key("kv-events") == "kv%2Devents"


@given(st.text(max_size=40).filter(lambda text: text.isprintable()))
def test_a_key_survives_its_file_name_and_cannot_leave_the_directory(key: str) -> None:
    name = encode_key(key)
    assert decode_key(name) == key
    assert "/" not in name
    assert not name.startswith(".")


def test_the_store_says_why_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "v1").write_text("in the way")
    kv = FileKv(tmp_path)
    assert refusals(lambda: kv.write(MODELS, KEY, b"{}")) == [Code.DISCOVERY_UNAVAILABLE]
    assert refusals(lambda: kv.scan(MODELS)) == [Code.DISCOVERY_UNAVAILABLE]
    assert refusals(lambda: kv.touch(MODELS, KEY)) == [Code.DISCOVERY_UNAVAILABLE]


def test_a_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    kv = FileKv(tmp_path)
    kv.write(MODELS, KEY, b"one")
    kv.write(MODELS, KEY, b"two")
    (path,) = (tmp_path / MODELS).iterdir()
    assert kv.read(MODELS, path.name, max_bytes=100) == b"two"
    assert kv.read(MODELS, path.name, max_bytes=1) == b"tw"
