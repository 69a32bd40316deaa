"""Siblings that only the hub has: for cards that list no extra files, out of the repository at its pinned commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from placecard.card import HubUri, LeftOut, Role
from placecard.errors import MEANINGS, Code, PlacecardError, StoreError, VerificationError
from placecard.resolver.harvest import Harvest, skip_reason
from placecard.resolver.plan import HubPin
from placecard.resolver.settings import Budget
from placecard.source import CommitVerifier, HubFile, HubSource
from placecard.store import Entry, Lease, Origin, Proof, Store
from placecard.telemetry import Degraded

Listing = dict[str, Any]
"""Remembered between resolves: ``{"repo", "commit", "files": [{"name", "size", "git_sha1", "sha256", "digest"}]}``."""


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
        """
        result = Harvest()
        listing = remembered
        if listing is None or (listing.get("repo"), listing.get("commit")) != (pin.repo, pin.commit):
            try:
                listing = await self._list(pin)
            except PlacecardError as error:
                result.degraded.append(_unlisted(pin, error))
                return result
        count = total = 0
        for known in listing["files"]:
            file = HubFile(known["name"], known["size"], known["git_sha1"], known["sha256"])
            reason = skip_reason(file.name, taken=taken)
            if reason == "advertised":
                continue
            if reason is None and (count >= self.budget.harvest_files or total + file.size > self.budget.harvest_bytes):
                detail = f"hf://{pin.repo}@{pin.commit} holds more than the bounds"
                mend = MEANINGS[Code.HARVEST_TRUNCATED].mend
                result.degraded.append(Degraded(Code.HARVEST_TRUNCATED, "", file.name, detail, mend))
                break
            if reason is not None:
                result.left_out.append(LeftOut(file.name, reason))
                continue
            count, total = count + 1, total + file.size
            try:
                result.entries.append(await self._one(pin, file, known))
            except StoreError:
                raise
            except PlacecardError as error:
                result.degraded.append(Degraded(error.code, "", file.name, str(error), error.mend))
        note(listing)
        return result

    async def _list(self, pin: HubPin) -> Listing:
        files = await self.hub.listing(pin.repo, pin.commit)
        rows = [{"name": f.name, "size": f.size, "git_sha1": f.git_sha1, "sha256": f.sha256} for f in files]
        return {"repo": pin.repo, "commit": pin.commit, "files": rows}

    async def _one(self, pin: HubPin, file: HubFile, known: dict[str, Any]) -> Entry:
        """Return one sibling as an entry, and remember its digest in ``known``."""
        uri = HubUri(pin.repo, pin.commit, file.name)
        blob = None
        if isinstance(digest := known.get("digest"), str):
            self.lease.pin(digest)
            blob = self.store.find(digest, file.size)
        if blob is None:
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
                    blob = await to_thread.run_sync(ingest.commit)
        known["digest"] = blob.digest
        return Entry(file.name, blob.digest, blob.size, Role.EXTRA.value, Proof.COMMIT, Origin.HUB, str(uri), ())


def _unlisted(pin: HubPin, error: PlacecardError) -> Degraded:
    detail = f"the siblings in hf://{pin.repo}@{pin.commit} are not known: {error}"
    return Degraded(error.code, "", "", detail, error.mend)
