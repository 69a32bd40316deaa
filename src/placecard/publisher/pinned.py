"""The worker's own copies: taken while a card is built, and taken again where one is lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from anyio import from_thread

from placecard.card import Card, CheckedFile
from placecard.errors import PlacecardError
from placecard.publisher.selection import MAX_FILE_BYTES
from placecard.store import Blob, Lease, Store

_CHUNK_BYTES: Final = 1 << 20


class Pinned:
    """Copies in a store. All methods block.

    Args:
        lease: Keeps the copies for as long as it lives.
        directory: The model directory; None where it does not outlive the build.
        template: The operator's own chat template.
    """

    def __init__(
        self, store: Store, lease: Lease, *, directory: Path | None = None, template: Path | None = None
    ) -> None:
        self._store, self._lease = store, lease
        self._directory, self._template = directory, template

    def pin(self, path: Path) -> tuple[str, int]:
        """Copy the file at ``path``, and return its digest and size; stops when its caller is cancelled."""
        with path.open("rb") as file:
            blob = self._copy(file, str(path))
        return blob.digest, blob.size

    def blobs(self, card: Card) -> dict[str, Path]:
        """Return the path of the copy of each digest on ``card``."""
        found = {file.digest: self._store.find(file.digest, file.size) for file in card.files}
        return {digest: blob.path for digest, blob in found.items() if blob is not None}

    def restore(self, file: CheckedFile) -> Path | None:
        """Return a proven copy of ``file``: the store's if its bytes are right, else a new one of the original."""
        try:
            blob = self._store.find(file.digest, file.size) or self._copied_again(file)
        except (PlacecardError, OSError):
            return None  # told by who asks: the file cannot be served
        return None if blob is None else blob.path

    def _copied_again(self, file: CheckedFile) -> Blob | None:
        for path in self._originals(file.name):
            try:
                with _regular(path) as original:
                    return self._copy(original, str(path), file)
            except (PlacecardError, OSError):
                continue  # gone, or another file by now
        return None

    def _originals(self, name: str) -> Iterator[Path]:
        if self._template is not None and name.startswith("chat_template."):
            yield self._template
        if self._directory is not None:
            yield self._directory / name

    def _copy(self, original: BinaryIO, subject: str, file: CheckedFile | None = None) -> Blob:
        digest, size = (file.digest, file.size) if file is not None else (None, None)
        with self._store.ingest(
            digest=digest, size=size, limit_bytes=MAX_FILE_BYTES, subject=subject, lease=self._lease
        ) as ingest:
            while chunk := original.read(_CHUNK_BYTES):
                from_thread.check_cancelled()
                ingest.write(chunk)
            return ingest.commit()


def _regular(path: Path) -> BinaryIO:
    """Return the file at ``path`` open for reading; what is not a regular file is not waited for."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is not a regular file")
    return file
