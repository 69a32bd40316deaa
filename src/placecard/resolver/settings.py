"""What the operator decides about resolving; nothing on a card can change any of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds of one resolve.

    Args:
        max_file_bytes: One metadata file.
        max_card_bytes: All advertised files of one card.
        harvest_files: Siblings taken from directories.
        harvest_bytes: Their bytes.
    """

    max_file_bytes: int = 1 << 30
    max_card_bytes: int = 256 << 20
    harvest_files: int = 512
    harvest_bytes: int = 256 << 20


@dataclass(frozen=True)
class Overlay:
    """The operator's own file in place of one of the model's."""

    name: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class ResolveSettings:
    """How one front end resolves.

    Args:
        model_path: A directory of this host that holds the model, tried after the worker's own path.
        offline: Ask no hub; workers are still asked.
        strict: Refuse what is degraded, and files that are proven by neither card nor commit.
        load_test: Open the directory with its consumers before it is listed.
        allowed_code: Digests of code files that may enter a directory; no other code does.
        parallel: Files fetched at once.
    """

    model_path: Path | None = None
    offline: bool = False
    strict: bool = False
    load_test: bool = True
    overlays: tuple[Overlay, ...] = ()
    allowed_code: frozenset[str] = frozenset()
    budget: Budget = field(default_factory=Budget)
    parallel: int = 8
