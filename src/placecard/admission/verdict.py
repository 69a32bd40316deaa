"""The verdict: may this directory be listed, and what is worse than it should be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from placecard.admission.code_keys import CodeFinding, Danger
from placecard.admission.consumers import Consumer
from placecard.admission.needs import Unmet, mend, spoken
from placecard.admission.report import ConsumerReport, LoadReport
from placecard.errors import MEANINGS, AdmissionError, Code
from placecard.telemetry import Degraded


class State(StrEnum):
    """What may be done with a directory."""

    READY = "READY"
    DEGRADED = "DEGRADED"
    REFUSED = "REFUSED"


@dataclass(frozen=True)
class Verdict:
    """The state, and all that led to it.

    Args:
        state: READY when nothing is worse than it should be; REFUSED when there are errors.
        degraded: What is worse, for whom, and the mend.
        errors: Why the directory is refused.
        notices: What a reader of the model should know and what degrades nothing.
    """

    state: State
    degraded: tuple[Degraded, ...] = ()
    errors: tuple[AdmissionError, ...] = ()
    notices: tuple[Degraded, ...] = ()


# Without these a front end can do nothing for the model. Without the others it does less, and says so.
_ESSENTIAL: Final = frozenset({Consumer.CONFIG, Consumer.TOKENIZER})
_LOSS: Final[Mapping[str, str]] = {
    Consumer.IMAGE_PROCESSOR: "image tokens cannot be counted: requests with images are routed by text alone",
    Consumer.PROCESSOR: "requests with images or audio cannot be prepared here as the engine does it",
    Consumer.CHAT_TEMPLATE: "chats cannot be rendered here",
    Consumer.POOLING: "embeddings may be pooled otherwise than the model was trained",
    Consumer.GENERATION_CONFIG: "sampling defaults and stop tokens are not known",
    Consumer.TOKENIZER: "prompts cannot be tokenized here: the engine must",
    Consumer.CONFIG: "the model cannot be described",
}


def judge(
    unmet: Collection[Unmet],
    report: LoadReport | None,
    findings: Collection[CodeFinding] = (),
    *,
    strict: bool = False,
    hints: Mapping[str, str] | None = None,
) -> Verdict:
    """Return whether a directory may be listed.

    Args:
        unmet: Needs that no file meets.
        report: What came of the load test; None where the operator does without one.
        findings: Keys of the configuration that select code.
        strict: Refuse whatever would only be degraded.
        hints: File name to a clause that says who has it, for the mends.
    """
    errors = [*_missing_essentials(unmet), *_failed_essentials(report, findings)]
    degraded = [*_missing(unmet), *_failed(report, findings, unmet, hints), *_untested(report)]
    if strict:
        errors += [AdmissionError(fact.code, fact.detail, subject=_subject(fact), mend=fact.mend) for fact in degraded]
        degraded = []
    notices = tuple(_notices(findings))
    state = State.REFUSED if errors else State.DEGRADED if degraded else State.READY
    return Verdict(state, tuple(degraded), tuple(errors), notices)


def refuses(report: ConsumerReport) -> bool:
    """Whether this outcome alone keeps a model from being listed: an essential consumer failed, or any panicked."""
    if report.ok or report.skipped:
        return False
    return report.consumer in _ESSENTIAL or report.code is Code.CONSUMER_PANICKED


def mend_for(report: ConsumerReport, findings: Collection[CodeFinding] = ()) -> str:
    """Return what to do about a consumer that failed."""
    code = report.code or Code.CONSUMER_FAILED
    if code is Code.CODE_BEARING_CONFIG and (key := _first(findings)):
        return f"Remove {key.where} from {key.name}, and publish again. {MEANINGS[code].mend}"
    return MEANINGS[code].mend


def _missing_essentials(unmet: Collection[Unmet]) -> Iterator[AdmissionError]:
    for lack in unmet:
        if lack.consumer == Consumer.CONFIG:
            yield AdmissionError(Code.REQUIRED_FILE_MISSING, _sentence(lack), subject=lack.missing, mend=lack.mend)


def _failed_essentials(report: LoadReport | None, findings: Collection[CodeFinding]) -> Iterator[AdmissionError]:
    for outcome in report.consumers if report else ():
        if refuses(outcome):
            code = _code(outcome, findings)
            yield AdmissionError(code, outcome.detail, subject=outcome.consumer, mend=_mend(outcome, code, findings))


def _missing(unmet: Collection[Unmet]) -> Iterator[Degraded]:
    for lack in unmet:
        if lack.consumer != Consumer.CONFIG:
            yield Degraded(Code.REQUIRED_FILE_MISSING, lack.consumer, lack.missing, _sentence(lack), lack.mend)


def _failed(
    report: LoadReport | None,
    findings: Collection[CodeFinding],
    unmet: Collection[Unmet],
    hints: Mapping[str, str] | None,
) -> Iterator[Degraded]:
    """Yield what failed and refuses nothing, unless a missing file has told the same already."""
    told = {lack.consumer for lack in unmet}
    for outcome in report.consumers if report else ():
        if outcome.ok or refuses(outcome) or outcome.consumer in told:
            continue
        if outcome.skipped and outcome.code is None:
            continue
        if outcome.skipped and report is not None and report.unavailable:
            continue  # said once for all of them
        code = _code(outcome, findings)
        detail = f"{outcome.detail}; {_LOSS.get(outcome.consumer, '')}".rstrip("; ")
        missing = next((name for name in hints or {} if name in outcome.detail), "")
        advice = mend(missing, hints) if missing else _mend(outcome, code, findings)
        yield Degraded(code, outcome.consumer, missing, detail, advice)


def _untested(report: LoadReport | None) -> Iterator[Degraded]:
    if report is not None and report.unavailable:
        code = Code.LOAD_TEST_UNAVAILABLE
        yield Degraded(code, "", "", f"not every consumer was run: {report.unavailable}", MEANINGS[code].mend)


def _notices(findings: Collection[CodeFinding]) -> Iterator[Degraded]:
    """Say which keys select code. Whether that costs anything is told by the consumers, which were run without it."""
    for finding in findings:
        advice = MEANINGS[Code.CODE_BEARING_CONFIG].mend
        if finding.danger is Danger.UNSEARCHED:
            detail = f"{finding.name} was not searched for keys that select code: {finding.value}"
            advice = f"Nothing, if no consumer opens {finding.name}; else make it smaller, or correct it."
        else:
            detail = f"{finding.name}: {finding.where} = {finding.value}: no code of a model directory is run"
        yield Degraded(Code.CODE_BEARING_CONFIG, "", "", detail, advice)


def _code(outcome: ConsumerReport, findings: Collection[CodeFinding]) -> Code:
    """Return the outcome's code; a plain failure of a model that asks for code is for want of that code."""
    code = outcome.code or Code.CONSUMER_FAILED
    wants_code = "trust_remote_code" in outcome.detail or "custom code" in outcome.detail
    return Code.CODE_BEARING_CONFIG if code is Code.CONSUMER_FAILED and _first(findings) and wants_code else code


def _mend(outcome: ConsumerReport, code: Code, findings: Collection[CodeFinding]) -> str:
    return MEANINGS[code].mend if code is not outcome.code else mend_for(outcome, findings)


def _first(findings: Collection[CodeFinding]) -> CodeFinding | None:
    """Return the finding that is worst: one that consumers are not shown, else any."""
    searched = [finding for finding in findings if finding.danger is not Danger.UNSEARCHED]
    return min(searched, key=lambda finding: finding.danger is not Danger.BYPASS, default=None)


def _sentence(lack: Unmet) -> str:
    loss = _LOSS.get(lack.consumer)
    return f"the {spoken(lack.consumer)} needs {lack.missing} ({lack.why})" + (f"; {loss}" if loss else "")


def _subject(fact: Degraded) -> str:
    return fact.missing or fact.consumer
