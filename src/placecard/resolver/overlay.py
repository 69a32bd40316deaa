"""The operator's own files in place of the model's. The operator vouches for them, so they count as advertised."""

from __future__ import annotations

from placecard.card import Role, check_name
from placecard.errors import CardError, Code, UsageError
from placecard.resolver.settings import ResolveSettings
from placecard.store import Entry, Lease, Origin, Proof, Store

_CHUNK_BYTES = 1 << 20


def take_overlays(store: Store, lease: Lease, settings: ResolveSettings) -> list[Entry]:
    """Copy each overlay into the store and return its entry.

    Raises:
        UsageError: The overlay's name is unsafe or its file cannot be read.
    """
    entries = []
    for overlay in settings.overlays:
        try:
            check_name(overlay.name)
            with (
                overlay.path.open("rb") as file,
                store.ingest(digest=None, size=None, limit_bytes=settings.budget.max_file_bytes, lease=lease) as ingest,
            ):
                while chunk := file.read(_CHUNK_BYTES):
                    ingest.write(chunk)
                blob = ingest.commit()
        except (OSError, CardError) as error:
            raise UsageError(Code.USAGE, f"--overlay {overlay.name}={overlay.path}: {error}") from error
        uri = overlay.path.absolute().as_uri()
        entries.append(
            Entry(overlay.name, blob.digest, blob.size, Role.EXTRA.value, Proof.ADVERTISED, Origin.OVERLAY, uri, ())
        )
    return entries
