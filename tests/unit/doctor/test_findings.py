"""Findings: what each consumer misses, who would have it, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from placecard.admission import Configs, Consumer, ConsumerReport, Limits, Loader, LoadReport
from placecard.card import Card, CheckedFile, LeftOut, digest_of
from placecard.doctor import Finding, Status, examine, examine_directory
from placecard.errors import Code
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


def of(findings: tuple[Finding, ...], consumer: Consumer) -> Finding:
    (finding,) = [each for each in findings if each.consumer == consumer]
    return finding


def test_each_consumer_has_a_finding() -> None:
    findings = examine({"config.json"}, Configs({"config.json": {}}), None)
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
    assert {finding.consumer for finding in whole if finding.status is Status.OK} == set(Consumer) - {"pooling"}
    finding = of(lacking, Consumer.IMAGE_PROCESSOR)
    assert (finding.status, finding.missing) == (Status.DEGRADED, MISSING)
    assert finding.who_would_have_it == f"not on the card, and not in {directory}"
