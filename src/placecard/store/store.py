"""The store: proven bytes under their digests, and whole model directories made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from placecard.card import Card, LeftOut, check_digest, hex_of, to_json
from placecard.errors import Code, StoreError, VerificationError
from placecard.store import bundle
from placecard.store.blobs import Blobs
from placecard.store.disk import CHUNK_BYTES, Disk, translated
from placecard.store.gc import GcReport, collect
from placecard.store.ingest import Ingest, Quota
from placecard.store.layout import (
    BLOBS,
    LAYOUT,
    LEASES,
    MODELS,
    STATE_KEY,
    ensure,
    model_key,
    open_root,
    prepare,
    read_marker,
)
from placecard.store.leases import Lease, Leases
from placecard.store.manifest import Blob, Entry, ModelInfo, Snapshot, blobs_of, checked, generation_id
from placecard.store.scrub import VerifyReport, scrub
from placecard.store.seals import Seals
from placecard.store.snapshots import Snapshots
from placecard.store.verify import Verifier
from placecard.telemetry import Observe, ignore

MAX_STATE_BYTES: Final = 16 << 20


class Store:
    """Proven bytes and whole directories on the local disk. Safe for threads and processes; correct without any lock.

    Every method blocks. Every method raises :class:`~placecard.errors.StoreError` when the disk fails it, naming the
    path and the root; the methods that write raise ``STORE_READ_ONLY`` or ``STORE_NEWER`` on a store that may
    only be read.

    Attributes:
        root: The store's own directory, links followed.
        writable: Whether it may be written.
    """

    def __init__(
        self, disk: Disk, *, lower: Sequence[Disk], quota_bytes: int | None, links: bool, observe: Observe,
        refusal: StoreError | None,
    ) -> None:  # fmt: skip
        self.root = disk.root
        self.writable = refusal is None
        self._disk = disk
        self._lower = tuple(lower)
        self._refusal = refusal
        self._leases = Leases(disk, writable=self.writable)
        self._seals = Seals(disk, writable=self.writable)
        self._blobs = Blobs(disk, self._seals, self._lower, writable=self.writable, observe=observe)
        self._quota = Quota(disk, quota_bytes)
        self._snapshots = Snapshots(disk, self._blobs, self._leases, links=links)

    @classmethod
    def open(
        cls, root: Path, *, lower: Sequence[Path] = (), quota_bytes: int | None = None, observe: Observe = ignore
    ) -> Self:
        """Open the store at ``root``; make it, private to this user, where there is none.

        What dead writers left unfinished is removed; files that are not the store's are left alone.

        Args:
            root: May be a link; it is followed once.
            lower: Roots of other stores that are read and never written, first one first.
            quota_bytes: Bound on the bytes of all blobs.
            observe: Takes the facts: fallbacks, and blobs that were set aside.

        Raises:
            StoreError: ``STORE_LOOP``, ``STORE_DENIED``, ``STORE_READ_ONLY``, ``STORE_FULL``, ``STORE_IO``.
        """
        disk = open_root(root, observe)
        with translated(disk.root):
            marker = read_marker(disk)
            refusal = _refusal(disk, marker)
            if refusal is not None and marker is None:
                raise refusal
            links = marker[1] if refusal is not None and marker is not None else _prepared(disk)
            layers = [layer for path in lower if (layer := _layer(path, disk, observe)) is not None]
            store = cls(disk, lower=layers, quota_bytes=quota_bytes, links=links, observe=observe, refusal=refusal)
            if not links:
                disk.state("copy_instead_of_link", f"{disk.root} is on a file system without symbolic links")
            if store.writable:
                store._sweep()
        return store

    # blobs

    def find(self, digest: str, size: int | None = None) -> Blob | None:
        """Return the proven blob, or None; one that is no longer right is set aside and counted.

        Args:
            size: Bytes it must have where that is known; bytes that are proven and of another size are not the file.
        """
        check_digest(digest, subject="find")
        with translated(self.root):
            blob = self._blobs.find(hex_of(digest))
        return blob if blob is None or size is None or blob.size == size else None

    def ingest(
        self, *, digest: str | None, size: int | None, limit_bytes: int, subject: str = "", lease: Lease | None = None
    ) -> Ingest:
        """Return the way in for one file; ``with store.ingest(…) as ingest``, write its bytes, commit.

        Args:
            digest: What the bytes must prove to be; None takes them as they are and learns their digest.
            size: Bytes expected, or None.
            limit_bytes: Bytes allowed.
            subject: What errors about the bytes name.
            lease: Pins the blob before it gets its name; of use where the digest is not known before.

        Raises:
            VerificationError: ``SIZE_CAP`` if the size alone is over the limit.
        """
        self._check_writable()
        verifier = Verifier(digest=digest, size=size, limit_bytes=limit_bytes, subject=subject)
        return Ingest(
            disk=self._disk, blobs=self._blobs, seals=self._seals, leases=self._leases, quota=self._quota,
            verifier=verifier, lease=lease,
        )  # fmt: skip

    def lease(self) -> Lease:
        """Return a new lease: one for each resolve, publish or serve. Pin first, then look."""
        if self.writable:
            with translated(self.root):
                ensure(self._disk, self._leases.new_owner())
        return self._leases.acquire()

    # models

    def publish(
        self,
        model: str,
        entries: Sequence[Entry],
        *,
        card: Card,
        left_out: Sequence[LeftOut] = (),
        activate: bool = True,
        lease: Lease | None = None,
    ) -> Snapshot:
        """Return a whole, durable generation of just these files. The same files, proven alike, are the same one.

        Args:
            entries: Every name of the directory; each blob must be in the store or a lower layer.
            card: Kept in the manifest, or beside the pointer where the generation exists with another one.
            left_out: What stays out, and why; kept in the manifest.
            activate: Whether the model's stable path shall point to it at once; see :meth:`activate`.
            lease: Keeps the generation until it is released; without one it is kept only if it is activated.

        Raises:
            CardError: A name or digest that must not become a path.
            StoreError: ``STORE_MISSING`` if a blob is gone: fetch it again.
        """
        self._check_writable()
        ordered = checked(entries)
        with translated(self.root):
            ensure(self._disk, self._leases.new_owner())
        own = self.lease()
        try:
            pinning = lease or own
            pinning.pin(*(entry.digest for entry in ordered))
            pinning.pin_generation(self.root / MODELS / model_key(model) / "generations" / generation_id(ordered))
            with translated(self.root):
                return self._snapshots.publish(
                    model, ordered, self._hold, card=card, left_out=left_out, activate=activate
                )
        finally:
            own.release()

    def activate(self, snapshot: Snapshot, *, card: Card | None = None) -> None:
        """Let the model's stable path point to ``snapshot``.

        Args:
            card: How these files are served from now on, where that has changed since the generation was made; by
                default the card that ``snapshot`` carries. Cheap if all stands as it should already.

        Raises:
            StoreError: ``STORE_MISSING`` if the generation is no longer whole.
        """
        self._check_writable()
        key = model_key(snapshot.model)
        with self.lease() as lease, translated(self.root):
            lease.pin_generation(snapshot.directory)
            manifest, why = self._snapshots.inspect(key, snapshot.generation)
            if manifest is None:
                raise StoreError(Code.STORE_MISSING, why, subject=str(snapshot.directory))
            self._snapshots.activate(key, snapshot.generation, snapshot.card if card is None else to_json(card))

    def current(self, model: str) -> Snapshot | None:
        """Return the whole generation that the model's stable path points to; None if there is none."""
        with translated(self.root):
            return self._snapshots.current(model)

    def models(self) -> tuple[ModelInfo, ...]:
        """Return every model of the store, by name."""
        with translated(self.root):
            return tuple(self._snapshots.infos())

    def stable_path(self, model: str) -> Path:
        """Return the path that follows the model's newest generation.

        Where the file system has no links, this is the path of the present generation, and must be asked again.
        """
        with translated(self.root):
            return self._snapshots.stable_path(model)

    def remove(self, model: str) -> bool:
        """Remove a model, but for generations in use; False if there is none. Its blobs go at the next :meth:`gc`."""
        self._check_writable()
        key = model_key(model)
        with translated(self.root):
            names = self._disk.names(f"{MODELS}/{key}")
            existed = self._snapshots.deactivate(key)
            pinned = self._leases.pins().generations
            for generation in self._snapshots.generations(key):
                existed = True
                if f"{key}/{generation}" not in pinned:
                    self._snapshots.discard(key, generation)
            for name in names:
                if name.startswith("state-"):
                    self._disk.remove(f"{MODELS}/{key}/{name}")
            if self._disk.rmdir(f"{MODELS}/{key}/generations") or not names:
                self._disk.rmdir(f"{MODELS}/{key}")
        return existed

    # small state of callers

    def read_state(self, model: str, key: str) -> dict[str, Any] | None:
        """Return what :meth:`write_state` wrote last; None if nothing did, or it cannot be read."""
        try:
            value = json.loads(self._disk.read(_state_path(model, key), MAX_STATE_BYTES))
        except (OSError, ValueError, RecursionError):  # a cache: its owner makes it anew
            return None
        return value if isinstance(value, dict) else None

    def write_state(self, model: str, key: str, value: dict[str, Any]) -> None:
        """Keep a small JSON object beside the model's pointer, whole or not at all; may be lost in a power loss."""
        self._check_writable()
        path = _state_path(model, key)
        data = json.dumps(value, sort_keys=True).encode()  # escaped: a path need not be Unicode
        with translated(self.root):
            ensure(self._disk, self._leases.new_owner())
            self._snapshots.write_state(path, data)

    # care

    def gc(self, *, keep_generations: int = 2, target_bytes: int | None = None, dry_run: bool = False) -> GcReport:
        """Delete old generations, then the blobs that no generation and no live lease uses.

        Args:
            keep_generations: Whole generations to keep of each model, the current one among them.
            target_bytes: Bound on the bytes of all blobs, for which older generations go too; current ones never do.
            dry_run: Only say what would go.
        """
        self._check_writable()
        with translated(self.root):
            return collect(
                self._disk, self._leases, self._snapshots, layers=self._lower, keep=keep_generations,
                target_bytes=target_bytes, dry_run=dry_run,
            )  # fmt: skip

    def verify(self, *, sample: float = 1.0) -> VerifyReport:
        """Hash blobs again whatever their seals say, and look at every generation.

        Args:
            sample: Share of the blobs to hash, 0 to 1.
        """
        with translated(self.root):
            return scrub(self._disk, self._blobs, self._snapshots, sample=sample)

    # bundles

    def export(self, model: str, target: BinaryIO) -> bundle.ExportReport:
        """Write the model's current generation to ``target``; the same model gives the same bytes.

        Raises:
            StoreError: ``STORE_MISSING`` if it has none, ``STORE_CORRUPT`` if its files are not those of its card or a
                blob changes meanwhile.
            OSError: ``target`` failed.
        """
        with self.lease() as lease:
            snapshot = self.current(model)
            if snapshot is None:
                raise StoreError(Code.STORE_MISSING, f"{self.root} has no whole generation of it", subject=model)
            lease.pin_generation(snapshot.directory)
            return bundle.write_bundle(snapshot, self._open_blob, target)

    def import_(self, source: BinaryIO, *, allow_code: Collection[str] = ()) -> Snapshot:
        """Read a bundle, prove every file, and publish the model: all of it or nothing.

        The files are those that the bundle's card lists, and what was seen beside them, which counts as OBSERVED here.

        Args:
            allow_code: Digests of files on the card that may come in although they are code, weights or hidden.

        Raises:
            StoreError: ``BUNDLE_MALFORMED``.
            OSError: ``source`` failed.
        """
        self._check_writable()
        index, card, entries = bundle.read_index(source, allow_code=allow_code)
        with self.lease() as lease:
            lease.pin(*(entry.digest for entry in entries))
            for name, size in sorted(blobs_of(entries).items()):
                try:
                    with self.ingest(digest=f"blake3:{name}", size=size, limit_bytes=size) as ingest:
                        bundle.read_blob(source, name, size, ingest)
                except VerificationError as error:
                    raise bundle.malformed(f"blobs/{name}: {error.detail}") from error
            bundle.read_end(source)
            return self.publish(index.model, entries, card=card, left_out=index.left_out, lease=lease)

    # inside

    def _check_writable(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _sweep(self) -> None:
        for path in (*self._leases.leftovers(), *(f"{LEASES}/{owner}" for owner in self._leases.dead())):
            self._disk.discard(path)

    def _hold(self, entry: Entry) -> None:
        """Make sure that the store itself has the entry's blob; copy it from a lower layer if it is only there."""
        name = hex_of(entry.digest)
        blob = self._blobs.find(name)
        if blob is None or blob.size != entry.size:
            why = "is not in the store" if blob is None else f"has {blob.size} bytes, not {entry.size}"
            raise StoreError(Code.STORE_MISSING, f"{entry.digest} {why}", subject=entry.name)
        if blob.path.parent == self.root / BLOBS:
            return
        try:
            with (
                self.ingest(digest=entry.digest, size=entry.size, limit_bytes=entry.size, subject=entry.name) as ingest,
                blob.path.open("rb") as source,
            ):
                while chunk := source.read(CHUNK_BYTES):
                    ingest.write(chunk)
                ingest.commit()
        except VerificationError as error:
            raise StoreError(
                Code.STORE_MISSING, f"changed in {blob.path}: {error.detail}", subject=entry.name
            ) from error

    def _open_blob(self, name: str) -> BinaryIO:
        with translated(self.root):
            if self._blobs.find(name) is None:
                raise StoreError(Code.STORE_MISSING, "is gone", subject=f"blake3:{name}")
            return os.fdopen(self._disk.open(f"{BLOBS}/{name}"), "rb")


def _prepared(disk: Disk) -> bool:
    return prepare(disk, Leases(disk).new_owner())


def _refusal(disk: Disk, marker: tuple[int, bool] | None) -> StoreError | None:
    """Return why the store may not be written; None if it may."""
    if marker is not None and marker[0] > LAYOUT:
        detail = f"has layout {marker[0]}; this release writes {LAYOUT}"
        return StoreError(Code.STORE_NEWER, detail, subject=str(disk.root))
    if os.fstatvfs(disk.fd).f_flag & os.ST_RDONLY:
        return StoreError(Code.STORE_READ_ONLY, "is on a read-only file system", subject=str(disk.root))
    return None


def _layer(path: Path, upper: Disk, observe: Observe) -> Disk | None:
    try:
        layer = Disk(Path(os.path.realpath(path)), observe)
    except OSError as error:
        upper.state(f"lower_layer_absent:{path}", f"{path}: {error.strerror}")
        return None
    return None if layer.root == upper.root else layer


def _state_path(model: str, key: str) -> str:
    if not STATE_KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key for a state")
    return f"{MODELS}/{model_key(model)}/state-{key}.json"
