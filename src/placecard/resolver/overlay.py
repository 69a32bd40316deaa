"""The operator's own files in place of the model's. The operator vouches for them, so they count as advertised."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from placecard.card import Role, check_name
from placecard.errors import CardError, Code, UsageError
from placecard.resolver.settings import Overlay, ResolveSettings
from placecard.store import Blob, Entry, Lease, Origin, Proof, Store

_CHUNK_BYTES: Final = 1 << 20


def take_overlays(store: Store, lease: Lease, settings: ResolveSettings) -> list[Entry]:
    """Copy each overlay into the store and return its entry.

    Raises:
        UsageError: The overlay's name is unsafe, or its file cannot be read or is none.
    """
    entries = []
    for overlay in settings.overlays:
        try:
            check_name(overlay.name)
            blob = _copy(overlay, store, lease, settings.budget.max_file_bytes)
        except (OSError, ValueError, CardError) as error:  # ValueError: NUL inside a path
            raise UsageError(Code.USAGE, f"--overlay {overlay.name}={overlay.path}: {error}") from error
        uri = overlay.path.absolute().as_uri()
        entries.append(
            Entry(overlay.name, blob.digest, blob.size, Role.EXTRA.value, Proof.ADVERTISED, Origin.OVERLAY, uri, ())
        )
    return entries


def _copy(overlay: Overlay, store: Store, lease: Lease, limit_bytes: int) -> Blob:
    # Links are the operator's own business; without O_NONBLOCK a pipe would hold the resolve until someone writes.
    descriptor = os.open(overlay.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file")
        with store.ingest(
            digest=None, size=None, limit_bytes=limit_bytes, subject=overlay.name, lease=lease
        ) as ingest:  # fmt: skip
            while chunk := file.read(_CHUNK_BYTES):
                ingest.write(chunk)
            return ingest.commit()
