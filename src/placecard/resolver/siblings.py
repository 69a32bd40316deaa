"""Siblings that only the hub has: for cards that list no extra files, out of the repository at its pinned commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from anyio import to_thread

from placecard.card import HubUri, Role
from placecard.errors import Code, PlacecardError, StoreError, VerificationError
from placecard.resolver.harvest import Harvest, truncated
from placecard.resolver.plan import HubPin
from placecard.resolver.settings import Budget
from placecard.resolver.spoken_for import SpokenFor
from placecard.source import CommitVerifier, HubFile, HubSource
from placecard.store import Blob, Entry, Lease, Origin, Proof, Store
from placecard.telemetry import Degraded

Listing = dict[str, Any]
"""Remembered between resolves: ``{"repo", "commit", "files": [{"name", "size", "git_sha1", "sha256", "digest"}]}``."""


class _Row(msgspec.Struct, omit_defaults=True):
    name: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    git_sha1: str
    sha256: str | None
    digest: Annotated[str, msgspec.Meta(pattern=r"^blake3:[0-9a-f]{64}\Z")] | None = None


class _Rows(msgspec.Struct):
    repo: str
    commit: str
    files: list[_Row]


@dataclass(frozen=True)
class HubSiblings:
    """Takes a repository's metadata files that are not spoken for; each is proven by the commit's own hash."""

    hub: HubSource
    store: Store
    lease: Lease
    budget: Budget

    async def take(
        self, pin: HubPin, taken: Mapping[str, str], remembered: Listing | None, note: Callable[[Listing], None]
    ) -> Harvest:
        """Return the siblings of ``pin``; what was fetched once is found again in the store, without the network.

        Args:
            taken: Keys of names that are spoken for, to the reason.
            remembered: What ``note`` was given by an earlier resolve.
            note: Is given what there is to remember, if that is new and the store can be written.
        """
        result = Harvest()
        try:
            rows = _recall(remembered, pin) or await self._list(pin)
        except PlacecardError as error:
            result.lose(_unlisted(pin, error))
            return result
        await self._all(pin, rows, SpokenFor(taken), result)
        if self.store.writable and (listing := msgspec.to_builtins(rows)) != remembered:
            note(listing)
        return result

    async def _all(self, pin: HubPin, rows: _Rows, names: SpokenFor, result: Harvest) -> None:
        count = total = 0
        for row in rows.files:
            if names.advertised(row.name):
                continue
            if (reason := names.why_not(row.name)) is not None:
                result.leave_out(row.name, reason)
                continue
            uri = HubUri(pin.repo, pin.commit, row.name)
            if count >= self.budget.harvest_files:
                result.lose(truncated(f"hf://{pin.repo}@{pin.commit} holds more than {count} files", row.name))
                return
            if total + row.size > self.budget.harvest_bytes:
                result.list(row.name, "over the bounds")
                bound = f"{row.size} bytes, which is more than is left of {self.budget.harvest_bytes}"
                result.lose(truncated(f"{uri} has {bound}", row.name))
                continue
            names.take(row.name)
            count, total = count + 1, total + row.size
            try:
                result.entries.append(await self._one(uri, row))
            except StoreError:
                raise
            except PlacecardError as error:
                result.lose(Degraded(error.code, "", row.name, str(error), error.mend))

    async def _list(self, pin: HubPin) -> _Rows:
        files = await self.hub.listing(pin.repo, pin.commit)
        return _Rows(pin.repo, pin.commit, [_Row(f.name, f.size, f.git_sha1, f.sha256) for f in files])

    async def _one(self, uri: HubUri, row: _Row) -> Entry:
        """Return one sibling as an entry, and remember its digest in ``row``."""
        blob = None
        if row.digest is not None:
            self.lease.pin(row.digest)
            blob = self.store.find(row.digest, row.size)
        if blob is None:
            blob = await self._fetch(uri, HubFile(row.name, row.size, row.git_sha1, row.sha256))
            row.digest = blob.digest
        return Entry(row.name, blob.digest, blob.size, Role.EXTRA.value, Proof.COMMIT, Origin.HUB, str(uri), ())

    async def _fetch(self, uri: HubUri, file: HubFile) -> Blob:
        verifier = CommitVerifier(file)
        async with self.hub.open(uri) as chunks:
            limit = self.budget.harvest_bytes
            with self.store.ingest(digest=None, size=file.size, limit_bytes=limit, lease=self.lease) as ingest:
                async for chunk in chunks:
                    await to_thread.run_sync(ingest.write, chunk)
                    verifier.feed(chunk)
                if not verifier.matches():
                    detail = f"the bytes are not those of the commit ({file.sha256 or file.git_sha1})"
                    raise VerificationError(Code.DIGEST_MISMATCH, detail, subject=str(uri))
                return await to_thread.run_sync(ingest.commit)


def _recall(remembered: Listing | None, pin: HubPin) -> _Rows | None:
    """Return the remembered listing; None if there is none of this commit, or it is not well formed."""
    try:
        rows = msgspec.convert(remembered, _Rows)
    except msgspec.ValidationError:
        return None
    return rows if (rows.repo, rows.commit) == (pin.repo, pin.commit) else None


def _unlisted(pin: HubPin, error: PlacecardError) -> Degraded:
    detail = f"the siblings in hf://{pin.repo}@{pin.commit} are not known: {error}"
    return Degraded(error.code, "", "", detail, error.mend)
