"""Admission of a snapshot: what its consumers need, whether they can open it, and the verdict, remembered while
nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec
from anyio import to_thread

from placecard.admission import (
    CodeFinding,
    Loader,
    LoadReport,
    Unmet,
    Verdict,
    code_keys,
    judge,
    needs,
    read_configs,
    unmet,
    versions_key,
)
from placecard.card import Card
from placecard.discovery import Record
from placecard.errors import AdmissionError, Code
from placecard.store import Snapshot, Store
from placecard.telemetry import Degraded

_STATE: Final = "admission"
# Outcomes that another try may change although files and libraries are the same.
_PASSING: Final = frozenset({Code.LOAD_TEST_LIMIT, Code.LOAD_TEST_UNAVAILABLE})


@dataclass(frozen=True)
class Admission:
    """The verdict on one snapshot.

    Args:
        load_test: ``passed``, ``failed``, ``remembered``, ``off`` or ``unavailable``.
        served: The consumers that opened the snapshot.
    """

    degraded: tuple[Degraded, ...]
    errors: tuple[AdmissionError, ...]
    load_test: str
    notices: tuple[Degraded, ...] = ()
    served: tuple[str, ...] = ()


class Admit(Protocol):
    """Says whether a snapshot may be listed."""

    async def warm(self) -> None:
        """Get ready while the files are still on their way."""
        ...

    async def admit(self, snapshot: Snapshot, record: Record) -> Admission:
        """Return the verdict on ``snapshot``."""
        ...


class Admitter:
    """Opens snapshots with a :class:`~placecard.admission.Loader`, and remembers the verdict beside the model.

    Args:
        loader: None does without the load test; what the configuration says is needed is checked all the same.
        strict: Refuse what would only be degraded.
    """

    def __init__(self, store: Store, loader: Loader | None, *, strict: bool) -> None:
        self._store, self._loader, self._strict = store, loader, strict

    async def warm(self) -> None:
        """Start the loader's process, whose imports take about as long as fetching does."""
        if self._loader is not None:
            try:
                await self._loader.warm()
            except AdmissionError:
                return  # admit() meets the same and says so in its verdict

    async def admit(self, snapshot: Snapshot, record: Record) -> Admission:
        """Return the verdict on ``snapshot``; with the same files, card and libraries as before it is the remembered
        one."""
        key = self._key(snapshot, record.card)
        remembered = await to_thread.run_sync(self._store.read_state, snapshot.model, _STATE)
        if remembered is not None and remembered.get("key") == key and (known := _recall(remembered)) is not None:
            return known
        lacking, findings, hints = await to_thread.run_sync(_inspect, snapshot, record.card)
        report, unavailable = await self._load(snapshot)
        verdict = judge(lacking, report, findings, strict=self._strict, hints=hints)
        if unavailable is not None:
            verdict = _with_unavailable(verdict, unavailable, strict=self._strict)
        how = "off" if self._loader is None else _passed(verdict)
        served = tuple(each.consumer for each in report.consumers if each.ok) if report is not None else ()
        admission = Admission(verdict.degraded, verdict.errors, how, verdict.notices, served)
        await to_thread.run_sync(self._remember, snapshot, key, admission)
        return admission

    async def _load(self, snapshot: Snapshot) -> tuple[LoadReport | None, AdmissionError | None]:
        if self._loader is None:
            return None, None
        try:
            return await self._loader.load(snapshot.directory), None
        except AdmissionError as error:
            return None, error

    def _key(self, snapshot: Snapshot, card: Card) -> list[Any]:
        consumers = sorted((file.name, *file.consumers) for file in card.files if file.consumers)
        with_loader = versions_key() if self._loader is not None else "off"
        return [snapshot.generation, with_loader, self._strict, [list(row) for row in consumers]]

    def _remember(self, snapshot: Snapshot, key: list[Any], admission: Admission) -> None:
        codes = {fact.code for fact in admission.degraded} | {error.code for error in admission.errors}
        if self._store.writable and not codes & _PASSING:
            state = {
                "key": key,
                "load_test": admission.load_test,
                "degraded": msgspec.to_builtins(admission.degraded),
                "served": admission.served,
                "notices": msgspec.to_builtins(admission.notices),
                "errors": [error.as_json() | {"detail": error.detail} for error in admission.errors],
            }
            self._store.write_state(snapshot.model, _STATE, state)


def _inspect(snapshot: Snapshot, card: Card) -> tuple[tuple[Unmet, ...], tuple[CodeFinding, ...], dict[str, str]]:
    """Return what is missing, which keys select code, and who would have had what is missing. Blocking."""
    names = [entry.name for entry in snapshot.manifest.entries]
    configs = read_configs(snapshot.directory, names)
    consumers = {file.name: file.consumers for file in card.files if file.consumers}
    wanted = needs(configs.parsed, names, consumers)
    hints = {lack.missing: _hint(lack, card) for lack in unmet(wanted, names)}
    return unmet(wanted, names, hints=hints), code_keys(configs), hints


def _recall(state: Mapping[str, Any]) -> Admission | None:
    """Return the remembered verdict; None if the file does not hold one, for then it is simply made again."""
    try:
        degraded = msgspec.convert(state["degraded"], tuple[Degraded, ...])
        notices = msgspec.convert(state["notices"], tuple[Degraded, ...])
        errors = tuple(
            AdmissionError(Code(error["code"]), error["detail"], subject=error["subject"], mend=error["mend"])
            for error in state["errors"]
        )
        before, served = str(state["load_test"]), msgspec.convert(state["served"], tuple[str, ...])
    except (KeyError, TypeError, ValueError):
        return None
    return Admission(degraded, errors, "remembered" if before == "passed" else before, notices, served)


def _hint(lack: Unmet, card: Card) -> str:
    """Say who would have had the missing file."""
    if card.file(lack.missing) is not None:
        return "the card advertises it, and no source delivered it"
    left_out = next((each for each in card.left_out if each.name == lack.missing), None)
    if left_out is not None:
        return f"the publisher's directory has it and left it out ({left_out.reason})"
    if card.origin is not None and card.origin.startswith("hf://"):
        return f"see whether {card.origin} has it"
    return f"the publisher's directory ({card.origin}) did not have it" if card.origin else ""


def _with_unavailable(verdict: Verdict, error: AdmissionError, *, strict: bool) -> Verdict:
    fact = Degraded(error.code, "", "", error.detail, error.mend)
    if strict:
        return replace(verdict, errors=(*verdict.errors, error))
    return replace(verdict, degraded=(*verdict.degraded, fact))


def _passed(verdict: Verdict) -> str:
    failed = {Code.CONSUMER_FAILED, Code.CONSUMER_PANICKED, Code.CODE_BEARING_CONFIG, Code.LOAD_TEST_LIMIT}
    codes = {fact.code for fact in verdict.degraded} | {error.code for error in verdict.errors}
    if Code.LOAD_TEST_UNAVAILABLE in codes:
        return "unavailable"
    return "failed" if codes & failed else "passed"
