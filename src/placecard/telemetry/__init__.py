"""What happened, stated as facts; :class:`Counters` counts them, :func:`log` writes them down."""

from placecard.telemetry.counters import Counters
from placecard.telemetry.facts import (
    BlobQuarantined,
    BytesArrived,
    CandidateFailed,
    Degraded,
    Fact,
    Fallback,
    FileHeld,
    FileVerified,
    Observe,
    RecordRejected,
    StageEnded,
    StageStarted,
    ignore,
    tee,
)
from placecard.telemetry.log import log

__all__ = [
    "BlobQuarantined",
    "BytesArrived",
    "CandidateFailed",
    "Counters",
    "Degraded",
    "Fact",
    "Fallback",
    "FileHeld",
    "FileVerified",
    "Observe",
    "RecordRejected",
    "StageEnded",
    "StageStarted",
    "ignore",
    "log",
    "tee",
]
