"""The real ``huggingface_hub`` client, behind four blocking calls. Imported late: that takes up to two seconds.

The client reads its own environment: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, proxies. Whatever it raises leaves this
module as a :class:`~placecard.errors.SourceError` whose text is made here: the client's own texts may quote a token.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub import errors as hub
from huggingface_hub.utils.tqdm import tqdm

from placecard.card import HubUri, is_commit
from placecard.errors import Code, PlacecardError, SourceError, error
from placecard.source.base import TransferError
from placecard.source.hub_cache import CacheUnusableError
from placecard.source.proof import HubFile

MAX_RETRY_AFTER_S: Final = 60.0


@dataclass(frozen=True)
class Head:
    """What the hub says of one file before it is fetched."""

    etag: str
    size: int


class Client:
    """Calls the hub; blocking.

    Args:
        endpoint: Base URL; the client's own (HF_ENDPOINT) if None.
        timeout_s: For each answer of the API.
    """

    def __init__(self, endpoint: str | None, *, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s

    def pin(self, repo: str, revision: str | None) -> str:
        """Return the commit that ``revision`` (the default branch if None) names now."""
        subject = f"hf://{repo}" + (f"@{revision}" if revision else "")
        with _translated(subject):
            info = HfApi(endpoint=self._endpoint).model_info(repo, revision=revision, timeout=self._timeout_s)
        if info.sha is None or not is_commit(info.sha):
            raise TransferError(Code.HUB_ERROR, "the hub names no commit", subject=subject, transient=False)
        return info.sha

    def listing(self, repo: str, commit: str) -> tuple[HubFile, ...]:
        """Return the files of ``repo`` at ``commit``."""
        subject = f"hf://{repo}@{commit}"
        with _translated(subject):
            api = HfApi(endpoint=self._endpoint)
            info = api.model_info(repo, revision=commit, files_metadata=True, timeout=self._timeout_s)
        if info.sha != commit:
            raise SourceError(Code.HUB_REVISION_GONE, "the hub answered for another commit", subject=subject)
        return tuple(
            HubFile(each.rfilename, each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
            for each in info.siblings or ()
            if each.size is not None and each.blob_id is not None
        )

    def head(self, uri: HubUri) -> Head:
        """Return what the hub says of a file. One request, no retry."""
        assert uri.revision is not None
        subject = str(uri)
        with _translated(subject):
            url = hf_hub_url(uri.repo, uri.path, revision=uri.revision, endpoint=self._endpoint)
            meta = get_hf_file_metadata(url, timeout=self._timeout_s, endpoint=self._endpoint)
        if meta.commit_hash is None or meta.etag is None or meta.size is None:
            detail = "the answer lacks a commit, ETag or size: is HF_ENDPOINT a hub?"
            raise TransferError(Code.HUB_ERROR, detail, subject=subject, transient=False)
        if meta.commit_hash != uri.revision:
            raise SourceError(Code.HUB_REVISION_GONE, "the hub answered for another commit", subject=subject)
        return Head(meta.etag, meta.size)

    def download(self, uri: HubUri, cache_dir: Path, *, limit_bytes: int, stop: threading.Event) -> Path:
        """Return the path of the file in ``cache_dir``, downloaded if it is not there.

        Args:
            uri: A pinned one.
            cache_dir: A cache of the client's layout; made if absent.
            limit_bytes: The download is broken off beyond.
            stop: The download is broken off once this is set.
        """
        subject = str(uri)
        with _translated(subject):
            path = hf_hub_download(
                uri.repo,
                uri.path,
                revision=uri.revision,
                cache_dir=cache_dir,
                endpoint=self._endpoint,
                etag_timeout=self._timeout_s,
                tqdm_class=_brake(limit_bytes, stop, subject),
            )
        return Path(path)


def _brake(limit_bytes: int, stop: threading.Event, subject: str) -> type[tqdm]:
    """Return a silent progress bar that breaks the download off: the one hook into its loop that the client offers."""

    class Brake(tqdm):
        _received = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self._received += int(n or 0)
            if self._received > limit_bytes:
                raise error(Code.SIZE_CAP, f"more than {limit_bytes} bytes arrived", subject=subject)
            if stop.is_set():
                raise SourceError(Code.SLOW_SOURCE, "was given up", subject=subject)
            return None

    return Brake


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    try:
        yield
    except PlacecardError:
        raise
    except (httpx2.LocalProtocolError, UnicodeEncodeError):
        # The text of the cause is the token itself: it is dropped, and so is the chain to it.
        raise SourceError(Code.HUB_AUTH, "the token holds a character that no header may", subject=subject) from None
    except Exception as cause:
        raise meaning(cause, subject) from cause


def meaning(cause: BaseException, subject: str) -> SourceError:  # noqa: PLR0911 - a table
    """Return what an exception of the client means."""
    match cause:
        case hub.OfflineModeIsEnabled():
            return SourceError(Code.HUB_OFFLINE, "HF_HUB_OFFLINE is set", subject=subject)
        case hub.LocalEntryNotFoundError() if cause.__cause__ is not None:
            return meaning(cause.__cause__, subject)
        case hub.LocalEntryNotFoundError():
            return SourceError(Code.HUB_OFFLINE, "not in the local cache", subject=subject)
        case hub.GatedRepoError():
            return SourceError(Code.HUB_GATED, "access to the repository is restricted", subject=subject)
        case hub.RevisionNotFoundError():
            return SourceError(Code.HUB_REVISION_GONE, "the hub has no such revision", subject=subject)
        case hub.HfHubHTTPError():
            return _status_meaning(cause.response.status_code, cause.response.headers.get("Retry-After"), subject)
        case hub.FileMetadataError() | hub.HFValidationError() | httpx2.TooManyRedirects():
            return TransferError(
                Code.HUB_ERROR, f"no answer of a hub ({_kind(cause)})", subject=subject, transient=False
            )
        case httpx2.ReadError() | httpx2.RemoteProtocolError():
            return SourceError(Code.TRUNCATED, f"the hub closed the connection ({_kind(cause)})", subject=subject)
        case httpx2.TransportError():
            return SourceError(Code.HUB_OFFLINE, f"the hub cannot be reached ({_kind(cause)})", subject=subject)
        case OSError() if cause.errno is not None:
            return CacheUnusableError(Code.HUB_ERROR, f"the cache cannot be written: {cause.strerror}", subject=subject)
        case OSError() if "Consistency check failed" in str(cause):
            return SourceError(Code.TRUNCATED, "the download is not of the size that was announced", subject=subject)
    return SourceError(Code.HUB_ERROR, f"the client failed ({_kind(cause)})", subject=subject)


def _status_meaning(status: int, retry_after: str | None, subject: str) -> SourceError:
    detail = f"the hub answered {status}"
    match status:
        case 401 | 403:
            return SourceError(Code.HUB_AUTH, detail, subject=subject)
        case 404:
            return SourceError(Code.HUB_NOT_FOUND, detail, subject=subject)
        case 429:
            wait_s = retry_after_s(retry_after)
            return TransferError(Code.HUB_RATE_LIMITED, detail, subject=subject, transient=True, retry_after_s=wait_s)
    return TransferError(Code.HUB_ERROR, detail, subject=subject, transient=status >= 500 or status == 408)


def retry_after_s(header: str | None) -> float:
    """Return how long a ``Retry-After`` asks to wait, within [1, 60] seconds; 1 where it makes no sense."""
    text = (header or "").strip()
    if not (text.isascii() and text.isdigit()):
        return 1.0
    return min(max(float(text[:9]), 1.0), MAX_RETRY_AFTER_S)


def _kind(cause: BaseException) -> str:
    return type(cause).__name__
