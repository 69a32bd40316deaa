"""Files of the hub: ``hf://`` URIs pinned to a commit, through the real client and its cache."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from anyio import to_thread

from placecard.card import HubUri, Uri, is_commit
from placecard.errors import Code, SourceError, error
from placecard.source.base import TransferError
from placecard.source.beneath import Beneath
from placecard.source.hub_cache import CacheUnusableError, HubSnapshot, default_hub_cache, repo_folder, snapshots
from placecard.source.local import CHUNK_BYTES, read_chunks
from placecard.source.proof import HubFile, etag_matches
from placecard.source.threads import run_detached
from placecard.telemetry import Fallback, Observe, ignore

if TYPE_CHECKING:
    from placecard.source.hub_client import Client, Head

MAX_FILE_BYTES: Final = 1 << 30
_T = TypeVar("_T")


class HubSource:
    """Reads repositories of the hub.

    A file is asked for with one HEAD before it is fetched, so that an unreachable, forbidding or overloaded hub is an
    error at once rather than after the client's own retries, and so that the copy in the cache is checked against the
    hub's ETag. A copy that differs is left alone, and the file is fetched into a temporary folder.

    Args:
        offline: Use the cache alone and never connect. The client's own HF_HUB_OFFLINE has the same effect.
        cache_dir: The client's cache; ``~/.cache/huggingface/hub`` if omitted (see :func:`default_hub_cache`).
        endpoint: Base URL of the hub; the client's own (HF_ENDPOINT) if omitted.
        api_timeout_s: For each answer of the hub's API.
        deadline_s: For one file, whatever happens.
        max_file_bytes: Larger files are refused before they are fetched.
        parallel: Calls to the hub at a time.
        observe: Told when a lesser way is taken.
    """

    def __init__(
        self,
        *,
        offline: bool = False,
        cache_dir: Path | None = None,
        endpoint: str | None = None,
        api_timeout_s: float = 10.0,
        deadline_s: float = 300.0,
        max_file_bytes: int = MAX_FILE_BYTES,
        parallel: int = 8,
        observe: Observe = ignore,
    ) -> None:
        self.cache_dir = cache_dir if cache_dir is not None else default_hub_cache({}, Path.home())
        self._offline = offline
        self._endpoint = endpoint
        self._api_timeout_s = api_timeout_s
        self._deadline_s = deadline_s
        self._max_file_bytes = max_file_bytes
        self._turns = anyio.Semaphore(parallel)
        self._observe = observe
        self._quiet_until = 0.0

    def snapshots(self, repo: str) -> tuple[HubSnapshot, ...]:
        """Return the snapshots of ``repo`` in the cache: the one that ``main`` names first, then the newest first."""
        return snapshots(self.cache_dir, repo)

    async def pin(self, repo: str, revision: str | None) -> str:
        """Return the commit that ``revision`` (the default branch if None) names; a commit is returned without asking.

        Raises:
            SourceError: ``HUB_OFFLINE``, ``HUB_AUTH``, ``HUB_GATED``, ``HUB_NOT_FOUND``, ``HUB_REVISION_GONE``,
                ``HUB_RATE_LIMITED`` or ``HUB_ERROR``.
        """
        if revision is not None and is_commit(revision):
            return revision
        return await self._call(lambda client: client.pin(repo, revision), f"hf://{repo}")

    async def listing(self, repo: str, commit: str) -> tuple[HubFile, ...]:
        """Return the files of ``repo`` at ``commit`` with the digests that the commit pins; names are untrusted.

        Raises:
            SourceError: As :meth:`pin`.
        """
        return await self._call(lambda client: client.listing(repo, commit), f"hf://{repo}@{commit}")

    @asynccontextmanager
    async def open(self, uri: Uri) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of the file at ``uri``.

        Raises:
            CardError: ``REVISION_NOT_PINNED`` unless ``uri`` names a commit.
            SourceError: As :meth:`pin`; ``SLOW_SOURCE`` past the deadline; ``TRUNCATED``.
            VerificationError: ``SIZE_CAP`` if the file is too large to be fetched at all.
        """
        assert isinstance(uri, HubUri)
        if not uri.pinned:
            raise error(Code.REVISION_NOT_PINNED, "names no commit", subject=str(uri))
        with ExitStack() as stack:

            def make_spare() -> Path:
                return Path(stack.enter_context(TemporaryDirectory(prefix="placecard-hub-")))

            place = await self._place(uri, make_spare)
            async with aclosing(read_chunks(place.open_file, place.path)) as chunks:
                yield chunks

    async def _place(self, uri: HubUri, make_spare: Callable[[], Path]) -> _Place:
        """Return where the file is on this host: in the cache, fetched into it, or into a spare one."""
        cached = _Place(self.cache_dir, uri)
        try:
            head = await self._call(lambda client: client.head(uri), str(uri))
        except SourceError as problem:
            if not await to_thread.run_sync(cached.exists):
                raise
            self._observe(Fallback("hub_cache_unchecked", problem.code.value))
            return cached
        if head.size > self._max_file_bytes:
            raise error(Code.SIZE_CAP, f"{head.size} bytes; at most {self._max_file_bytes}", subject=str(uri))
        try:
            if not await to_thread.run_sync(cached.exists):
                await self._download(uri, cached.cache_dir, head)
            cause = "" if await to_thread.run_sync(cached.matches, head) else "the copy in the cache is not the file"
        except CacheUnusableError as problem:
            cause = problem.detail
        if not cause:
            return cached
        self._observe(Fallback("hub_cache_bypassed", cause))
        spare = make_spare()
        await self._download(uri, spare, head)
        return _Place(spare, uri)

    async def _download(self, uri: HubUri, cache_dir: Path, head: Head) -> None:
        stop = threading.Event()
        limit = head.size + CHUNK_BYTES
        try:
            await self._call(
                lambda client: client.download(uri, cache_dir, limit_bytes=limit, stop=stop),
                str(uri),
            )
        finally:
            stop.set()

    async def _call(self, ask: Callable[[Client], _T], subject: str) -> _T:
        if self._offline:
            raise SourceError(Code.HUB_OFFLINE, "the hub is turned off here", subject=subject)
        if (left_s := self._quiet_until - time.monotonic()) > 0:
            detail = f"the hub asked to be left alone for another {left_s:.0f} s"
            raise TransferError(Code.HUB_RATE_LIMITED, detail, subject=subject, transient=True, retry_after_s=left_s)
        try:
            async with self._turns:
                return await run_detached(lambda: ask(self._client()), deadline_s=self._deadline_s)
        except TimeoutError as cause:
            detail = f"not complete after {self._deadline_s:g} s"
            raise SourceError(Code.SLOW_SOURCE, detail, subject=subject) from cause
        except TransferError as problem:
            if problem.code is Code.HUB_RATE_LIMITED and problem.retry_after_s is not None:
                self._quiet_until = time.monotonic() + problem.retry_after_s
            raise

    def _client(self) -> Client:
        from placecard.source.hub_client import Client

        return Client(self._endpoint, timeout_s=self._api_timeout_s)


class _Place:
    """Where the client keeps one file in a cache; reached through links that must not leave the cache."""

    def __init__(self, cache_dir: Path, uri: HubUri) -> None:
        self.cache_dir = cache_dir
        self.path = repo_folder(cache_dir, uri.repo) / "snapshots" / str(uri.revision) / uri.path
        self._beneath = Beneath((cache_dir,))

    def open_file(self) -> int:
        return self._beneath.open_file(self.path)

    def exists(self) -> bool:
        """Whether it can be opened; a link that leads out of the cache counts as absent."""
        try:
            os.close(self.open_file())
        except SourceError:
            return False
        return True

    def matches(self, head: Head) -> bool:
        """Whether it is what the hub's ETag names; True where the ETag says nothing, for the card's digest decides."""
        try:
            fd = self.open_file()
        except SourceError:
            return False
        with os.fdopen(fd, "rb", buffering=0) as file:
            return etag_matches(head.etag, head.size, _chunks(file)) is not False


def _chunks(file: FileIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
