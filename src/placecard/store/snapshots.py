"""Making generations: built aside, made durable, renamed into place, never changed; and moving the pointer."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from placecard.card import Card, LeftOut, content_digest, hex_of, serving_digest, to_json
from placecard.errors import Code, StoreError
from placecard.store.blobs import Blobs
from placecard.store.disk import CHUNK_BYTES, Disk
from placecard.store.generations import (
    COPIES,
    MANIFEST,
    MODEL,
    Generations,
    card_path,
    generation_path,
    link_text,
    pointer_path,
    staged,
)
from placecard.store.layout import BLOBS, MODELS, TRASH, model_key
from placecard.store.leases import Leases
from placecard.store.manifest import Entry, Manifest, Snapshot, blobs_of, generation_id
from placecard.store.seals import seal_text
from placecard.store.verify import Verifier

_OCCUPIED: Final = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_ATTEMPTS: Final = 4


class Snapshots(Generations):
    """Generations, and what changes them. Raises :class:`OSError` as it comes."""

    def __init__(self, disk: Disk, blobs: Blobs, leases: Leases, *, links: bool) -> None:
        super().__init__(disk, blobs, links=links)
        self._leases = leases

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
                self.activate(key, generation, to_json(card))
            manifest, why = self.inspect(key, generation)
            if manifest is not None:
                return replace(self.snapshot(key, generation, manifest), card=to_json(card))
        detail = f"generation {generation} is taken away as soon as it is built: {why}"
        raise StoreError(Code.STORE_IO, detail, subject=str(self._disk.root / MODELS / key))

    def activate(self, key: str, generation: str, card: dict[str, Any]) -> None:
        """Let the model's pointer name ``generation``, whose newest card is ``card`` from now on."""
        self._keep_card(key, generation, card)
        if self.pointer(key) == generation:
            return
        self._disk.sync_dir(f"{MODELS}/{key}/generations")
        target, temporary = f"generations/{generation}/{MODEL}", self._leases.temporary()
        try:
            if self._links:
                self._disk.symlink(target, temporary)
                self._replace(temporary, pointer_path(key))
            else:
                self._disk.write_file(temporary, target.encode())
                self._replace(temporary, f"{pointer_path(key)}.json")
        finally:
            self._disk.discard(temporary)
        self._disk.sync_dir(f"{MODELS}/{key}")

    def _keep_card(self, key: str, generation: str, card: dict[str, Any]) -> None:
        """Write ``card`` beside the pointer, before that moves: no crash leaves the files under a foreign card."""
        manifest = self.manifest(generation_path(key, generation))
        if manifest is None or self.card(key, generation, manifest) == card:
            return
        self.write_state(card_path(key, generation), json.dumps(card).encode(), durable=True)
        self._disk.sync_dir(f"{MODELS}/{key}")

    def write_state(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Write a small file ``models-v1/KEY/NAME`` beside the model's pointer, whole or not at all."""
        temporary = self._leases.temporary()
        try:
            self._disk.write_file(temporary, data, durable=durable)
            for attempt in range(_ATTEMPTS):  # a garbage collection takes away a directory in which nothing is yet
                self._disk.mkdir(path.rpartition("/")[0])
                try:
                    self._disk.rename(temporary, path)
                except FileNotFoundError:
                    if attempt == _ATTEMPTS - 1:
                        raise
                else:
                    return
        finally:
            self._disk.discard(temporary)

    def deactivate(self, key: str) -> bool:
        """Remove the model's pointer; False if there was none."""
        link, file = self._disk.remove(pointer_path(key)), self._disk.remove(f"{pointer_path(key)}.json")
        return link or file

    def discard(self, key: str, generation: str) -> bool:
        """Move a generation out of reach; False if it is gone. Its files are deleted by the garbage collection."""
        aside = f"{TRASH}/{generation}.{key}.{secrets.token_hex(4)}"
        try:
            self._disk.rename(generation_path(key, generation), self._make_stage(aside, generation))
        except FileNotFoundError:
            self._disk.remove(aside)
            return False
        return True

    def _manifest(
        self, model: str, key: str, card: Card, entries: tuple[Entry, ...], left_out: Sequence[LeftOut]
    ) -> Manifest:
        older = [m.sequence for g in self.generations(key) if (m := self.manifest(generation_path(key, g))) is not None]
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
                self._disk.symlink(link_text(entry), target)
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
        target = generation_path(key, generation)
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
        for attempt in range(_ATTEMPTS):
            made = self._disk.mkdir(f"{MODELS}/{key}")
            try:
                if self._disk.mkdir(f"{MODELS}/{key}/generations"):
                    self._disk.sync_dir(f"{MODELS}/{key}")
                if made:
                    self._disk.sync_dir(MODELS)
            except FileNotFoundError:  # a garbage collection took the empty directory away at this moment
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

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
