"""Garbage collection: what no kept generation and no live lease uses goes, in two steps.

First the unused is moved to ``trash/``; then leases and generations are read again, and what was pinned or published
meanwhile is moved back; the rest is deleted. Leases are read before generations: who released a lease has published by
then. Whoever pins later looks later, finds the blob gone, and takes it back from the trash or fetches it again.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from placecard.store.disk import Disk
from placecard.store.generations import CARD_NAME, staged
from placecard.store.layout import BAD, BLOBS, HEX, LEASES, MODELS, SEALS, TRASH
from placecard.store.leases import Leases, Pins
from placecard.store.snapshots import Snapshots

_BLOB_TRASH: Final = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{8}")
_GENERATION_TRASH: Final = re.compile(r"([0-9a-f]{32})\.([a-z0-9_-]+)\.[0-9a-f]{8}")
_BAD_NAME: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}")
_SEAL_NAME: Final = re.compile(r"[0-9a-f]{64}(@[0-9a-f]{8})?")


@dataclass(frozen=True)
class GcReport:
    """What a collection did, or would do.

    Args:
        generations: How many generations went.
        blobs: How many blobs went.
        bytes: Size of those blobs.
        leftovers: Unfinished files of dead writers, dead leases, set-aside blobs and orphaned seals.
        kept_bytes: Size of the blobs that stay.
        target_reached: Whether ``kept_bytes`` is within the target; True without one.
    """

    generations: int
    blobs: int
    bytes: int
    leftovers: int
    kept_bytes: int
    target_reached: bool
    dry_run: bool

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Holding:
    """A generation as the plan sees it."""

    key: str
    generation: str
    sequence: int
    current: bool
    whole: bool
    blobs: frozenset[str] = field(default_factory=frozenset)

    @property
    def path(self) -> str:
        """``KEY/ID``, as leases pin it."""
        return f"{self.key}/{self.generation}"


def plan_drops(
    holdings: Sequence[Holding],
    *,
    keep: int,
    pinned: Pins,
    sizes: Mapping[str, int],
    target_bytes: int | None,
) -> list[Holding]:
    """Decide which generations go, in the order in which they go.

    The current one of a model and whatever is pinned stays. Of the others the newest stay until ``keep`` are left of
    the model, unless the store is over ``target_bytes`` even so; then the oldest of all models go first.
    A model without a pointer has nothing to keep: it was removed, or its first generation was never activated.
    """
    drops, spare = [], []
    for key in sorted({holding.key for holding in holdings}):
        mine = [holding for holding in holdings if holding.key == key]
        room = max(keep, 1) - 1 if any(holding.current for holding in mine) else 0
        for holding in sorted(mine, key=lambda h: (-h.sequence, h.generation)):
            if holding.current or holding.path in pinned.generations:
                continue
            if room > 0 and holding.whole:
                room -= 1
                spare.append(holding)
            else:
                drops.append(holding)
    if target_bytes is not None:
        spare.sort(key=lambda h: (h.sequence, h.key))
        while spare and _size(_used(holdings, drops, pinned), sizes) > target_bytes:
            drops.append(spare.pop(0))
    return drops


def collect(
    disk: Disk,
    leases: Leases,
    snapshots: Snapshots,
    *,
    layers: Iterable[Disk] = (),
    keep: int,
    target_bytes: int | None,
    dry_run: bool,
) -> GcReport:
    """Collect garbage. Idempotent; two at once are fine. Raises :class:`OSError` as it comes."""
    pinned = leases.pins()
    sizes = _sizes(disk)
    holdings = list(_holdings(snapshots))
    pinned.generations |= {h.path for h in holdings if snapshots.is_foreign(staged(f"{MODELS}/{h.key}", h.generation))}
    drops = plan_drops(holdings, keep=keep, pinned=pinned, sizes=sizes, target_bytes=target_bytes)
    used = _used(holdings, drops, pinned)
    unused = sorted(sizes.keys() - used)
    if not dry_run:
        drops = [drop for drop in drops if snapshots.discard(drop.key, drop.generation)]
        _settle_generations(disk, leases)
        used = _everything_used(disk, leases, snapshots)
        unused = [name for name in sorted(sizes.keys() - used) if _move_to_trash(disk, name)]
        _settle_blobs(disk, leases, snapshots)
        _tidy_models(disk, snapshots)
    leftovers = _sweep(disk, leases, layers, dry_run=dry_run)
    freed = sum(sizes[name] for name in unused)
    kept = sum(sizes.values()) - freed
    return GcReport(
        generations=len(drops), blobs=len(unused), bytes=freed, leftovers=leftovers, kept_bytes=kept,
        target_reached=target_bytes is None or kept <= target_bytes, dry_run=dry_run,
    )  # fmt: skip


def _holdings(snapshots: Snapshots) -> Iterator[Holding]:
    for key in snapshots.models():
        current = snapshots.pointer(key)
        for generation in snapshots.generations(key):
            path = staged(f"{MODELS}/{key}", generation)
            manifest = snapshots.manifest(path)
            yield Holding(
                key=key, generation=generation, sequence=manifest.sequence if manifest else 0,
                # A torn manifest cannot be mended by fetching; one with a blob missing can.
                current=generation == current and manifest is not None, whole=manifest is not None,
                blobs=frozenset(snapshots.uses(path)),
            )  # fmt: skip


def _used(holdings: Iterable[Holding], drops: Iterable[Holding], pinned: Pins) -> set[str]:
    gone = {drop.path for drop in drops}
    return pinned.blobs.union(*(holding.blobs for holding in holdings if holding.path not in gone))


def _everything_used(disk: Disk, leases: Leases, snapshots: Snapshots) -> set[str]:
    """Return all blobs in use now; a generation in the trash may still be moved back by another collection."""
    used = leases.pins().blobs
    for key in snapshots.models():
        for generation in snapshots.generations(key):
            used |= snapshots.uses(staged(f"{MODELS}/{key}", generation))
    for name in disk.names(TRASH):
        if match := _GENERATION_TRASH.fullmatch(name):
            used |= snapshots.uses(staged(f"{TRASH}/{name}", match[1]))
    return used


def _settle_generations(disk: Disk, leases: Leases) -> None:
    trash = [match for name in disk.names(TRASH) if (match := _GENERATION_TRASH.fullmatch(name))]
    pinned = leases.pins().generations
    for match in trash:
        generation, key = match[1], match[2]
        aside = f"{TRASH}/{match[0]}"
        if f"{key}/{generation}" in pinned:
            _move_back(disk, staged(aside, generation), staged(f"{MODELS}/{key}", generation))
        disk.remove(aside)


def _settle_blobs(disk: Disk, leases: Leases, snapshots: Snapshots) -> None:
    trash = [match for name in disk.names(TRASH) if (match := _BLOB_TRASH.fullmatch(name))]
    used = _everything_used(disk, leases, snapshots)
    for match in trash:
        if match[1] in used:
            _move_back(disk, f"{TRASH}/{match[0]}", f"{BLOBS}/{match[1]}")
        disk.remove(f"{TRASH}/{match[0]}")


def _move_to_trash(disk: Disk, name: str) -> bool:
    try:
        disk.rename(f"{BLOBS}/{name}", f"{TRASH}/{name}.{secrets.token_hex(4)}")
    except FileNotFoundError:
        return False
    return True


def _move_back(disk: Disk, path: str, target: str) -> None:
    """Undo a move to the trash, unless a new one stands in its place or somebody else was first."""
    if not disk.exists(target):
        with contextlib.suppress(FileNotFoundError):
            disk.rename(path, target)


def _tidy_models(disk: Disk, snapshots: Snapshots) -> None:
    """Remove the cards of generations that are gone, and the directories of models of which nothing is left.

    Callers' small files do not keep a model: one that was refused from the start has nothing else.
    """
    for key in snapshots.models():
        names = disk.names(f"{MODELS}/{key}")
        empty = "generations" not in names or disk.rmdir(f"{MODELS}/{key}/generations")
        left = set(snapshots.generations(key))
        gone = empty and not left  # else somebody publishes at this moment
        if gone:
            snapshots.deactivate(key)
        for name in names:
            card = CARD_NAME.fullmatch(name)
            if (card is not None and card[1] not in left) or (gone and name.startswith("state-")):
                disk.remove(f"{MODELS}/{key}/{name}")
        if gone:
            disk.rmdir(f"{MODELS}/{key}")


def _sweep(disk: Disk, leases: Leases, layers: Iterable[Disk], *, dry_run: bool) -> int:
    paths = leases.leftovers()
    paths += [f"{LEASES}/{owner}" for owner in leases.dead()]
    paths += [f"{BAD}/{name}" for name in disk.names(BAD) if _BAD_NAME.fullmatch(name)]
    held = {name for store in (disk, *layers) for name in store.names(BLOBS)}
    paths += [f"{SEALS}/{n}" for n in disk.names(SEALS) if _SEAL_NAME.fullmatch(n) and n[:64] not in held]
    return len(paths) if dry_run else sum(disk.remove(path) for path in paths)


def _sizes(disk: Disk) -> dict[str, int]:
    sizes = {}
    for name in disk.names(BLOBS):
        if HEX.fullmatch(name):
            try:
                sizes[name] = disk.stat(f"{BLOBS}/{name}").st_size
            except FileNotFoundError:
                continue
    return sizes


def _size(names: Iterable[str], sizes: Mapping[str, int]) -> int:
    return sum(sizes.get(name, 0) for name in names)
