"""Building a card: a model directory → its files, hashed, each with its slot and the consumers that opened it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio import to_thread

from placecard.admission import (
    Configs,
    Consumer,
    Loader,
    LoadReport,
    State,
    code_keys,
    judge,
    needs,
    read_configs,
    unmet,
)
from placecard.admission.losses import losses
from placecard.card import Card, CheckedFile, LeftOut, Role, Serving, digest_stream
from placecard.errors import AdmissionError, CardDefectsError, CardError, Code, SourceError, UsageError
from placecard.publisher.context import context_length
from placecard.publisher.selection import MAX_TOTAL_BYTES, Selection, bounded, look, select
from placecard.publisher.staging import staged
from placecard.source import Entry
from placecard.telemetry import Degraded, Observe, StageEnded, StageStarted, ignore

_PARALLEL: Final = 4
_CONFIGURATIONS: Final = frozenset({"config.json", "params.json"})

Digester = Callable[[Path], tuple[str, int]]
"""Reads the file at a path once, and returns its digest and size in bytes. It may keep the bytes while at it."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What was noticed while building: what front ends will meet, told where it can be mended.

    Args:
        state: What a front end that has all files of the card would say.
        degraded: What will be worse there.
        errors: Why it would be refused there. The card exists all the same; publishing it is the caller's decision.
        notices: What is good to know and degrades nothing.
        load: How the consumers fared; None without a load test.
        seconds: Wall time of the stages ``hash`` and ``load test``.
    """

    state: State
    degraded: tuple[Degraded, ...] = ()
    errors: tuple[AdmissionError, ...] = ()
    notices: tuple[Degraded, ...] = ()
    load: LoadReport | None = None
    seconds: Mapping[str, float]


async def build_card(
    directory: Path,
    *,
    name: str,
    origin: str | None = None,
    loader: Loader | None = None,
    serving: Serving | None = None,
    sources: Callable[[str], tuple[str, ...]] | None = None,
    template: Path | None = None,
    template_sources: tuple[str, ...] = (),
    digester: Digester | None = None,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    left_out: Sequence[LeftOut] = (),
    observe: Observe = ignore,
) -> tuple[Card, BuildReport]:
    """Return the card of ``directory``, and what was noticed on the way.

    Args:
        directory: A model directory, which the publisher trusts to be its own.
        name: The name that clients ask for.
        origin: ``hf://REPO@COMMIT``, a directory, or None.
        loader: Opens the directory to record which consumer reads which file; None does without.
        serving: How the worker serves; the context length is read from the configuration where it is absent.
        sources: File name to the URIs where its bytes may be had.
        template: The operator's own chat template, which takes the place of the model's.
        template_sources: URIs of ``template``, for which ``sources`` is not asked.
        digester: Hashes one file; the default reads it and keeps nothing.
        max_total_bytes: What front ends take for one card; the largest files beyond it are left out and listed.
        left_out: Files that were left out before, such as weights that were never fetched.

    Raises:
        UsageError: ``directory`` is none, cannot be read or is empty; ``template`` is not a readable text.
        CardDefectsError: The files do not make a card, for want of ``config.json`` among others.
        CardError: ``CARD_RANGE``; the configuration states a context length that is no length.
        SourceError: A file cannot be read, or changed while it was read, twice.
    """
    chosen = await to_thread.run_sync(_choose, directory, template, max_total_bytes)
    taken = frozenset(chosen.names)
    outside = {each.name: each for each in (*left_out, *chosen.left_out) if each.name not in taken}
    _check_configuration(chosen, outside)
    seconds: dict[str, float] = {}
    with _stage(name, "hash", len(chosen.entries), seconds, observe):
        checked = await _hash_all(chosen.entries, digester or digest_file)
    async with staged(chosen) as stage:
        configs = await to_thread.run_sync(read_configs, stage, chosen.metadata_names)
        load = None
        if loader is not None:
            with _stage(name, "load test", 0, seconds, observe):
                load = await _load(loader, stage)
    readers = load.readers if load is not None else {}
    files = tuple(
        CheckedFile(
            name=file,
            digest=checked[file][0],
            size=checked[file][1],
            role=chosen.roles.get(file, Role.EXTRA).value,
            consumers=readers.get(file, ()),
            sources=template_sources if file == chosen.template else sources(file) if sources else (),
        )
        for file in chosen.names
    )
    card = Card(
        name=name,
        origin=origin,
        files=files,
        left_out=bounded(outside.values()),
        serving=_serving(serving or Serving(), configs),
    )
    return card, _report(chosen.metadata_names, tuple(outside.values()), configs, load, seconds)


def digest_file(path: Path) -> tuple[str, int]:
    """Return the digest and size of the file at ``path``."""
    with path.open("rb") as file:
        return digest_stream(file)


@contextmanager
def _stage(model: str, stage: str, total: int, seconds: dict[str, float], observe: Observe) -> Iterator[None]:
    """Tell ``observe`` of a stage and keep its time."""
    observe(StageStarted(model, stage, total))
    began, ok = anyio.current_time(), False
    try:
        yield
        ok = True
    finally:
        seconds[stage] = anyio.current_time() - began
        observe(StageEnded(model, stage, seconds[stage], ok=ok))


def _choose(directory: Path, template: Path | None, max_total_bytes: int) -> Selection:
    found = look(directory)
    if not found.files:
        mend = "Wait until the download is complete, or pass the directory that holds config.json."
        raise UsageError(Code.USAGE, "holds no file", subject=str(directory), mend=mend)
    return select(found, template, max_total_bytes)


def _check_configuration(chosen: Selection, outside: Mapping[str, LeftOut]) -> None:
    """Tell of a configuration that is absent, or there and not to be taken, before anything is read."""
    if not _CONFIGURATIONS.isdisjoint(chosen.names):
        return
    if found := sorted(_CONFIGURATIONS & outside.keys()):
        left = outside[found[0]]
        mend = next((fact.mend for fact in losses([left])), None)
        detail = f"cannot be taken: {left.reason}; a card needs it"
        raise CardDefectsError([CardError(Code.CARD_INCOMPLETE, detail, subject=left.name, mend=mend)])
    names = (*chosen.names, *outside)
    for lack in unmet(needs({}, names, {}), names):
        if lack.consumer == Consumer.CONFIG:
            detail = f"no model_info slot ({lack.missing}): {lack.why}"
            raise CardDefectsError([CardError(Code.CARD_INCOMPLETE, detail, subject="$.files", mend=lack.mend)])


async def _hash_all(entries: Sequence[Entry], digester: Digester) -> dict[str, tuple[str, int]]:
    """Return digest and size of each file by name; a few threads read at once."""
    checked: dict[str, tuple[str, int]] = {}
    limiter = anyio.CapacityLimiter(_PARALLEL)

    async def one(entry: Entry) -> None:
        checked[entry.name] = await to_thread.run_sync(_hash, entry, digester, limiter=limiter)

    try:
        async with anyio.create_task_group() as tasks:
            for entry in entries:
                tasks.start_soon(one, entry)
    except* SourceError as group:
        raise next(error for error in group.exceptions if isinstance(error, SourceError)) from None
    return checked


def _hash(entry: Entry, digester: Digester) -> tuple[str, int]:
    """Hash one file; one that changes meanwhile is hashed once more, for a download may have been ending just then."""
    for _ in range(2):
        try:
            before = _identity(entry.real)
            digest, size = digester(entry.real)
            if before == _identity(entry.real) and size == before[2]:
                return digest, size
        except OSError as error:
            why = error.strerror or str(error)
            raise SourceError(Code.UNREADABLE, f"cannot be read: {why}", subject=entry.name) from error
    mend = "Publish when nothing writes into the model directory any more."
    raise SourceError(Code.UNREADABLE, "changed while it was read, twice", subject=entry.name, mend=mend)


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


async def _load(loader: Loader, stage: Path) -> LoadReport:
    """Open ``stage``; a load test that cannot be run at all is told in the report, and stops no publisher."""
    try:
        return await loader.load(stage, trace=True)
    except AdmissionError as error:
        return LoadReport(unavailable=error.detail)


def _serving(serving: Serving, configs: Configs) -> Serving:
    if serving.context_length is not None:
        return serving
    return msgspec.structs.replace(serving, context_length=context_length(configs))


def _report(
    names: tuple[str, ...],
    outside: tuple[LeftOut, ...],
    configs: Configs,
    load: LoadReport | None,
    seconds: Mapping[str, float],
) -> BuildReport:
    """Judge the directory as a front end will that gets all of the card; its code never gets there."""
    hints = {each.name: f"the directory has it, left out ({each.reason})" for each in outside}
    lacking = unmet(needs(configs.parsed, names, {}), names, hints=hints)
    verdict = judge(lacking, load, code_keys(configs.parsed))
    told = {fact.missing for fact in verdict.degraded if fact.missing}
    lost = tuple(fact for fact in losses(outside, held=names) if fact.missing not in told)
    return BuildReport(
        state=State.DEGRADED if lost and verdict.state is State.READY else verdict.state,
        degraded=(*verdict.degraded, *lost),
        errors=verdict.errors,
        notices=verdict.notices,
        load=load,
        seconds=seconds,
    )
