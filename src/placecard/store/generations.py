"""Generations as they stand: which one is current, what each holds and uses, and whether it is whole."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from placecard.card import card_from_json, hex_of, read_json
from placecard.card.wire import MAX_DEPTH
from placecard.errors import CardError
from placecard.store.blobs import Blobs
from placecard.store.disk import CHUNK_BYTES, Disk
from placecard.store.layout import BLOBS, GENERATION, MODEL_KEY, MODELS, model_key
from placecard.store.manifest import (
    MAX_MANIFEST_BYTES,
    SCHEMA,
    Entry,
    Manifest,
    ModelInfo,
    Snapshot,
    blobs_of,
    generation_id,
)
from placecard.store.seals import seal_text
from placecard.store.verify import Verifier

MANIFEST, MODEL, COPIES = "manifest.json", "model", "copies"
CARD_NAME: Final = re.compile(r"state-card-([0-9a-f]{32})\.json")
_CURRENT: Final = re.compile(r"generations/([0-9a-f]{32})/model")
_LINK: Final = re.compile(r"(?:\.\./)+blobs-v1/([0-9a-f]{64})")


class Damaged(Exception):  # noqa: N818 - a finding, caught in this module
    """Why a generation is not whole."""


class Generations:
    """The generations of all models of one store. Raises :class:`OSError` as it comes."""

    def __init__(self, disk: Disk, blobs: Blobs, *, links: bool) -> None:
        self._disk = disk
        self._blobs = blobs
        self._links = links

    def current(self, model: str) -> Snapshot | None:
        """Return what the model's pointer names, if it is whole and the model's own."""
        key = model_key(model)
        generation = self.pointer(key)
        if generation is None:
            return None
        manifest, _ = self.inspect(key, generation)
        return self.snapshot(key, generation, manifest) if manifest is not None and manifest.model == model else None

    def pointer(self, key: str) -> str | None:
        """Return the generation that the model's pointer names, whole or not."""
        try:
            if self._links:
                match = _CURRENT.fullmatch(self._disk.readlink(pointer_path(key)))
            else:
                match = _CURRENT.fullmatch(self._disk.read(f"{pointer_path(key)}.json", 256).decode(errors="replace"))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        return match[1] if match else None

    def stable_path(self, model: str) -> Path:
        """Return the path that follows the newest generation; without links, that generation's own path."""
        key = model_key(model)
        if not self._links and (generation := self.pointer(key)) is not None:
            return self._disk.root / generation_path(key, generation) / MODEL
        return self._disk.root / pointer_path(key)

    def models(self) -> list[str]:
        """Return the directory names of all models."""
        return [name for name in self._disk.names(MODELS) if MODEL_KEY.fullmatch(name)]

    def generations(self, key: str) -> list[str]:
        """Return the ids of a model's generations, whole or not, in no meaningful order."""
        return [name for name in self._disk.names(f"{MODELS}/{key}/generations") if GENERATION.fullmatch(name)]

    def manifest(self, path: str) -> Manifest | None:
        """Return the manifest of the generation at ``path`` as it stands; None if it cannot be read."""
        try:
            manifest = msgspec.json.decode(self._disk.read(f"{path}/{MANIFEST}", MAX_MANIFEST_BYTES), type=Manifest)
        except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return None
        return manifest if manifest.schema == SCHEMA and _is_shallow(manifest.card) else None

    def is_foreign(self, path: str) -> bool:
        """Whether the manifest at ``path`` is whole and cannot be read: a newer release wrote it."""
        try:
            text = self._disk.read(f"{path}/{MANIFEST}", MAX_MANIFEST_BYTES)
            return self.manifest(path) is None and isinstance(msgspec.json.decode(text), dict)
        except (OSError, ValueError, RecursionError):
            return False

    def uses(self, path: str) -> set[str]:
        """Return the hex digits of all blobs that the generation at ``path`` may need, damaged or not."""
        manifest = self.manifest(path)
        if manifest is not None:
            return set(blobs_of(manifest.entries))
        links = (self._link_text(f"{path}/{MODEL}/{name}") for name in self._disk.walk(f"{path}/{MODEL}"))
        return {match[1] for text in links if (match := _LINK.fullmatch(text))}

    def infos(self) -> list[ModelInfo]:
        """Return every model that has a readable generation, by name."""
        found = []
        for key in self.models():
            generations = self.generations(key)
            manifests = [m for g in generations if (m := self.manifest(generation_path(key, g))) is not None]
            if manifests:
                name = max(manifests, key=lambda m: m.sequence).model
                size = sum(blobs_of(entry for m in manifests for entry in m.entries).values())
                found.append(ModelInfo(name, key, self.current(name), len(generations), size))
        return sorted(found, key=lambda info: (info.name, info.key))

    def inspect(self, key: str, generation: str, *, deep: bool = False) -> tuple[Manifest | None, str]:
        """Return the manifest of a whole generation, or None and what is wrong with it.

        Cheap: one ``readlink`` and one ``stat`` for each file, as long as the seals hold. ``deep`` hashes copies again.
        """
        path = generation_path(key, generation)
        manifest = self.manifest(path)
        if manifest is None:
            return None, "its manifest is missing or torn"
        if generation_id(manifest.entries) != generation:
            return None, "its manifest is another generation's"
        try:
            self._check_names(path, manifest.entries)
            copies = [entry for entry in manifest.entries if not self._check_link(path, entry)]
            if copies:
                self._check_copies(path, copies, deep=deep)
        except Damaged as damage:
            return None, str(damage)
        except FileNotFoundError:
            return None, "it was taken away while it was looked at"
        return manifest, ""

    def _check_names(self, path: str, entries: Sequence[Entry]) -> None:
        found = set(self._disk.walk(f"{path}/{MODEL}"))
        wanted = {entry.name for entry in entries}
        if wrong := sorted(found ^ wanted):
            raise Damaged(f"{wrong[0]} is {'missing' if wrong[0] in wanted else 'foreign'}")

    def _check_link(self, path: str, entry: Entry) -> bool:
        """Return False if ``entry`` is a copy."""
        text = self._link_text(f"{path}/{MODEL}/{entry.name}")
        if not text:
            return False
        if text != link_text(entry):
            raise Damaged(f"{entry.name} links elsewhere")
        if self._blobs.held(hex_of(entry.digest)) != entry.size:
            raise Damaged(f"the blob of {entry.name} is gone")
        return True

    def _check_copies(self, path: str, copies: Sequence[Entry], *, deep: bool) -> None:
        stats = {}
        for entry in copies:
            found = self._disk.stat(f"{path}/{MODEL}/{entry.name}")
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size != entry.size:
                raise Damaged(f"{entry.name} is not the copy that was made")
            stats[entry.name] = found
        sealed = b"".join(seal_text(hex_of(entry.digest), stats[entry.name]) for entry in copies)
        try:
            if not deep and self._disk.read(f"{path}/{COPIES}", len(sealed) + 1) == sealed:
                return
        except FileNotFoundError:
            pass  # no seals: the copies are hashed
        for entry in copies:
            if not self._is_copy(f"{path}/{MODEL}/{entry.name}", entry):
                raise Damaged(f"{entry.name} has other bytes")

    def _is_copy(self, path: str, entry: Entry) -> bool:
        verifier = Verifier(digest=None, size=None, limit_bytes=2**63)
        fd = self._disk.open(path)
        try:
            while chunk := os.read(fd, CHUNK_BYTES):
                verifier.feed(chunk)
        finally:
            os.close(fd)
        return verifier.finish() == entry.digest

    def _link_text(self, path: str) -> str:
        try:
            return self._disk.readlink(path)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return ""
            raise

    def snapshot(self, key: str, generation: str, manifest: Manifest) -> Snapshot:
        """Return a generation that was found whole."""
        directory = self._disk.root / generation_path(key, generation) / MODEL
        return Snapshot(manifest.model, generation, directory, manifest, self.card(key, generation, manifest))

    def card(self, key: str, generation: str, manifest: Manifest) -> dict[str, Any]:
        """Return the newest card that was activated with a generation; what cannot be read gives the manifest's."""
        try:
            data = self._disk.read(card_path(key, generation), MAX_MANIFEST_BYTES)
            card = read_json(data, max_bytes=MAX_MANIFEST_BYTES)
            return card if card_from_json(card).name == manifest.model else manifest.card
        except (OSError, CardError):
            return manifest.card


def pointer_path(key: str) -> str:
    """Return where a model's pointer stands; without links it is a file with `.json` after that."""
    return f"{MODELS}/{key}/current"


def card_path(key: str, generation: str) -> str:
    """Return where the newest card of a generation stands, if it is not its manifest's; goes with the other states."""
    return f"{MODELS}/{key}/state-card-{generation}.json"


def generation_path(key: str, generation: str) -> str:
    """Return where a generation stands."""
    return staged(f"{MODELS}/{key}", generation)


def staged(path: str, generation: str) -> str:
    """Return where a generation stands below ``BUCKET/NAME``: always so deep that its links end in the root."""
    return f"{path}/generations/{generation}"


def link_text(entry: Entry) -> str:
    """Return the text of an entry's link: up from ``models-v1/KEY/generations/ID/model/`` to the root, then down."""
    return "../" * (5 + entry.name.count("/")) + f"{BLOBS}/{hex_of(entry.digest)}"


def _is_shallow(value: object) -> bool:
    """Whether ``value`` nests about as little as a card may: whoever walks it later must not run out of stack."""
    level = [value]
    for _ in range(2 * MAX_DEPTH):  # a card of another system stands within one of ours
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return True
    return False
