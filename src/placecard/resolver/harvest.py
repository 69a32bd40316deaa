"""The sibling harvest: what lies beside the card's files comes along, hashed and copied into the store.

The rule is one pure function, :func:`skip_reason`. Typed and advertised names are never replaced; weights, code and
hidden files stay out and are listed; a missing folder is no error; a changed sibling is noticed by its stat and
taken anew.

Source of the idea: NVIDIA Dynamo pull request 9610. Ours copies what it proved, where that one linked what it found.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from placecard.card import LeftOut, Role, name_key
from placecard.errors import MEANINGS, Code, SourceError
from placecard.resolver.reading import Observed, SiblingReader
from placecard.resolver.settings import Budget
from placecard.resolver.spoken_for import SpokenFor, loss, skip_reason
from placecard.source import Entry as WalkEntry
from placecard.source import LocalSource, Walk
from placecard.store import Entry, Lease, Origin, Proof, Store
from placecard.telemetry import Degraded

__all__ = ["MAX_DIRECTORIES", "Harvest", "Harvester", "Observed", "existing", "skip_reason"]

MAX_DIRECTORIES: Final = 16
"""Directories that a card may have walked; the operator's own ``--model-path`` comes on top."""
_MAX_FACTS: Final = 64
_MAX_LEFT_OUT: Final = 4096


