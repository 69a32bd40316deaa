"""Where proven bytes live: :class:`Store`, :class:`Blob`, :class:`Entry`, :class:`Snapshot`, :class:`Verifier`."""

from placecard.store.bundle import ExportReport
from placecard.store.gc import GcReport
from placecard.store.ingest import Ingest
from placecard.store.leases import Lease
from placecard.store.manifest import Blob, Entry, Manifest, ModelInfo, Origin, Proof, Snapshot, generation_id
from placecard.store.scrub import VerifyReport
from placecard.store.store import Store
from placecard.store.verify import Verifier, looks_like

__all__ = [
    "Blob",
    "Entry",
    "ExportReport",
    "GcReport",
    "Ingest",
    "Lease",
    "Manifest",
    "ModelInfo",
    "Origin",
    "Proof",
    "Snapshot",
    "Store",
    "Verifier",
    "VerifyReport",
    "generation_id",
    "looks_like",
]
