"""Recognising a directory of a store: its files are links into the store, and the manifest beside it lists them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from placecard.errors import CardError
from placecard.store import Manifest
from placecard.store.layout import BLOBS, GENERATION, MODEL_KEY, MODELS
from placecard.store.manifest import MAX_MANIFEST_BYTES, checked


def manifest_of(directory: Path) -> Manifest | None:
    """Return the manifest of the generation whose files lie in ``directory``; None where it is no store's."""
    real = Path(os.path.realpath(directory))
    match real.parts:
        case (*root, models, key, "generations", generation, "model") if (
            models == MODELS and MODEL_KEY.fullmatch(key) and GENERATION.fullmatch(generation)
        ):
            if not Path(*root, BLOBS).is_dir():
                return None
        case _:
            return None
    try:
        with (real.parent / "manifest.json").open("rb") as file:
            manifest = msgspec.json.decode(file.read(MAX_MANIFEST_BYTES + 1), type=Manifest)
        checked(manifest.entries)
    except (OSError, ValueError, RecursionError, CardError):
        return None  # it is looked at as any other directory then
    return manifest
