"""Proof by commit: what the hub says of a file at a pinned commit, and whether bytes are that file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from placecard.source.beneath import hub_blobs
from placecard.source.listing import Entry

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository at a commit, as the hub lists it.

    Args:
        name: Path within the repository; untrusted.
        size: Bytes.
        git_sha1: Git's id of the blob. For a file in large-file storage that is the id of the pointer, not of the
        bytes.
        sha256: Digest of the bytes where the file is in large-file storage; else None.
    """

    name: str
    size: int
    git_sha1: str
    sha256: str | None = None


class CommitVerifier:
    """Tells whether a stream of bytes is ``file``, in one pass and constant memory.

    Source: git's object format: a blob's id is ``sha1("blob <size>\\0" + bytes)``; the large-file pointer holds the
    sha256.
    """

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._received = 0
        self._hash = hashlib.sha256() if file.sha256 else _git_blob(file.size)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._received += len(chunk)
        self._hash.update(chunk)

    def matches(self) -> bool:
        """Whether the bytes so far are the whole file."""
        expected = self._file.sha256 or self._file.git_sha1
        return self._received == self._file.size and self._hash.hexdigest() == expected


def commit_matches(file: HubFile, *, size: int, git_sha1: str | None = None, sha256: str | None = None) -> bool:
    """Whether digests computed elsewhere are those of ``file``; the one that the hub pins must be among them."""
    return size == file.size and (sha256 == file.sha256 if file.sha256 else git_sha1 == file.git_sha1)


def cached_file(entry: Entry, snapshot: Path) -> HubFile | None:
    """Return what the hub's client wrote down of ``entry`` when it put it into its cache; None if it did not.

    It calls a blob by the ETag that the hub gave for the file at the snapshot's commit. That is the word of whoever may
    write the cache, so it proves something only in the operator's own cache: the caller must know that ``snapshot`` is
    in there, for anybody can lay out such folders elsewhere.

    Args:
        snapshot: The directory of one commit, without links.
    """
    etag = entry.real.name
    large, small = _SHA256.fullmatch(etag), _SHA1.fullmatch(etag)
    if entry.real.parent not in hub_blobs(snapshot)[:1] or not (large or small):
        return None
    return HubFile(entry.name, entry.size, etag, etag if large else None)


def etag_matches(etag: str, size: int, chunks: Iterable[bytes]) -> bool | None:
    """Whether ``chunks`` are what a hub's ETag names; None if the ETag is of a form that says nothing.

    Source: the hub's ETags are the sha256 of a large file or git's id of a blob; mirrors that are plain file stores
    send a plain sha1, which passes, too.
    """
    if _SHA256.fullmatch(etag):
        hashes = [hashlib.sha256()]
    elif _SHA1.fullmatch(etag):
        hashes = [_git_blob(size), hashlib.sha1(usedforsecurity=False)]
    else:
        return None
    for chunk in chunks:
        for each in hashes:
            each.update(chunk)
    return any(each.hexdigest() == etag for each in hashes)


def _git_blob(size: int) -> hashlib._Hash:
    # Git's own ids; the digest on the card, not this, is what keeps strangers' bytes out.
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