@dataclass
class Harvest:
    """What the directories gave. Lists that a source could make endless end with a word that there was more."""

    entries: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    degraded: list[Degraded] = field(default_factory=list)

    def leave_out(self, name: str, reason: str) -> None:
        """List the sibling ``name`` as left out, and as a loss if that is one."""
        self.list(name, reason)
        if (fact := loss(name, reason)) is not None:
            self.lose(fact)

    def list(self, name: str, reason: str) -> None:
        """List ``name`` as left out."""
        if len(self.left_out) < _MAX_LEFT_OUT:
            self.left_out.append(LeftOut(name, reason))
        elif len(self.left_out) == _MAX_LEFT_OUT:
            self.left_out.append(LeftOut("…", f"more than {_MAX_LEFT_OUT} names were left out"))

    def lose(self, fact: Degraded) -> None:
        """Note a loss."""
        if len(self.degraded) < _MAX_FACTS:
            self.degraded.append(fact)
        elif len(self.degraded) == _MAX_FACTS:
            self.degraded.append(truncated(f"more than {_MAX_FACTS} siblings are missing; see what was left out"))


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
        self._local, self._budget = local, budget
        self._names = SpokenFor(map(name_key, taken))
        self._reader = SiblingReader(store, lease, local, observed)
        self._first: dict[str, tuple[Entry, Path]] = {}
        self._places: set[tuple[int, int]] = set()
        self._directories = self._bytes = self._compared_bytes = 0
        self.result = Harvest()

    @property
    def observed(self) -> Observed:
        """What to hand to the next resolve's harvester."""
        return self._reader.observed

    def directory(self, directory: Path, origin: Origin) -> None:
        """Take the siblings in ``directory`` and its folders; one that is missing gives none, and that is no error."""
        directory = directory.absolute()
        try:
            place = self._local.identify(directory)
        except SourceError as problem:
            self._closed(directory, origin, problem)
            return
        if place in self._places or not self._admit(directory, origin):
            return
        self._places.add(place)
        found = self._local.walk(directory, max_files=self._budget.harvest_files + len(self._names))
        if found.problem is not None:
            self._closed(directory, origin, found.problem)
            return
        for each in found.left_out:
            if self._names.advertised(each.name) or self._names.held(each.name):
                self.result.list(each.name, each.reason)
            else:
                self.result.leave_out(each.name, each.reason)
        if found.truncated:
            self.result.lose(truncated(f"{directory} holds more files than the bounds"))
        self._siblings(found, origin)

    def _closed(self, directory: Path, origin: Origin, problem: SourceError) -> None:
        """Note a directory that is not to be had. One that a card names outside the roots may be there or not: nobody
        looks. The one that the operator named should have been had if it is there."""
        missing = problem.code is Code.NOT_FOUND or (origin is Origin.MODEL_PATH and not _is_there(directory))
        if missing:
            return
        self.result.list(f"{directory}/", problem.detail)
        if origin is Origin.MODEL_PATH:
            detail = f"--model-path {directory} cannot be listed: {problem.detail}"
            self.result.lose(Degraded(problem.code, "", "", detail, problem.mend))

    def _admit(self, directory: Path, origin: Origin) -> bool:
        if origin is Origin.MODEL_PATH:
            return True
        self._directories += 1
        if self._directories == MAX_DIRECTORIES + 1:
            detail = f"the card names more than {MAX_DIRECTORIES} directories"
            self.result.lose(truncated(f"{detail}; {directory} and those after it were not looked at"))
        return self._directories <= MAX_DIRECTORIES

    def _siblings(self, found: Walk, origin: Origin) -> None:
        for file in found.files:
            if self._names.advertised(file.name):
                continue  # the card's own file stands in the directory; nothing is lost
            if self._names.held(file.name):
                self._loser(file, found)
            elif (reason := self._names.why_not(file.name)) is not None:
                self.result.leave_out(file.name, reason)
            elif len(self._first) >= self._budget.harvest_files:
                bound = f"more than {self._budget.harvest_files} files"
                self.result.lose(truncated(f"{found.directory} holds {bound}", file.name))
                return
            elif self._bytes + file.size > self._budget.harvest_bytes:
                self.result.list(file.name, "over the bounds")
                bound = f"{file.size} bytes, which is more than is left of {self._budget.harvest_bytes}"
                self.result.lose(truncated(f"{found.directory / file.name} has {bound}", file.name))
            else:
                self._sibling(file, found, origin)

    def _sibling(self, file: WalkEntry, found: Walk, origin: Origin) -> None:
        """Take one sibling."""
        try:
            copy = self._reader.copy(file, found.directory, self._budget.harvest_bytes - self._bytes)
        except SourceError as error:
            self._unreadable(file.name, error)
            return
        # Anybody may lay out folders as the hub's client does; only those of the operator's own cache prove a commit.
        proof = copy.proof if origin is Origin.HUB else Proof.OBSERVED
        uri = (found.directory / file.name).as_uri()
        entry = Entry(file.name, copy.digest, copy.size, Role.EXTRA.value, proof, origin, uri, ())
        self._bytes += copy.size
        self._names.take(file.name)
        self._first[file.name] = entry, found.directory
        self.result.entries.append(entry)

    def _loser(self, file: WalkEntry, found: Walk) -> None:
        """List a sibling that an earlier directory has, too, with another content. It is hashed only where its size
        leaves that open, within a bound of its own, so that losers cost no sibling its place."""
        winner, place = self._first[file.name]
        reason = f"{found.directory} has another content; {place} comes first"
        if file.size == winner.size:
            self._compared_bytes += file.size
            if self._compared_bytes > self._budget.harvest_bytes:
                reason = f"{found.directory} has it, too, not compared for its size; {place} comes first"
            else:
                try:
                    if self._reader.digest(file, found.directory) == winner.digest:
                        return
                except SourceError as error:
                    reason = f"{error}; {place} comes first"
        self.result.list(file.name, reason)

    def _unreadable(self, name: str, error: SourceError) -> None:
        self.result.list(name, error.detail)
        self.result.lose(Degraded(Code.SIBLING_UNREADABLE, "", name, str(error), error.mend))


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True


def truncated(detail: str, name: str = "") -> Degraded:
    """Return the fact that bounds cut the harvest short."""
    return Degraded(Code.HARVEST_TRUNCATED, "", name, detail, MEANINGS[Code.HARVEST_TRUNCATED].mend)


def existing(directories: Sequence[tuple[Path, Origin]]) -> Iterator[tuple[Path, Origin]]:
    """Yield each path once, as written. Which of them exist, and which are the same directory, is for the harvester to
    find out beneath the roots: what lies outside is not even looked at."""
    first: dict[Path, Origin] = {}
    for path, origin in directories:
        first.setdefault(path, origin)
    yield from first.items()
