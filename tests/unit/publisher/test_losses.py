"""What a publisher leaves out against its will is told: which file, for whom, why, and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.simulator.models import write_text_model, write_vl_model

from placecard.admission import State
from placecard.admission.losses import losses
from placecard.card import Card, LeftOut
from placecard.errors import CardDefectsError, Code
from placecard.publisher.build import BuildReport, build_card
from placecard.publisher.selection import MAX_LEFT_OUT, bounded


async def built(directory: Path, template: Path | None = None) -> tuple[Card, BuildReport]:
    return await build_card(directory, name="acme/tiny", template=template)


def told(report: BuildReport) -> set[tuple[Code, str, str]]:
    return {(fact.code, fact.consumer, fact.missing) for fact in report.degraded}


@pytest.mark.parametrize(
    "reason",
    ["link out of the directory", "unreadable", "dangling link", "not regular", "device", "unsafe name", "too deep"],
)
def test_row34_a_file_that_could_not_be_taken_is_a_loss_with_its_consumer_and_mend(reason: str) -> None:
    (fact,) = losses([LeftOut("processor_config.json", reason)])
    assert (fact.code, fact.consumer, fact.missing) == (
        Code.FILE_LEFT_OUT, "image_processor", "processor_config.json",
    )  # fmt: skip
    assert reason in fact.detail and len(fact.mend) > 10


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.safetensors", "unreadable"),
        ("modeling.py", "link out of the directory"),
        (".env", "hidden"),
        ("chat_template.json", "replaced by the operator's template"),
        ("loop", "link to a directory above it"),
    ],
)
def test_what_stays_out_by_choice_is_no_loss(name: str, reason: str) -> None:
    assert losses([LeftOut(name, reason)]) == ()


def test_what_is_there_from_another_place_is_no_loss() -> None:
    assert losses([LeftOut("tokenizer.json", "unreadable")], held={"tokenizer.json"}) == ()


def test_many_files_that_nobody_is_known_to_read_are_told_together() -> None:
    left_out = [LeftOut(f"notes-{number}.txt", "unreadable") for number in range(500)]
    (fact,) = losses([*left_out, LeftOut("model.bin", "unreadable")])
    assert (fact.consumer, fact.missing) == ("", "notes-0.txt") and "and others" in fact.detail
    assert len(fact.detail) < 300


async def test_row34_links_out_of_the_directory_degrade(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "model")
    (model / "processor_config.json").write_text("{}")
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("chat_template.json", "processor_config.json", "generation_config.json"):
        (model / name).rename(shared / name)
        (model / name).symlink_to(shared / name)
    card, report = await built(model)
    assert report.state is State.DEGRADED
    assert told(report) == {
        (Code.FILE_LEFT_OUT, "chat_template", "chat_template.json"),
        (Code.FILE_LEFT_OUT, "image_processor", "processor_config.json"),
        (Code.FILE_LEFT_OUT, "generation_config", "generation_config.json"),
    }
    assert all("by the file" in fact.mend and fact.missing in fact.mend for fact in report.degraded)
    assert losses(card.left_out) == report.degraded


async def test_row34_what_is_no_file_degrades(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model")
    (model / "generation_config.json").unlink()
    os.mkfifo(model / "generation_config.json")
    (model / "added_tokens.json").symlink_to("nowhere")
    (model / "1_Pooling").symlink_to(tmp_path)
    _, report = await built(model)
    assert told(report) == {
        (Code.FILE_LEFT_OUT, "generation_config", "generation_config.json"),
        (Code.FILE_LEFT_OUT, "tokenizer", "added_tokens.json"),
        (Code.FILE_LEFT_OUT, "", "1_Pooling"),
    }


async def test_a_loss_that_a_need_has_told_is_not_told_twice(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "model")
    (model / "preprocessor_config.json").rename(tmp_path / "p.json")
    (model / "preprocessor_config.json").symlink_to(tmp_path / "p.json")
    _, report = await built(model)
    assert told(report) == {(Code.REQUIRED_FILE_MISSING, "image_processor", "preprocessor_config.json")}
    assert "link out of the directory" in report.degraded[0].mend


async def test_the_operators_template_makes_a_lost_one_no_loss(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "model")
    (model / "chat_template.json").unlink()
    (model / "chat_template.json").symlink_to("/nowhere")
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages[0].content }}")
    _, report = await built(model, own)
    assert (report.state, report.degraded) == (State.READY, ())


async def test_row34_a_configuration_that_is_a_link_out_is_named_before_anything_is_read(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model")
    (model / "config.json").rename(tmp_path / "c.json")
    (model / "config.json").symlink_to(tmp_path / "c.json")
    with pytest.raises(CardDefectsError, match="link out of the directory") as raised:
        await built(model)
    assert raised.value.code is Code.CARD_INCOMPLETE and "Replace the link" in raised.value.mend


async def test_row35_a_flood_of_files_pushes_out_no_file_that_is_known_or_mentioned(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "model")
    modules = [{"path": "zz_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "zz_Pooling").mkdir()
    (model / "zz_Pooling" / "config.json").write_text(json.dumps({"pooling": " " * 4000}))
    for number in range(2000):
        (model / f"f{number:04}.txt").touch()
    card, report = await built(model)
    names = {file.name for file in card.files}
    wanted = {
        "tokenizer.json",
        "vocab.json",
        "preprocessor_config.json",
        "chat_template.json",
        "zz_Pooling/config.json",
    }
    assert len(names) == 1024 and wanted <= names
    assert {(fact.code, fact.consumer) for fact in report.degraded} == {(Code.HARVEST_TRUNCATED, "")}
    assert report.degraded[0].missing.startswith("f") and "bounds of a card" in report.degraded[0].detail


def test_a_card_lists_a_bounded_number_of_what_is_left_out() -> None:
    listed = bounded([*(LeftOut(f"f{n:04}", "budget") for n in range(3000)), LeftOut("vocab.txt", "unreadable")])
    assert len(listed) == MAX_LEFT_OUT + 1
    assert LeftOut("vocab.txt", "unreadable") in listed
    assert listed[-1] == LeftOut("1977 further entries", "budget")


@pytest.mark.parametrize(("name", "says"), [("model-Q4.gguf", "GGUF"), ("adapter_config.json", "base model")])
async def test_what_is_no_model_is_told_before_anything_is_read(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(CardDefectsError) as raised:
        await built(tmp_path)
    assert raised.value.code is Code.CARD_INCOMPLETE and says in str(raised.value) + raised.value.mend


async def test_row35_what_lies_beyond_the_bound_of_one_walk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_text_model(tmp_path / "model")
    (model / "more").mkdir()
    for number in range(50):
        (model / "more" / f"{number}.txt").touch()
    monkeypatch.setattr("placecard.source.listing.MAX_ENTRIES", 40)
    card, report = await built(model)
    (fact,) = report.degraded
    assert (fact.code, report.state) == (Code.HARVEST_TRUNCATED, State.DEGRADED)
    assert losses(card.left_out) == (fact,)
