"""The metadata of a hub repository at one commit, fetched into a directory and proven by the commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import anyio
from anyio import to_thread

from placecard.admission.losses import BUDGET
from placecard.card import MAX_FILES, HubUri, Kind, LeftOut, assign_slots, check_name, kind_of
from placecard.errors import CardError, Code, PlacecardError, StoreError, UsageError, VerificationError
from placecard.publisher.selection import MAX_FILE_BYTES, MAX_TOTAL_BYTES, rank
from placecard.source import CommitVerifier, HubFile, Source


class Hub(Source, Protocol):
    """What a checkout asks of the hub; :class:`~placecard.source.HubSource` is one."""

    async def pin(self, repo: str, revision: str | None) -> str:
        """Return the commit that ``revision`` names."""
        ...

    async def listing(self, repo: str, commit: str) -> tuple[HubFile, ...]:
        """Return the files of ``repo`` at ``commit``."""
        ...


@dataclass(frozen=True)
class Checkout:
    """A directory with the metadata of ``repo`` at ``commit``; ``left_out`` names what was not fetched."""

    directory: Path
    repo: str
    commit: str
    left_out: tuple[LeftOut, ...]

    @property
    def origin(self) -> str:
        """What stands on the card as its origin."""
        return f"hf://{self.repo}@{self.commit}"

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the URI of the file called ``name``, pinned to the commit."""
        return (str(HubUri(self.repo, self.commit, name)),)


async def checkout(hub: Hub, repo: str, revision: str | None, into: Path) -> Checkout:
    """Fetch what is no weight of ``repo`` into the directory ``into``, every byte proven by the commit.

    Args:
        hub: Where the repository is.
        repo: ``NAME`` or ``ORG/NAME``.
        revision: A commit, branch or tag; None for the default branch.
        into: An empty directory of the caller's.

    Raises:
        UsageError: The repository has no file that is not a weight.
        SourceError: The hub cannot be asked, or does not deliver.
        VerificationError: ``DIGEST_MISMATCH``; what came is not the file of the commit.
        StoreError: ``into`` cannot be written.
    """
    commit = await hub.pin(repo, revision)
    wanted, left_out = _choose(await hub.listing(repo, commit))
    if not wanted:
        raise UsageError(Code.USAGE, "has no metadata file", subject=f"hf://{repo}@{commit}", mend="Check its name.")
    try:
        async with anyio.create_task_group() as tasks:
            for file in wanted:
                tasks.start_soon(_fetch, hub, HubUri(repo, commit, file.name), file, into)
    except* PlacecardError as group:
        raise _first(group) from None
    return Checkout(into, repo, commit, left_out)


def _choose(listing: tuple[HubFile, ...]) -> tuple[list[HubFile], tuple[LeftOut, ...]]:
    """Sort a listing: weights, hidden files, unsafe names and what is over the bounds, least needed, are left out."""
    wanted: list[HubFile] = []
    left_out: list[LeftOut] = []
    total = MAX_TOTAL_BYTES
    roles = assign_slots(file.name for file in listing)
    for file in sorted(listing, key=lambda file: rank(file.name, file.size, roles)):
        reason = _reason(file)
        if not reason and (len(wanted) >= MAX_FILES or file.size > total):
            reason = BUDGET
        if reason:
            left_out.append(LeftOut(ascii(file.name)[1:-1] if reason == "unsafe name" else file.name, reason))
        else:
            wanted.append(file)
            total -= file.size
    return wanted, tuple(left_out)


def _reason(file: HubFile) -> str:
    try:
        check_name(file.name)
    except CardError:
        return "unsafe name"
    if (kind := kind_of(file.name)) in (Kind.WEIGHTS, Kind.HIDDEN):
        return kind.value
    return "larger than one metadata file may be" if file.size > MAX_FILE_BYTES else ""


async def _fetch(hub: Hub, uri: HubUri, file: HubFile, into: Path) -> None:
    verifier = CommitVerifier(file)
    try:
        with await to_thread.run_sync(_create, into / file.name) as out:
            async with hub.open(uri) as chunks:
                await _copy(chunks, out, verifier, limit_bytes=file.size)
    except OSError as error:
        raise StoreError(Code.STORE_IO, f"cannot be written: {error.strerror}", subject=file.name) from error
    if not verifier.matches():
        raise VerificationError(Code.DIGEST_MISMATCH, f"is not the file of commit {uri.revision}", subject=str(uri))


def _create(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


async def _copy(chunks: AsyncIterator[bytes], out: BinaryIO, verifier: CommitVerifier, *, limit_bytes: int) -> None:
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > limit_bytes:
            return  # not the file that was listed: the verifier says so
        verifier.feed(chunk)
        await to_thread.run_sync(out.write, chunk)


def _first(group: BaseExceptionGroup[PlacecardError]) -> PlacecardError:
    first = group.exceptions[0]
    return first if isinstance(first, PlacecardError) else _first(first)
