"""The sibling harvest: what lies beside the card's files comes along, hashed and copied into the store.

The rule is one pure function, :func:`skip_reason`. Typed and advertised names are never replaced; weights, code and
hidden files stay out and are listed; a missing folder is no error; a changed sibling is noticed by its stat and
taken anew.

Source of the idea: NVIDIA Dynamo pull request 9610. Ours copies what it proved, where that one linked what it found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placecard.card import Kind, LeftOut, Role, kind_of, name_key
from placecard.errors import MEANINGS, Code, PlacecardError, StoreError
from placecard.resolver.settings import Budget
from placecard.source import CommitVerifier, HubFile, LocalSource, Reason, Walk
from placecard.source import Entry as WalkEntry
from placecard.store import Blob, Entry, Lease, Origin, Proof, Store
from placecard.telemetry import Degraded

_CHUNK_BYTES = 1 << 20
Observed = dict[str, Any]
"""Path of a sibling → ``[device, inode, size, mtime_ns, ctime_ns, digest, proof]`` as last hashed; kept between
resolves."""


@dataclass
class Harvest:
    """What the directories gave."""

    entries: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    degraded: list[Degraded] = field(default_factory=list)


def skip_reason(name: str, *, taken: Mapping[str, str]) -> str | None:
    """Say why a sibling stays out of the directory; None means it comes along.

    Args:
        name: Relative name in its directory.
        taken: :func:`~placecard.card.name_key` of every name that is spoken for, to the reason.
    """
    key = name_key(name)
    parts = key.split("/")
    for depth in range(1, len(parts) + 1):
        if reason := taken.get("/".join(parts[:depth])):
            return reason
    kind = kind_of(name)
    return None if kind is Kind.METADATA else kind.value


class Harvester:
    """Takes siblings out of directories of this host, within bounds that hold over all of them."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        local: LocalSource,
        *,
        taken: Sequence[str],
        observed: Observed,
        budget: Budget,
    ) -> None:
        self._store, self._lease, self._local, self._budget = store, lease, local, budget
        self._taken = {name_key(name): "advertised" for name in taken}
        self._digest_of: dict[str, tuple[str, str]] = {}
        self._before, self.observed = observed, Observed()
        self._files = self._bytes = 0
        self.result = Harvest()

    def directory(self, directory: Path, origin: Origin) -> None:
        """Take the siblings in ``directory`` and its folders; one that is missing gives none, and that is no error."""
        found = self._local.walk(directory, max_files=self._budget.harvest_files + len(self._taken))
        if found.problem is not None:
            if found.problem.code is not Code.NOT_FOUND:
                self.result.left_out.append(LeftOut(f"{directory}/", found.problem.detail))
            return
        for each in found.left_out:
            self.result.left_out.append(each)
            if each.reason == Reason.UNREADABLE:
                self._unreadable(each.name, f"{directory / each.name} cannot be read")
        if found.truncated:
            self._truncated(directory, "more files than the bounds")
        for file in found.files:
            reason = skip_reason(file.name, taken=self._taken)
            if reason == "advertised":
                continue  # the card's own file stands in the directory; nothing is lost
            if reason is not None:
                self.result.left_out.append(LeftOut(file.name, reason))
            elif not self._sibling(file, found, origin):
                return

    def _sibling(self, file: WalkEntry, found: Walk, origin: Origin) -> bool:
        """Take one sibling; False when a bound is reached."""
        directory = found.directory
        known = self._digest_of.get(name_key(file.name))
        if known is None and (
            self._files >= self._budget.harvest_files or self._bytes + file.size > self._budget.harvest_bytes
        ):
            bounds = f"{self._budget.harvest_files} files or {self._budget.harvest_bytes} bytes"
            self._truncated(directory, f"more than {bounds}")
            return False
        try:
            blob, proof = self._blob(file, found)
        except StoreError:
            raise
        except (PlacecardError, OSError) as error:
            self._unreadable(file.name, str(error))
            return True
        if known is None:
            self._files, self._bytes = self._files + 1, self._bytes + blob.size
            self._digest_of[name_key(file.name)] = (blob.digest, str(directory))
            uri = (directory / file.name).as_uri()
            role = Role.EXTRA.value
            self.result.entries.append(Entry(file.name, blob.digest, blob.size, role, proof, origin, uri, ()))
        elif known[0] != blob.digest:
            self.result.left_out.append(LeftOut(file.name, f"{directory} has another content; {known[1]} comes first"))
        return True

    def _blob(self, file: WalkEntry, found: Walk) -> tuple[Blob, Proof]:
        """Return the sibling's blob: remembered while its stat is the same, hashed and copied otherwise."""
        key = str(found.directory / file.name)
        stat = [file.dev, file.ino, file.size, file.mtime_ns, file.ctime_ns]
        before = self._before.get(key)
        if isinstance(before, list) and len(before) == 7 and before[:5] == stat:
            self._lease.pin(before[5])
            if (blob := self._store.find(before[5], file.size)) is not None:
                self.observed[key] = before
                return blob, Proof(before[6])
        blob, proof = self._copy(file, found)
        self.observed[key] = [*stat, blob.digest, proof.value]
        return blob, proof

    def _copy(self, file: WalkEntry, found: Walk) -> tuple[Blob, Proof]:
        commit = _commit_verifier(file)
        descriptor = LocalSource(found.scope).open_fd(file.real)
        try:
            limit = self._budget.harvest_bytes
            with self._store.ingest(digest=None, size=None, limit_bytes=limit, lease=self._lease) as ingest:
                while chunk := os.read(descriptor, _CHUNK_BYTES):
                    ingest.write(chunk)
                    if commit is not None:
                        commit.feed(chunk)
                blob = ingest.commit()
        finally:
            os.close(descriptor)
        return blob, Proof.COMMIT if commit is not None and commit.matches() else Proof.OBSERVED

    def _truncated(self, directory: Path, what: str) -> None:
        mend = MEANINGS[Code.HARVEST_TRUNCATED].mend
        self.result.degraded.append(Degraded(Code.HARVEST_TRUNCATED, "", "", f"{directory} holds {what}", mend))

    def _unreadable(self, name: str, detail: str) -> None:
        mend = MEANINGS[Code.SIBLING_UNREADABLE].mend
        self.result.degraded.append(Degraded(Code.SIBLING_UNREADABLE, "", name, detail, mend))


def existing(directories: Sequence[tuple[Path, Origin]]) -> Iterator[tuple[Path, Origin]]:
    """Yield each directory once, however many paths lead to it."""
    seen: set[tuple[int, int]] = set()
    for path, origin in directories:
        try:
            stat = path.stat()
        except OSError:
            continue  # a missing folder is no error
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            yield path, origin


def _commit_verifier(file: WalkEntry) -> CommitVerifier | None:
    """Return what can prove a file of the hub's cache: its blob is named by the hash that the hub gave for it."""
    etag = file.real.name
    if file.real.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag):
        return None
    return CommitVerifier(HubFile(file.name, file.size, etag, etag if len(etag) == 64 else None))
