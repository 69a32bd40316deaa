"""Findings: for each consumer, whether the directory serves it; if not, which file is missing and who would have it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from anyio import to_thread

from placecard.admission import (
    CodeFinding,
    Configs,
    Consumer,
    ConsumerReport,
    Loader,
    LoadReport,
    State,
    Unmet,
    code_keys,
    judge,
    needs,
    read_configs,
    unmet,
)
from placecard.admission.consumers import KNOWN_NAMES
from placecard.admission.losses import losses
from placecard.admission.verdict import mend_for
from placecard.card import Card, Kind, LeftOut, kind_of, parse_uri
from placecard.card.uri import HttpUri
from placecard.publisher.selection import MAX_TOTAL_BYTES, look, select
from placecard.publisher.staging import staged
from placecard.store import Manifest
from placecard.telemetry import Degraded

# The order in which people ask; the others follow.
_ASKED_FIRST: Final = ("tokenizer", "chat_template", "image_processor", "processor", "pooling")
_ORDER: Final = sorted(
    Consumer, key=lambda consumer: _ASKED_FIRST.index(consumer) if consumer in _ASKED_FIRST else len(_ASKED_FIRST)
)


class Status(StrEnum):
    """How a consumer fares with the directory."""

    OK = "OK"
    DEGRADED = "DEGRADED"
    """It misses a file that it needs."""
    FAILED = "FAILED"
    """It has its files and cannot use them."""
    ABSENT = "ABSENT"
    """The model has nothing for it, and nothing says that it should."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How one consumer fares, and what to do.

    Args:
        consumer: A :class:`~placecard.admission.Consumer`; empty where no single one is hurt.
        missing: The file that is missing; empty if none is.
        who_would_have_it: Where the missing file would have come from, and what is known of that.
        mend: What to do; empty if there is nothing to do.
        detail: What was seen.
    """

    consumer: str
    status: Status
    missing: str = ""
    who_would_have_it: str = ""
    mend: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding as ``placecard doctor --json`` prints it."""
        return {key: str(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Diagnosis:
    """What a front end would say of the directory, and why: findings for each consumer, and for files of no known
    one."""

    state: State
    findings: tuple[Finding, ...]


def examine(
    names: Collection[str],
    configs: Configs,
    report: LoadReport | None,
    card: Card | None = None,
    manifest: Manifest | None = None,
    *,
    left_out: Iterable[LeftOut] = (),
    looked_at: Sequence[str] = (),
) -> Diagnosis:
    """Return the state that a resolve would come to, and the findings: for each consumer one for each file that it
    lacks, or one.

    Args:
        names: The files of the directory.
        configs: Its parsed configuration files.
        report: What came of opening it; None if it was not opened.
        card: What the publisher says the directory should hold.
        manifest: What the store says it holds.
        left_out: What lies in the directory and no publisher would take, beside what the card lists.
        looked_at: Places where siblings were looked for: directories or ``hf://`` repositories.
    """
    consumers = {file.name: file.consumers for file in card.files if file.consumers} if card else {}
    lacking = unmet(needs(configs.parsed, names, consumers), names)
    found = code_keys(configs.parsed)
    told = {lack.missing for lack in lacking}
    outside = (*(card.left_out if card else ()), *left_out)
    lost = [fact for fact in losses(outside, held=names) if fact.missing not in told]
    outside += manifest.left_out if manifest else ()
    findings: list[Finding] = []
    for consumer in _ORDER:
        worse = [_missing(lack, card, outside, looked_at) for lack in lacking if lack.consumer == consumer]
        own = [] if worse else [_outcome(consumer, report.of(consumer) if report else None, names, configs, found)]
        worse += [_lost(fact) for fact in lost if fact.consumer == consumer]
        findings += [*worse, *(finding for finding in own if not worse or finding.status is Status.FAILED)]
    verdict = judge(lacking, report, found)
    findings += [_lost(fact) for fact in (*lost, *verdict.degraded) if not fact.consumer]
    bad = any(finding.status in (Status.DEGRADED, Status.FAILED) for finding in findings)
    return Diagnosis(State.DEGRADED if bad and verdict.state is State.READY else verdict.state, tuple(findings))


async def examine_directory(
    directory: Path,
    *,
    loader: Loader | None,
    card: Card | None = None,
    manifest: Manifest | None = None,
    looked_at: Sequence[str] = (),
) -> Diagnosis:
    """Read and open ``directory``, and return the diagnosis of :func:`examine`.

    A directory of the store holds what its manifest says. Any other is seen as its publisher would see it: the same
    files are taken, and the same are left out.

    Raises:
        UsageError: ``directory`` is none, or cannot be read.
        AdmissionError: ``LOAD_TEST_UNAVAILABLE``; the loader does not start.
    """
    if manifest is not None:
        names = await to_thread.run_sync(_held, directory, manifest)
        configs = await to_thread.run_sync(read_configs, directory, names)
        report = await loader.load(directory) if loader is not None else None
        return examine(names, configs, report, card, manifest, looked_at=looked_at)
    chosen = await to_thread.run_sync(lambda: select(look(directory), None, MAX_TOTAL_BYTES))
    async with staged(chosen) as stage:
        configs = await to_thread.run_sync(read_configs, stage, chosen.metadata_names)
        report = await loader.load(stage) if loader is not None else None
    weights = [each.name for each in chosen.left_out if kind_of(each.name) is Kind.WEIGHTS]
    names = [*chosen.metadata_names, *weights]
    return examine(names, configs, report, card, left_out=chosen.left_out, looked_at=looked_at)


def _held(directory: Path, manifest: Manifest) -> list[str]:
    return [entry.name for entry in manifest.entries if (directory / entry.name).is_file()]


def _lost(fact: Degraded) -> Finding:
    return Finding(
        consumer=fact.consumer, status=Status.DEGRADED, missing=fact.missing, detail=fact.detail, mend=fact.mend
    )


def _missing(lack: Unmet, card: Card | None, outside: Iterable[LeftOut], looked_at: Sequence[str]) -> Finding:
    who, mend = _who(lack.missing, card, outside, looked_at)
    return Finding(
        consumer=lack.consumer,
        status=Status.FAILED if lack.consumer == Consumer.CONFIG else Status.DEGRADED,
        missing=lack.missing,
        who_would_have_it=who,
        mend=mend or lack.mend,
        detail=lack.why,
    )


def _who(name: str, card: Card | None, outside: Iterable[LeftOut], looked_at: Sequence[str]) -> tuple[str, str]:
    """Return who would have the file called ``name``, and a better mend where that is known."""
    if card is not None and (file := card.file(name)) is not None:
        places = ", ".join(_place(uri) for uri in file.sources) or "no source"
        mend = f"Restart a worker that serves {name}, or mount its directory and allow it with --file-root."
        return f"the card advertises it at {places}; none delivered it", mend
    if (left := next((each for each in outside if each.name == name), None)) is not None:
        mend = next((fact.mend for fact in losses([left])), "")
        return f"it was there and was left out ({left.reason})", mend
    if looked_at:
        return f"not on the card, and not in {', '.join(looked_at)}", ""
    if card is not None:
        return f"not on the card; the publisher took the model from {card.origin or 'a place it does not name'}", ""
    return "nobody is known to have it: there is no card", ""


def _outcome(
    consumer: Consumer,
    outcome: ConsumerReport | None,
    names: Collection[str],
    configs: Configs,
    found: tuple[CodeFinding, ...],
) -> Finding:
    """Return the finding on a consumer that misses nothing."""
    known = KNOWN_NAMES[consumer].intersection(names)
    broken = next((name for name in sorted(configs.broken) if name in KNOWN_NAMES[consumer]), None)
    if outcome is not None and outcome.ok:
        return Finding(consumer=consumer, status=Status.OK, detail=outcome.detail)
    if outcome is not None and not outcome.skipped:
        return Finding(consumer=consumer, status=Status.FAILED, detail=outcome.detail, mend=mend_for(outcome, found))
    if broken is not None:
        mend = f"Correct {broken} in the worker's model directory, and publish again."
        return Finding(consumer=consumer, status=Status.FAILED, detail=f"{broken}: {configs.broken[broken]}", mend=mend)
    if outcome is not None and outcome.code is not None:
        status = Status.DEGRADED if known else Status.ABSENT
        return Finding(consumer=consumer, status=status, detail=outcome.detail, mend=mend_for(outcome))
    if outcome is None and known:
        return Finding(consumer=consumer, status=Status.OK, detail="its files are there; it was not run")
    return Finding(consumer=consumer, status=Status.ABSENT, detail=outcome.detail if outcome else "no file of its kind")


def _place(uri: str) -> str:
    """Return where a URI leads in few words: a worker's address, else the URI itself."""
    parsed = parse_uri(uri)
    return f"{parsed.host}:{parsed.port}" if isinstance(parsed, HttpUri) else uri
