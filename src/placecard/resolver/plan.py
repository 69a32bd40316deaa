"""Deciding, before anything is fetched: which files are wanted, and for each the places to ask, best first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from placecard.card import Card, CheckedFile, FileUri, HttpUri, HubUri, Kind, LeftOut, Role, Uri, kind_of, parse_uri
from placecard.errors import CardError, Code, PlacecardError, VerificationError
from placecard.resolver.settings import ResolveSettings
from placecard.source import HubSnapshot
from placecard.store import Origin


@dataclass(frozen=True)
class Candidate:
    """A place to ask for one file."""

    uri: Uri
    origin: Origin


@dataclass(frozen=True)
class Want:
    """A file to have, and where to ask, in order."""

    file: CheckedFile
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class HubPin:
    """The repository a foreign card falls back to, and the commit its unpinned revision was resolved to once."""

    repo: str
    commit: str


@dataclass(frozen=True)
class Places:
    """All that is known of where files may be.

    Args:
        peer_urls: Digest to the URLs of workers and front ends that advertise it.
        snapshots: Hub snapshots on this host, of every repository that the card names.
        pins: Commit of each repository that the card names without one.
        fallback: Where a foreign card's files are looked for last.
    """

    peer_urls: Callable[[str], Sequence[str]] = lambda digest: ()
    snapshots: tuple[HubSnapshot, ...] = ()
    pins: tuple[HubPin, ...] = ()
    fallback: HubPin | None = None


@dataclass(frozen=True)
class Plan:
    """What one resolve will do.

    Args:
        wants: Files to have, in name order.
        left_out: Advertised files that stay out, with the reason.
        refusals: Why the card cannot be resolved at all; empty if it can be tried.
    """

    wants: tuple[Want, ...]
    left_out: tuple[LeftOut, ...]
    refusals: tuple[PlacecardError, ...]


def plan(card: Card, places: Places, settings: ResolveSettings) -> Plan:
    """Return the plan for ``card``. The same arguments give the same plan."""
    wants: list[Want] = []
    left_out: list[LeftOut] = []
    refusals: list[PlacecardError] = []
    replaced = {overlay.name for overlay in settings.overlays}
    for file in sorted(card.files, key=lambda file: file.name):
        if reason := _reason_to_leave_out(file, replaced, settings):
            left_out.append(LeftOut(file.name, reason))
            if file.typed and file.name not in replaced:
                detail = f"fills slot {file.role} and may not come in ({reason})"
                refusals.append(CardError(Code.SLOT_TYPE_MISMATCH, detail, subject=file.name))
        else:
            wants.append(Want(file, tuple(candidates(file, places, settings))))
    return Plan(tuple(wants), tuple(left_out), (*refusals, *_refusals(wants, settings)))


def candidates(file: CheckedFile, places: Places, settings: ResolveSettings) -> Iterator[Candidate]:
    """Yield where to ask for ``file``: hub snapshots here, the worker's path, model path, workers, hub at its commit.

    Every rung is tried until one delivers the digest; where Dynamo picks one rung and stops, a miss or a mismatch
    goes on.

    Source: the ladder of NVIDIA Dynamo's ``checked_file_uri`` (worker's path, ``--model-path``, hub), lengthened.
    """
    uris = [parse_uri(text) for text in file.sources]
    hub = list(_hub_uris(file, uris, places))
    seen: set[str] = set()
    for candidate in (
        *_from_snapshots(hub, places),
        *(Candidate(uri, Origin.FILE) for uri in uris if isinstance(uri, FileUri)),
        *_from_model_path(file, uris, settings.model_path),
        *(Candidate(uri, Origin.WORKER) for uri in uris if isinstance(uri, HttpUri)),
        *(Candidate(parse_uri(url), Origin.PEER) for url in places.peer_urls(file.digest)),
        *(Candidate(uri, Origin.HUB) for uri in hub if not settings.offline),
    ):
        if (key := str(candidate.uri)) not in seen:
            seen.add(key)
            yield candidate


def harvest_directories(card: Card, places: Places, settings: ResolveSettings) -> tuple[tuple[Path, Origin], ...]:
    """Return the directories whose siblings belong to ``card``: hub snapshots, the worker's path, the model path, in
    this order.

    A directory counts because a candidate names it, whether or not bytes came from it. The directory of an
    operator's own chat template does not count: what lies beside it is none of the model's.

    Source: NVIDIA Dynamo pull request 9610, the sibling harvest.
    """
    found: dict[Path, Origin] = {}
    own_template = _operators_template(card)
    named = [(file, [parse_uri(text) for text in file.sources]) for file in card.files]
    repos = {uri.repo for _, uris in named for uri in uris if isinstance(uri, HubUri)}
    commits = {(uri.repo, uri.revision) for _, uris in named for uri in uris if isinstance(uri, HubUri) and uri.pinned}
    commits |= {(pin.repo, pin.commit) for pin in (*places.pins, *((places.fallback,) if places.fallback else ()))}
    for snapshot in places.snapshots:
        if (snapshot.repo, snapshot.commit) in commits or (snapshot.repo in repos and not commits):
            found.setdefault(snapshot.path, Origin.HUB)
    for file, uris in named:
        for uri in uris:
            if isinstance(uri, FileUri) and file is not own_template:
                found.setdefault(Path(_directory_of(uri.path, file.name)), Origin.FILE)
    if settings.model_path is not None:
        found.setdefault(settings.model_path, Origin.MODEL_PATH)
    return tuple(found.items())


def _reason_to_leave_out(file: CheckedFile, replaced: set[str], settings: ResolveSettings) -> str | None:
    if file.name in replaced:
        return "replaced by the operator's overlay"
    if not file.understood:
        return f"role {file.role} is unknown to this release"
    if file.digest in settings.allowed_code:
        return None
    kind = kind_of(file.name)
    return None if kind is Kind.METADATA else kind.value


def _refusals(wants: Sequence[Want], settings: ResolveSettings) -> Iterator[PlacecardError]:
    budget = settings.budget
    for want in wants:
        if (want.file.size or 0) > budget.max_file_bytes:
            detail = f"{want.file.size} bytes; one file may have {budget.max_file_bytes}"
            yield VerificationError(Code.SIZE_CAP, detail, subject=want.file.name)
    total = sum(want.file.size or 0 for want in wants)
    if total > budget.max_card_bytes:
        yield CardError(Code.CARD_TOO_LARGE, f"the files sum to {total} bytes; at most {budget.max_card_bytes}")


def _hub_uris(file: CheckedFile, uris: Sequence[Uri], places: Places) -> Iterator[HubUri]:
    """Yield the file's hub sources at a commit; those that name none get the commit their repository was pinned to."""
    pins = {pin.repo: pin.commit for pin in places.pins}
    for uri in uris:
        if isinstance(uri, HubUri):
            if uri.pinned:
                yield uri
            elif uri.repo in pins:
                yield HubUri(uri.repo, pins[uri.repo], uri.path)
    if places.fallback is not None:
        yield HubUri(places.fallback.repo, places.fallback.commit, file.name)


