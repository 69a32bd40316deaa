"""Reading siblings: each is hashed and copied as one piece, or not at all, and remembered by its stat."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from blake3 import blake3

from placecard.card.digest import PREFIX
from placecard.errors import Code, SourceError
from placecard.source import CommitVerifier, LocalSource, cached_file, identity_of
from placecard.source import Entry as WalkEntry
from placecard.store import Lease, Proof, Store

_CHUNK_BYTES: Final = 1 << 20
_TRIES: Final = 2
Observed = dict[str, Any]
"""Path of a sibling → ``[device, inode, size, mtime_ns, ctime_ns, digest, proof]`` as last hashed; kept between
resolves."""
_Row = tuple[int, int, int, int, int, Annotated[str, msgspec.Meta(pattern=r"^blake3:[0-9a-f]{64}\Z")], Proof]
_Sink = Callable[[bytes], object]


@dataclass(frozen=True)
class Copy:
    """A sibling that is in the store. ``proof`` is COMMIT if the hub cache it lies in calls it by its own hash."""

    digest: str
    size: int
    proof: Proof


class ChangedError(SourceError):
    """The file is not what it was a moment ago; ``entry`` is what it is now."""

    def __init__(self, entry: WalkEntry) -> None:
        detail = "changed while it was copied"
        mend = "Resolve again when nothing writes into the model directory any more."
        super().__init__(Code.UNREADABLE, detail, subject=str(entry.real), mend=mend)
        self.entry = entry


class SiblingReader:
    """Brings siblings that a walk has listed into the store, or only hashes them.

    Args:
        before: What was :attr:`observed` by the last resolve; a row that is not well formed counts as none.
    """

    def __init__(self, store: Store, lease: Lease, local: LocalSource, before: Observed) -> None:
        self._store, self._lease, self._local, self._before = store, lease, local, before
        self.observed = Observed()

    def copy(self, file: WalkEntry, directory: Path, room_bytes: int) -> Copy:
        """Return the sibling, copied into the store unless it is there already and its stat is the same as before.

        Args:
            room_bytes: What it may have, should it be larger by now than it was when it was listed.

        Raises:
            SourceError: It cannot be read, or was changed meanwhile, twice.
            StoreError: It cannot be stored.
        """
        if (row := self._remembered(file, directory)) is not None:
            self._lease.pin(row[5])
            if self._store.find(row[5], file.size) is not None:
                self._note(file, directory, row[5], row[6])
                return Copy(row[5], file.size, row[6])
        if not self._store.writable and (held := self._held(file, directory, room_bytes)) is not None:
            return held
        return self._steady(file, directory, self._ingest, room_bytes)

    def digest(self, file: WalkEntry, directory: Path) -> str:
        """Return the sibling's digest; nothing is stored.

        Raises:
            SourceError: As for :meth:`copy`.
        """
        if (row := self._remembered(file, directory)) is not None:
            self._note(file, directory, row[5], row[6])
            return row[5]
        return self._steady(file, directory, self._hash, file.size).digest

    def _held(self, file: WalkEntry, directory: Path, room_bytes: int) -> Copy | None:
        """Return the sibling if the store, which cannot be written, has its bytes from another time."""
        found = self._steady(file, directory, self._hash, room_bytes)
        self._lease.pin(found.digest)
        return found if self._store.find(found.digest, found.size) is not None else None

    def _steady(
        self, file: WalkEntry, directory: Path, read: Callable[[int, WalkEntry, Path], Copy], room_bytes: int
    ) -> Copy:
        """Read the file; once more, from a fresh stat, if it changed meanwhile."""
        for tries_left in reversed(range(_TRIES)):
            descriptor = self._local.reopen(file)
            try:
                copy = read(descriptor, file, directory)
            except ChangedError as changed:
                file = changed.entry
                if not tries_left or file.size > room_bytes:
                    raise
                continue
            except OSError as error:
                raise SourceError(Code.UNREADABLE, error.strerror or str(error), subject=str(file.real)) from error
            finally:
                os.close(descriptor)
            self._note(file, directory, copy.digest, copy.proof)
            return copy
        raise AssertionError("the last try returns or raises")

    def _ingest(self, descriptor: int, file: WalkEntry, directory: Path) -> Copy:
        commit = _commit_verifier(file, directory)
        with self._store.ingest(digest=None, size=None, limit_bytes=file.size, lease=self._lease) as ingest:
            _pour(descriptor, file, [ingest.write, *([commit.feed] if commit else [])])
            blob = ingest.commit()
        return Copy(blob.digest, blob.size, _proof(commit))

    def _hash(self, descriptor: int, file: WalkEntry, directory: Path) -> Copy:
        commit, hasher = _commit_verifier(file, directory), blake3()
        _pour(descriptor, file, [hasher.update, *([commit.feed] if commit else [])])
        return Copy(PREFIX + hasher.hexdigest(), file.size, _proof(commit))

    def _remembered(self, file: WalkEntry, directory: Path) -> _Row | None:
        try:
            row: _Row = msgspec.convert(self._before.get(_key(file, directory)), _Row)
        except msgspec.ValidationError:
            return None  # none, or not one of ours: the file is read again
        if row[:5] != file.identity or (row[6] is not Proof.OBSERVED and _commit_verifier(file, directory) is None):
            return None
        return row

    def _note(self, file: WalkEntry, directory: Path, digest: str, proof: Proof) -> None:
        self.observed[_key(file, directory)] = [*file.identity, digest, proof.value]


def _key(file: WalkEntry, directory: Path) -> str:
    return str(directory / file.name).encode(errors="backslashreplace").decode()  # it is kept as JSON


def _commit_verifier(file: WalkEntry, directory: Path) -> CommitVerifier | None:
    return CommitVerifier(known) if (known := cached_file(file, directory)) is not None else None


def _proof(commit: CommitVerifier | None) -> Proof:
    return Proof.COMMIT if commit is not None and commit.matches() else Proof.OBSERVED


def _pour(descriptor: int, file: WalkEntry, sinks: Sequence[_Sink]) -> None:
    """Feed the bytes of ``file`` to each sink.

    Raises:
        ChangedError: What is open is another file, or was written to before the last byte.
    """
    left = file.size
    _want_same(descriptor, file)
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            break
        for sink in sinks:
            sink(chunk)
    _want_same(descriptor, file)
    if left:
        raise ChangedError(file)


def _want_same(descriptor: int, file: WalkEntry) -> None:
    if identity_of(status := os.fstat(descriptor)) != file.identity:
        raise ChangedError(file.seen_again(status))
