"""The verdict: what refuses, what degrades, and what is only said."""

from __future__ import annotations

import pytest

from placecard.admission import (
    CodeFinding,
    Consumer,
    ConsumerReport,
    Danger,
    LoadReport,
    State,
    Unmet,
    judge,
)
from placecard.errors import Code

LACK = Unmet("image_processor", "preprocessor_config.json", "config.json takes images", "Put it there.")
REFERENCE = CodeFinding("config.json", "$.auto_map", "{}", Danger.REFERENCE)
BYPASS = CodeFinding("config.json", "$._attn_implementation_internal", "'evil/x'", Danger.BYPASS)


def load(*failed: tuple[Consumer, Code], detail: str = "seen", unavailable: str = "") -> LoadReport:
    broken = dict(failed)
    return LoadReport(
        consumers=tuple(
            ConsumerReport(consumer=each.value, ok=each not in broken, code=broken.get(each), detail=detail)
            for each in Consumer
        ),
        unavailable=unavailable,
    )


def test_all_that_is_needed_is_there_and_opens() -> None:
    verdict = judge((), load())
    assert (verdict.state, verdict.degraded, verdict.errors, verdict.notices) == (State.READY, (), (), ())


def test_without_a_load_test_needs_alone_decide() -> None:
    assert judge((), None).state is State.READY
    assert judge((LACK,), None).state is State.DEGRADED


@pytest.mark.parametrize("consumer", [Consumer.TOKENIZER, Consumer.CONFIG])
@pytest.mark.parametrize("code", [Code.CONSUMER_FAILED, Code.CONSUMER_PANICKED, Code.LOAD_TEST_LIMIT])
def test_without_tokenizer_or_configuration_nothing_is_listed(consumer: Consumer, code: Code) -> None:
    verdict = judge((), load((consumer, code)))
    assert verdict.state is State.REFUSED
    assert [(error.code, error.subject) for error in verdict.errors] == [(code, consumer.value)]
    assert verdict.errors[0].mend


@pytest.mark.parametrize("consumer", [Consumer.IMAGE_PROCESSOR, Consumer.CHAT_TEMPLATE, Consumer.POOLING])
def test_any_other_failure_degrades_and_says_for_whom(consumer: Consumer) -> None:
    verdict = judge((), load((consumer, Code.CONSUMER_FAILED)))
    assert verdict.state is State.DEGRADED
    assert [(fact.code, fact.consumer) for fact in verdict.degraded] == [(Code.CONSUMER_FAILED, consumer.value)]
    assert verdict.degraded[0].detail.startswith("seen; ") and verdict.degraded[0].mend


@pytest.mark.parametrize("consumer", list(Consumer))
def test_row123_a_panic_of_any_consumer_quarantines_the_model(consumer: Consumer) -> None:
    verdict = judge((), load((consumer, Code.CONSUMER_PANICKED)))
    assert verdict.state is State.REFUSED and verdict.errors[0].code is Code.CONSUMER_PANICKED


def test_a_missing_file_names_file_consumer_and_mend() -> None:
    (fact,) = judge((LACK,), load()).degraded
    assert (fact.code, fact.consumer, fact.missing, fact.mend) == (
        Code.REQUIRED_FILE_MISSING,
        "image_processor",
        "preprocessor_config.json",
        "Put it there.",
    )
    assert "routed by text alone" in fact.detail


def test_what_is_missing_and_therefore_fails_is_told_once() -> None:
    verdict = judge((LACK,), load((Consumer.IMAGE_PROCESSOR, Code.CONSUMER_FAILED)))
    assert [fact.code for fact in verdict.degraded] == [Code.REQUIRED_FILE_MISSING]


def test_strict_refuses_what_would_be_degraded() -> None:
    verdict = judge((LACK,), load((Consumer.POOLING, Code.CONSUMER_FAILED)), strict=True)
    assert (verdict.state, verdict.degraded) == (State.REFUSED, ())
    assert [(error.code, error.subject) for error in verdict.errors] == [
        (Code.REQUIRED_FILE_MISSING, "preprocessor_config.json"),
        (Code.CONSUMER_FAILED, "pooling"),
    ]
    assert verdict.errors[0].mend == "Put it there."


def test_strict_lists_what_is_whole() -> None:
    assert judge((), load(), (REFERENCE,), strict=True).state is State.READY


def test_a_directory_without_configuration_is_refused() -> None:
    verdict = judge((Unmet("config", "config.json", "every model has one", "Put it there."),), None)
    assert verdict.state is State.REFUSED and verdict.errors[0].code is Code.REQUIRED_FILE_MISSING


def test_consumers_that_are_not_installed_are_said_once() -> None:
    skipped = ConsumerReport(consumer="image_processor", ok=False, skipped=True, code=Code.LOAD_TEST_UNAVAILABLE)
    verdict = judge((), LoadReport(consumers=(skipped,), unavailable="transformers is not installed"))
    assert verdict.state is State.DEGRADED
    assert [(fact.code, fact.consumer) for fact in verdict.degraded] == [(Code.LOAD_TEST_UNAVAILABLE, "")]


def test_one_library_that_is_not_installed_is_said_for_its_consumer() -> None:
    skipped = ConsumerReport(
        consumer="image_processor",
        ok=False,
        skipped=True,
        code=Code.LOAD_TEST_UNAVAILABLE,
        detail="PIL is not installed",
    )
    (fact,) = judge((), LoadReport(consumers=(skipped,))).degraded
    assert (fact.code, fact.consumer) == (Code.LOAD_TEST_UNAVAILABLE, "image_processor")


def test_row125_code_that_is_named_and_not_needed_is_a_notice() -> None:
    verdict = judge((), load(), (REFERENCE,))
    assert verdict.state is State.READY
    assert [(fact.code, "auto_map" in fact.detail) for fact in verdict.notices] == [(Code.CODE_BEARING_CONFIG, True)]


def test_what_was_not_searched_is_a_notice() -> None:
    finding = CodeFinding("notes.json", "$", "2000000 bytes; at most 1048576", Danger.UNSEARCHED)
    verdict = judge((), load((Consumer.TOKENIZER, Code.CONSUMER_FAILED), detail="custom code"), (finding,))
    assert verdict.errors[0].code is Code.CONSUMER_FAILED  # not for want of code: none was found
    (notice,) = verdict.notices
    assert "notes.json was not searched" in notice.detail and "notes.json" in notice.mend


def test_row125_a_tokenizer_that_wants_its_code_is_refused_for_that() -> None:
    report = load(
        (Consumer.TOKENIZER, Code.CONSUMER_FAILED), detail="pass `trust_remote_code=True` to allow custom code"
    )
    assert judge((), report, (REFERENCE,)).errors[0].code is Code.CODE_BEARING_CONFIG
    assert judge((), report, ()).errors[0].code is Code.CONSUMER_FAILED


def test_row125_a_key_that_goes_round_flags_refuses_and_is_named_in_the_mend() -> None:
    verdict = judge((), load((Consumer.CONFIG, Code.CODE_BEARING_CONFIG)), (REFERENCE, BYPASS))
    assert verdict.state is State.REFUSED
    assert verdict.errors[0].mend.startswith("Remove $._attn_implementation_internal from config.json")


def test_a_hint_says_who_has_the_file_that_a_failure_names() -> None:
    report = load((Consumer.POOLING, Code.CONSUMER_FAILED), detail="1_Pooling/config.json is missing")
    (fact,) = judge((), report, hints={"1_Pooling/config.json": "the hub repository acme/x has it"}).degraded
    assert fact.missing == "1_Pooling/config.json" and fact.mend.endswith("the hub repository acme/x has it.")
