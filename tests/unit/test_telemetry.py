"""Facts are counted and logged, each as one line."""

from __future__ import annotations

import dataclasses
import logging
from typing import get_args

import pytest

from placecard.errors import Code
from placecard.telemetry import (
    BlobQuarantined,
    BytesArrived,
    CandidateFailed,
    Counters,
    Degraded,
    Fact,
    Fallback,
    FileHeld,
    RecordRejected,
    ignore,
    log,
    tee,
)

FORGED = 'x\nERROR Degraded code="\x1b[31mnothing\u202e'
DEGRADED = Degraded(Code.REQUIRED_FILE_MISSING, "image_processor", "preprocessor_config.json", "gone", "publish again")


def test_facts_are_counted_by_kind_and_by_small_labels() -> None:
    counters = Counters()
    for fact in (
        DEGRADED,
        DEGRADED,
        CandidateFailed("a.json", "http://h/a.json", Code.TRUNCATED, "3 of 5 bytes"),
        RecordRejected("key", Code.RECORD_MALFORMED, "no JSON"),
        Fallback("copy_instead_of_link", "EPERM"),
        BlobQuarantined("blake3:0", "size"),
        FileHeld("a.json", 5),
        BytesArrived("m", "a.json", 5),
    ):
        counters(fact)
    assert counters.as_json() == {
        "BlobQuarantined": 1,
        "BytesArrived": 1,
        "CandidateFailed:TRUNCATED": 1,
        "Degraded:REQUIRED_FILE_MISSING": 2,
        "Fallback:copy_instead_of_link": 1,
        "FileHeld": 1,
        "RecordRejected:RECORD_MALFORMED": 1,
    }


def test_names_and_addresses_never_become_labels() -> None:
    counters = Counters()
    for number in range(100):
        counters(FileHeld(f"{number}.json", number))
        counters(CandidateFailed(f"{number}", f"http://10.0.0.{number}/x", Code.TRUNCATED, str(number)))
    assert counters.as_json() == {"CandidateFailed:TRUNCATED": 100, "FileHeld": 100}


def test_every_loss_is_logged_at_warning_or_above(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="placecard")
    log(DEGRADED)
    log(Fallback("polling_instead_of_inotify", "ENOSPC"))
    log(RecordRejected("key", Code.RECORD_MALFORMED, "no JSON"))
    log(BlobQuarantined("blake3:0", "size"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "WARNING", "ERROR"]
    assert "missing='preprocessor_config.json'" in caplog.messages[0]


@pytest.mark.parametrize("kind", get_args(Fact))
def test_one_fact_is_one_line_whatever_it_holds(kind: type, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="placecard")
    values = {"str": FORGED, "int": 1, "float": 0.5, "bool": True, "Code": Code.INTERNAL}
    log(kind(**{field.name: values[str(field.type)] for field in dataclasses.fields(kind)}))
    (message,) = caplog.messages
    assert message.startswith(kind.__name__)
    assert message.isprintable()


def test_routine_is_not_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="placecard")
    log(FileHeld("a.json", 5))
    assert caplog.messages == []


def test_tee_hands_each_fact_to_all_in_order() -> None:
    seen: list[tuple[int, Fact]] = []
    observe = tee(lambda fact: seen.append((1, fact)), ignore, lambda fact: seen.append((2, fact)))
    observe(DEGRADED)
    assert seen == [(1, DEGRADED), (2, DEGRADED)]