def _from_snapshots(hub: Sequence[HubUri], places: Places) -> Iterator[Candidate]:
    """Yield the file in local hub snapshots: the pinned commit's first, then any other, for the digest decides."""
    for uri in hub:
        mine = [snapshot for snapshot in places.snapshots if snapshot.repo == uri.repo]
        for snapshot in sorted(mine, key=lambda snapshot: snapshot.commit != uri.revision):
            yield Candidate(FileUri(PurePosixPath(snapshot.path, uri.path)), Origin.HUB)


def _from_model_path(file: CheckedFile, uris: Sequence[Uri], model_path: Path | None) -> Iterator[Candidate]:
    if model_path is None:
        return
    names = [file.name, *(uri.path.name for uri in uris if isinstance(uri, FileUri))]
    for name in names:
        yield Candidate(FileUri(PurePosixPath(model_path.absolute(), name)), Origin.MODEL_PATH)


def _operators_template(card: Card) -> CheckedFile | None:
    """Return the card's chat template if it lies elsewhere than the model: an operator's own file."""
    marked = next((file for file in card.files if file.unknown.get("is_custom") is True), None)  # Dynamo's own mark
    template = marked or card.slot(Role.CHAT_TEMPLATE)
    if template is None or marked is not None:
        return template
    others = {
        _directory_of(uri.path, file.name)
        for file in card.files
        for uri in map(parse_uri, file.sources)
        if file is not template and isinstance(uri, FileUri)
    }
    mine = {
        _directory_of(uri.path, template.name) for uri in map(parse_uri, template.sources) if isinstance(uri, FileUri)
    }
    return None if mine <= others else template


def _directory_of(path: PurePosixPath, name: str) -> PurePosixPath:
    """Return the model directory that ``path`` shows for a file called ``name``: without the name's own folders."""
    depth = len(PurePosixPath(name).parts)
    if path.parts[-depth:] == PurePosixPath(name).parts:
        return path.parents[depth - 1]
    return path.parent
