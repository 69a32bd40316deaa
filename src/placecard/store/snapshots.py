"""Generations: built aside, made durable, renamed into place, never changed; and the pointer to the current one."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from placecard.card import Card, LeftOut, content_digest, hex_of, serving_digest, to_json
from placecard.errors import Code, StoreError
from placecard.store.blobs import Blobs
from placecard.store.disk import CHUNK_BYTES, Disk
from placecard.store.layout import BLOBS, GENERATION, MODEL_KEY, MODELS, TRASH, model_key
from placecard.store.leases import Leases
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
_CURRENT: Final = re.compile(r"generations/([0-9a-f]{32})/model")
_LINK: Final = re.compile(r"(?:\.\./)+blobs-v1/([0-9a-f]{64})")
_OCCUPIED: Final = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_ATTEMPTS: Final = 4


class Damaged(Exception):  # noqa: N818 - a finding, caught in this module
    """Why a generation is not whole."""


class Snapshots:
    """The generations of all models of one store. Raises :class:`OSError` as it comes."""

    def __init__(self, disk: Disk, blobs: Blobs, leases: Leases, *, links: bool) -> None:
        self._disk = disk
        self._blobs = blobs
        self._leases = leases
        self._links = links

    # reading

    def current(self, model: str) -> Snapshot | None:
        """Return what the model's pointer names, if it is whole and the model's own."""
        key = model_key(model)
        generation = self.pointer(key)
        if generation is None:
            return None
        manifest, _ = self.inspect(key, generation)
        return self._snapshot(key, generation, manifest) if manifest is not None and manifest.model == model else None

    def pointer(self, key: str) -> str | None:
        """Return the generation that the model's pointer names, whole or not."""
        try:
            if self._links:
                match = _CURRENT.fullmatch(self._disk.readlink(_current(key)))
            else:
                match = _CURRENT.fullmatch(self._disk.read(f"{_current(key)}.json", 256).decode(errors="replace"))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        return match[1] if match else None

    def stable_path(self, model: str) -> Path:
        """Return the path that follows the newest generation; without links, that generation's own path."""
        key = model_key(model)
        if not self._links and (generation := self.pointer(key)) is not None:
            return self._disk.root / _generation(key, generation) / MODEL
        return self._disk.root / _current(key)

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
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            return None
        return manifest if manifest.schema == SCHEMA else None

    def is_foreign(self, path: str) -> bool:
        """Whether the manifest at ``path`` is whole and cannot be read: a newer release wrote it."""
        try:
            text = self._disk.read(f"{path}/{MANIFEST}", MAX_MANIFEST_BYTES)
            return self.manifest(path) is None and isinstance(msgspec.json.decode(text), dict)
        except (OSError, ValueError):
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
            manifests = [m for g in generations if (m := self.manifest(_generation(key, g))) is not None]
            if manifests:
                name = max(manifests, key=lambda m: m.sequence).model
                size = sum(blobs_of(entry for m in manifests for entry in m.entries).values())
                found.append(ModelInfo(name, key, self.current(name), len(generations), size))
        return sorted(found, key=lambda info: (info.name, info.key))

    def inspect(self, key: str, generation: str, *, deep: bool = False) -> tuple[Manifest | None, str]:
        """Return the manifest of a whole generation, or None and what is wrong with it.

        Cheap: one ``readlink`` and one ``stat`` for each file, as long as the seals hold. ``deep`` hashes copies again.
        """
        path = _generation(key, generation)
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
        if text != _target(entry):
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

    def _snapshot(self, key: str, generation: str, manifest: Manifest) -> Snapshot:
        directory = self._disk.root / _generation(key, generation) / MODEL
        return Snapshot(manifest.model, generation, directory, manifest)

    # writing

    def publish(
        self,
        model: str,
        entries: tuple[Entry, ...],
        hold: Callable[[Entry], None],
        *,
        card: Card,
        left_out: Sequence[LeftOut],
        activate: bool,
    ) -> Snapshot:
        """Return a whole generation of just these entries, built if it is not there; the caller has pinned it.

        Args:
            hold: Makes sure that the entry's blob stands in the store, or raises ``STORE_MISSING``.
        """
        key, generation = model_key(model), generation_id(entries)
        for _ in range(_ATTEMPTS):  # a garbage collection may take away what nobody pinned in time; then once more
            for entry in entries:
                hold(entry)
            manifest, why = self.inspect(key, generation)
            if manifest is None:
                self._build(key, generation, self._manifest(model, key, card, entries, left_out))
            self._sync_blobs()
            if activate:
                self.activate(key, generation)
            manifest, why = self.inspect(key, generation)
            if manifest is not None:
                return self._snapshot(key, generation, manifest)
        detail = f"generation {generation} is taken away as soon as it is built: {why}"
        raise StoreError(Code.STORE_IO, detail, subject=str(self._disk.root / MODELS / key))

    def activate(self, key: str, generation: str) -> None:
        """Let the model's pointer name ``generation``."""
        if self.pointer(key) == generation:
            return
        self._disk.sync_dir(f"{MODELS}/{key}/generations")
        target, temporary = f"generations/{generation}/{MODEL}", self._leases.temporary()
        try:
            if self._links:
                self._disk.symlink(target, temporary)
                self._replace(temporary, _current(key))
            else:
                self._disk.write_file(temporary, target.encode())
                self._replace(temporary, f"{_current(key)}.json")
        finally:
            self._disk.discard(temporary)
        self._disk.sync_dir(f"{MODELS}/{key}")

    def deactivate(self, key: str) -> bool:
        """Remove the model's pointer; False if there was none."""
        link, file = self._disk.remove(_current(key)), self._disk.remove(f"{_current(key)}.json")
        return link or file

    def discard(self, key: str, generation: str) -> bool:
        """Move a generation out of reach; False if it is gone. Its files are deleted by the garbage collection."""
        aside = f"{TRASH}/{generation}.{key}.{secrets.token_hex(4)}"
        try:
            self._disk.rename(_generation(key, generation), self._make_stage(aside, generation))
        except FileNotFoundError:
            self._disk.remove(aside)
            return False
        return True

    def _manifest(
        self, model: str, key: str, card: Card, entries: tuple[Entry, ...], left_out: Sequence[LeftOut]
    ) -> Manifest:
        older = [m.sequence for g in self.generations(key) if (m := self.manifest(_generation(key, g))) is not None]
        return Manifest(
            model=model, sequence=max(older, default=0) + 1, content_digest=content_digest(card),
            serving_digest=serving_digest(card), card=to_json(card), entries=entries, left_out=tuple(left_out),
        )  # fmt: skip

    def _build(self, key: str, generation: str, manifest: Manifest) -> None:
        """Write the generation aside, make all of it durable, and give it its name."""
        temporary = self._leases.temporary()
        try:
            stage = self._make_stage(temporary, generation)
            self._disk.mkdir(stage)
            self._fill(stage, manifest)
            for name in blobs_of(manifest.entries):
                if not self._disk.exists(f"{BLOBS}/{name}"):
                    detail = "was taken away while the snapshot was built"
                    raise StoreError(Code.STORE_MISSING, detail, subject=str(self._disk.root / BLOBS / name))
            self._sync_blobs()
            self._make_model_directory(key)
            self._place(stage, key, generation)
        finally:
            self._disk.discard(temporary)

    def _fill(self, path: str, manifest: Manifest) -> None:
        directories = dict.fromkeys([f"{path}/{MODEL}"])
        self._disk.mkdir(f"{path}/{MODEL}")
        sealed = b""
        for entry in manifest.entries:
            parts = entry.name.split("/")
            for depth in range(1, len(parts)):
                directory = "/".join([path, MODEL, *parts[:depth]])
                if directory not in directories:
                    self._disk.mkdir(directory)
                    directories[directory] = None
            target = f"{path}/{MODEL}/{entry.name}"
            if self._links:
                self._disk.symlink(_target(entry), target)
            else:
                sealed += self._copy(entry, target)
        if sealed:
            self._disk.write_file(f"{path}/{COPIES}", sealed)
        self._disk.write_file(f"{path}/{MANIFEST}", msgspec.json.encode(manifest))
        for directory in (*reversed(directories), path):
            self._disk.sync_dir(directory)

    def _copy(self, entry: Entry, target: str) -> bytes:
        """Copy a blob and prove the copy; returns its seal."""
        verifier = Verifier(digest=entry.digest, size=entry.size, limit_bytes=entry.size, subject=entry.name)
        source = self._disk.open(f"{BLOBS}/{hex_of(entry.digest)}")
        try:
            fd = self._disk.create(target)
            try:
                while chunk := os.read(source, CHUNK_BYTES):
                    verifier.feed(chunk)
                    self._disk.write(fd, chunk)
                verifier.finish()
                self._disk.make_read_only(fd)
                self._disk.sync(fd)
                return seal_text(hex_of(entry.digest), os.fstat(fd))
            finally:
                os.close(fd)
        finally:
            os.close(source)

    def _place(self, stage: str, key: str, generation: str) -> None:
        target = _generation(key, generation)
        for _ in range(_ATTEMPTS):
            try:
                self._disk.rename(stage, target)
            except FileNotFoundError:
                self._make_model_directory(key)  # the model was removed at this moment
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
                manifest, _ = self.inspect(key, generation)
                if manifest is not None:
                    return  # another process was first, with the same content
                self.discard(key, generation)
            else:
                break
        self._disk.sync_dir(f"{MODELS}/{key}/generations")

    def _make_stage(self, path: str, generation: str) -> str:
        """Make the directories above a generation that is not in its place; returns where it goes."""
        self._disk.mkdir(path)
        self._disk.mkdir(f"{path}/generations")
        return staged(path, generation)

    def _make_model_directory(self, key: str) -> None:
        made = self._disk.mkdir(f"{MODELS}/{key}")
        if self._disk.mkdir(f"{MODELS}/{key}/generations"):
            self._disk.sync_dir(f"{MODELS}/{key}")
        if made:
            self._disk.sync_dir(MODELS)

    def _sync_blobs(self) -> None:
        if self._blobs.unsynced:
            self._blobs.unsynced = False
            try:
                self._disk.sync_dir(BLOBS)
            except OSError:
                self._blobs.unsynced = True
                raise

    def _replace(self, source: str, target: str) -> None:
        try:
            self._disk.rename(source, target)
        except IsADirectoryError:  # somebody made a directory of our pointer
            self._disk.remove(target)
            self._disk.rename(source, target)


def _current(key: str) -> str:
    return f"{MODELS}/{key}/current"


def _generation(key: str, generation: str) -> str:
    return staged(f"{MODELS}/{key}", generation)


def staged(path: str, generation: str) -> str:
    """Return where a generation stands below ``BUCKET/NAME``: always so deep that its links end in the root."""
    return f"{path}/generations/{generation}"


def _target(entry: Entry) -> str:
    """Return the text of an entry's link: up from ``models-v1/KEY/generations/ID/model/`` to the root, then down."""
    return "../" * (5 + entry.name.count("/")) + f"{BLOBS}/{hex_of(entry.digest)}"
