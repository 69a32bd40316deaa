"""Logging observer: one line per fact that an operator would want to find at 3 a.m."""

from __future__ import annotations

import dataclasses
import logging
from typing import Final

from placecard.telemetry.facts import BlobQuarantined, CandidateFailed, Degraded, Fact, Fallback, RecordRejected

_LOGGER: Final = logging.getLogger("placecard")
_LEVELS: Final[dict[type, int]] = {
    CandidateFailed: logging.INFO,
    Degraded: logging.WARNING,
    RecordRejected: logging.WARNING,
    BlobQuarantined: logging.ERROR,
    Fallback: logging.WARNING,
}


def log(fact: Fact) -> None:
    """Write ``fact`` as ``kind key=value …``; control characters are escaped, so one fact is one line."""
    level = _LEVELS.get(type(fact), logging.DEBUG)
    if _LOGGER.isEnabledFor(level):
        fields = " ".join(f"{f.name}={getattr(fact, f.name)!r}" for f in dataclasses.fields(fact))
        _LOGGER.log(level, "%s %s", type(fact).__name__, fields)
