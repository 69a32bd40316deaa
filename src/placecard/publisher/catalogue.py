"""What a worker's metadata server has to give, and by which paths. Paths are looked up, never joined to a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from placecard.card import Card, CheckedFile, hex_of
from placecard.errors import Code, StoreError, UsageError

MAX_TARGET_BYTES: Final = 8 << 10


@dataclass(frozen=True)
class HostedModel:
    """A model whose metadata files are served.

    Args:
        card: Lists what is served; nothing else is.
        blobs: For each digest on the card, a sealed copy of the bytes, taken when the card was built.
        restore: Returns the path of a proven copy of a file whose own was lost or changed; None if there is none.
    """

    card: Card
    blobs: Mapping[str, Path]
    restore: Callable[[CheckedFile], Path | None] | None = None


@dataclass(frozen=True)
class Hosted:
    """One file that is served; ``size`` in bytes, None on a card that does not say."""

    name: str
    digest: str
    size: int | None
    path: Path
    restore: Callable[[], Path | None] | None = None


class Catalogue:
    """All files of all models, by digest and by model and name.

    Raises:
        StoreError: ``STORE_MISSING``; a file on a card has no copy.
        UsageError: Two models share a slug, and give a name different contents.
    """

    def __init__(self, models: Iterable[HostedModel]) -> None:
        self._files: dict[tuple[str, ...], Hosted] = {}
        for model in models:
            for file in model.card.files:
                path = model.blobs.get(file.digest)
                if path is None:
                    raise StoreError(Code.STORE_MISSING, f"no copy of {file.digest}", subject=ascii(file.name))
                restore = partial(model.restore, file) if model.restore is not None else None
                hosted = Hosted(file.name, file.digest, file.size, path, restore)
                self._files["v1", "blobs", "blake3", hex_of(file.digest)] = hosted
                self._add_name(("v1", "metadata", model.card.slug, *file.name.split("/")), hosted)

    @property
    def files(self) -> tuple[Hosted, ...]:
        """Return every file, each digest once."""
        return tuple({hosted.digest: hosted for hosted in self._files.values()}.values())

    def find(self, parts: tuple[str, ...]) -> Hosted | None:
        """Return the file at a path, given as its decoded parts."""
        return self._files.get(parts)

    def _add_name(self, parts: tuple[str, ...], hosted: Hosted) -> None:
        other = self._files.setdefault(parts, hosted)
        if other.digest != hosted.digest:
            detail = f"two models share the slug {parts[2]!r} and differ in {hosted.name!r}"
            raise UsageError(Code.USAGE, detail, mend="Serve them from two addresses, or rename one.")


def path_parts(target: bytes) -> tuple[str, ...] | None:
    """Return the parts of a request's path, each percent-decoded once; None if the path is not a plain absolute one.

    Split before decoding, so ``%2f`` makes no part. Empty and dotted parts, bad escapes, control characters and what
    is not UTF-8 are refused, because a proxy in front could read them differently.
    """
    if not target.startswith(b"/") or len(target) > MAX_TARGET_BYTES:
        return None  # absolute form, authority form, asterisk
    parts = []
    for raw in target[1:].split(b"/"):
        if any(len(escape) < 2 or not _is_hex(escape[:2]) for escape in raw.split(b"%")[1:]):
            return None
        try:
            part = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return None
        if part in ("", ".", "..") or "/" in part or "\\" in part or any(ord(c) < 32 or ord(c) == 127 for c in part):
            return None
        parts.append(part)
    return tuple(parts)


def _is_hex(text: bytes) -> bool:
    return all(c in b"0123456789abcdefABCDEF" for c in text)
