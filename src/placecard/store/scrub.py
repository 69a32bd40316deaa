"""The scrub: every blob hashed again whatever its seal says, every generation looked at."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from placecard.card.digest import PREFIX
from placecard.store.blobs import Blobs
from placecard.store.disk import Disk
from placecard.store.generations import staged
from placecard.store.layout import BLOBS, HEX, MODELS
from placecard.store.snapshots import Snapshots


@dataclass(frozen=True)
class VerifyReport:
    """What a scrub found.

    Args:
        blobs: How many were hashed.
        bytes: Size of those that are right.
        corrupt: Digests of those that are not; they are in ``bad/`` now.
        problems: One sentence for each corrupt blob and each damaged generation.
        models: Names of the models that are affected: resolve them again.
    """

    blobs: int
    bytes: int
    corrupt: tuple[str, ...]
    problems: tuple[str, ...]
    models: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dict(vars(self))


def scrub(disk: Disk, blobs: Blobs, snapshots: Snapshots, *, sample: float) -> VerifyReport:
    """Hash the share ``sample`` of all blobs, drawn at random, then inspect every generation.

    Raises:
        OSError: As it comes.
    """
    names = [name for name in disk.names(BLOBS) if HEX.fullmatch(name)]
    if sample < 1:
        names = random.sample(names, math.ceil(len(names) * max(sample, 0.0)))  # a choice of samples, not a secret
    size, corrupt = 0, []
    for name in names:
        found = blobs.rehash(name)
        if found is not None:
            size += found
        elif not disk.exists(f"{BLOBS}/{name}"):
            corrupt.append(PREFIX + name)
    problems = [f"{digest} was not what its name says; set aside" for digest in corrupt]
    models = set()
    for key in snapshots.models():
        for generation in snapshots.generations(key):
            manifest, why = snapshots.inspect(key, generation, deep=sample >= 1)
            if manifest is None:
                torn = snapshots.manifest(staged(f"{MODELS}/{key}", generation))
                name = torn.model if torn is not None else key
                models.add(name)
                problems.append(f"{name}, generation {generation[:12]}: {why}")
    return VerifyReport(len(names), size, tuple(corrupt), tuple(problems), tuple(sorted(models)))
