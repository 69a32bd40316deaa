"""Findings: what each consumer misses, who would have it, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from placecard.admission import Configs, Consumer, ConsumerReport, Limits, Loader, LoadReport, State
from placecard.card import Card, CheckedFile, LeftOut, digest_of
from placecard.doctor import Diagnosis, Finding, Status, examine, examine_directory
from placecard.errors import Code, UsageError
from tests.simulator.models import write_vl_model

VL = Configs({"config.json": {"model_type": "qwen2_vl", "vision_config": {}}})
MISSING = "preprocessor_config.json"


def card(*, advertised: tuple[str, ...] | None = None, left_out: tuple[LeftOut, ...] = ()) -> Card:
    files = [CheckedFile(name="config.json", digest=digest_of(b"x"), size=1, role="model_info")]
    if advertised is not None:
        files.append(
            CheckedFile(
                name=MISSING, digest=digest_of(b"y"), size=1, consumers=("image_processor",), sources=advertised
            )
        )
    return Card(name="tiny", origin="hf://acme/tiny@" + "a" * 40, files=tuple(files), left_out=left_out)


def of(diagnosis: Diagnosis, consumer: Consumer) -> Finding:
    (finding,) = [each for each in diagnosis.findings if each.consumer == consumer]
    return finding


def test_each_consumer_has_a_finding() -> None:
    findings = examine({"config.json"}, Configs({"config.json": {}}), None).findings
    assert {finding.consumer for finding in findings} == set(Consumer)
    assert {finding.consumer: finding.status for finding in findings} == dict.fromkeys(Consumer, Status.ABSENT) | {
        "config": Status.OK
    }


@pytest.mark.parametrize(
    ("the_card", "looked_at", "who"),
    [
        (None, (), "nobody is known to have it: there is no card"),
        (card(), (), f"not on the card; the publisher took the model from hf://acme/tiny@{'a' * 40}"),
        (card(), ("/models/tiny",), "not on the card, and not in /models/tiny"),
        (card(left_out=(LeftOut(MISSING, "unreadable"),)), (), "it was there and was left out (unreadable)"),
        (
            card(advertised=("http://10.0.0.7:8001/v1/metadata/tiny/x", "file:///m/x")),
            (),
            "the card advertises it at 10.0.0.7:8001, file:///m/x; none delivered it",
        ),
    ],
    ids=["no card", "card without it", "looked at", "left out", "advertised"],
)
def test_a_missing_file_names_who_would_have_it(the_card: Card | None, looked_at: tuple[str, ...], who: str) -> None:
    finding = of(examine({"config.json"}, VL, None, the_card, looked_at=looked_at), Consumer.IMAGE_PROCESSOR)
    assert (finding.status, finding.missing, finding.who_would_have_it) == (Status.DEGRADED, MISSING, who)
    assert MISSING in finding.mend


def test_a_missing_configuration_fails() -> None:
    finding = of(examine({"tokenizer.json"}, Configs(), None), Consumer.CONFIG)
    assert (finding.status, finding.missing) == (Status.FAILED, "config.json")


def test_a_file_that_does_not_parse_fails_without_being_opened() -> None:
    configs = Configs({}, {"generation_config.json": "not JSON at line 1"})
    finding = of(examine({"config.json", "generation_config.json"}, configs, None), Consumer.GENERATION_CONFIG)
    assert finding.status is Status.FAILED and "line 1" in finding.detail and finding.mend


def test_a_consumer_that_failed_says_what_it_saw_and_what_to_do() -> None:
    report = LoadReport(
        consumers=(
            ConsumerReport(consumer="tokenizer", ok=False, code=Code.CONSUMER_PANICKED, detail="out of range"),
            ConsumerReport(consumer="config", ok=True, detail="Qwen2Config"),
            ConsumerReport(consumer="chat_template", ok=False, skipped=True, detail="no chat template"),
        )
    )
    findings = examine({"config.json", "tokenizer.json"}, Configs({"config.json": {}}), report)
    tokenizer = of(findings, Consumer.TOKENIZER)
    assert (tokenizer.status, tokenizer.detail) == (Status.FAILED, "out of range") and tokenizer.mend
    assert of(findings, Consumer.CONFIG).status is Status.OK
    assert of(findings, Consumer.CHAT_TEMPLATE) == Finding(
        consumer=Consumer.CHAT_TEMPLATE, status=Status.ABSENT, detail="no chat template"
    )


def test_a_consumer_that_is_not_installed_is_degraded_where_it_has_files() -> None:
    skipped = ConsumerReport(
        consumer="image_processor", ok=False, skipped=True, code=Code.LOAD_TEST_UNAVAILABLE, detail="not installed"
    )
    report = LoadReport(consumers=(skipped,))
    finding = of(examine({"config.json", MISSING}, VL, report), Consumer.IMAGE_PROCESSOR)
    assert finding.status is Status.DEGRADED and "pip install" in finding.mend


def test_a_finding_is_plain_json() -> None:
    finding = of(examine({"config.json"}, VL, None), Consumer.IMAGE_PROCESSOR)
    assert finding.as_json()["status"] == "DEGRADED" and finding.as_json()["consumer"] == "image_processor"


async def test_a_directory_is_read_opened_and_examined(tmp_path: Path) -> None:
    directory = write_vl_model(tmp_path / "vl")
    async with Loader(Limits(seconds=30)) as loader:
        whole = await examine_directory(directory, loader=loader)
        (directory / MISSING).unlink()
        lacking = await examine_directory(directory, loader=loader, looked_at=(str(directory),))
    statuses = {finding.consumer: finding.status for finding in whole.findings}
    served = {"config", "generation_config", "tokenizer", "image_processor", "chat_template"}
    assert {statuses[Consumer(consumer)] for consumer in served} == {Status.OK}
    assert statuses[Consumer.POOLING] is Status.ABSENT and not {Status.DEGRADED, Status.FAILED} & set(statuses.values())
    assert (whole.state, lacking.state) == (State.READY, State.DEGRADED)
    finding = of(lacking, Consumer.IMAGE_PROCESSOR)
    assert (finding.status, finding.missing) == (Status.DEGRADED, MISSING)
    assert finding.who_would_have_it == f"not on the card, and not in {directory}"


@pytest.mark.parametrize(
    ("consumer", "code", "state"),
    [
        ("image_processor", Code.CONSUMER_FAILED, State.DEGRADED),
        ("image_processor", Code.CONSUMER_PANICKED, State.REFUSED),
        ("generation_config", Code.CONSUMER_FAILED, State.DEGRADED),
        ("tokenizer", Code.CONSUMER_FAILED, State.REFUSED),
    ],
)
def test_the_state_is_what_a_resolve_would_come_to(consumer: str, code: Code, state: State) -> None:
    report = LoadReport(consumers=(ConsumerReport(consumer=consumer, ok=False, code=code, detail="no"),))
    diagnosis = examine({"config.json", MISSING}, VL, report)
    assert (diagnosis.state, of(diagnosis, Consumer(consumer)).status) == (state, Status.FAILED)


def test_a_finding_without_a_load_test_is_never_ready() -> None:
    configs = Configs({"config.json": {}}, {"generation_config.json": "not JSON"})
    assert examine({"config.json", "generation_config.json"}, configs, None).state is State.DEGRADED
    assert examine({"config.json"}, Configs({"config.json": {}}), None).state is State.READY


def test_a_load_test_that_could_not_be_run_is_a_finding_of_no_single_consumer() -> None:
    diagnosis = examine({"config.json"}, Configs({"config.json": {}}), LoadReport(unavailable="no transformers"))
    (finding,) = [each for each in diagnosis.findings if not each.consumer]
    assert diagnosis.state is State.DEGRADED and "no transformers" in finding.detail


def test_row34_what_was_left_out_is_a_finding_of_its_consumer() -> None:
    left_out = (LeftOut("generation_config.json", "unreadable"), LeftOut("notes.txt", "dangling link"))
    diagnosis = examine({"config.json"}, Configs({"config.json": {}}), None, left_out=left_out)
    finding = of(diagnosis, Consumer.GENERATION_CONFIG)
    assert (finding.status, finding.missing) == (Status.DEGRADED, "generation_config.json")
    assert "permission" in finding.mend and diagnosis.state is State.DEGRADED
    (other,) = [each for each in diagnosis.findings if not each.consumer]
    assert other.missing == "notes.txt"


def test_what_the_card_left_out_and_is_there_all_the_same_is_no_finding() -> None:
    the_card = card(left_out=(LeftOut("generation_config.json", "unreadable"),))
    names = {"config.json", "generation_config.json"}
    assert examine(names, Configs({"config.json": {}}), None, the_card).state is State.READY
    assert examine({"config.json"}, Configs({"config.json": {}}), None, the_card).state is State.DEGRADED


async def test_row24_a_pipe_in_the_directory_is_not_waited_for(tmp_path: Path) -> None:
    directory = write_vl_model(tmp_path / "vl")
    (directory / MISSING).unlink()
    os.mkfifo(directory / MISSING)
    async with Loader(Limits(seconds=30)) as loader:
        diagnosis = await examine_directory(directory, loader=loader)
    finding = of(diagnosis, Consumer.IMAGE_PROCESSOR)
    assert (finding.status, finding.missing) == (Status.DEGRADED, MISSING)


async def test_what_is_no_directory_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        await examine_directory(tmp_path / "absent", loader=None)


def test_row34_a_missing_file_that_is_a_link_out_has_the_mend_of_the_link() -> None:
    left_out = (LeftOut(MISSING, "link out of the directory"),)
    finding = of(examine({"config.json"}, VL, None, left_out=left_out), Consumer.IMAGE_PROCESSOR)
    assert finding.missing == MISSING and "left out (link out of the directory)" in finding.who_would_have_it
    assert "cp -L" in finding.mend
