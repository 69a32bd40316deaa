"""Counting observer: how often each kind of fact happened, by its small closed label."""

from __future__ import annotations

from collections import Counter

from placecard.telemetry.facts import CandidateFailed, Degraded, Fact, Fallback, RecordRejected


class Counters:
    """Counts facts under ``kind`` or ``kind:label``; labels are codes and fallback kinds, never names or addresses."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __call__(self, fact: Fact) -> None:
        """Count ``fact``."""
        kind = type(fact).__name__
        match fact:
            case CandidateFailed(code=code) | Degraded(code=code) | RecordRejected(code=code):
                self._counts[f"{kind}:{code.value}"] += 1
            case Fallback(kind=label):
                self._counts[f"{kind}:{label}"] += 1
            case _:
                self._counts[kind] += 1

    def as_json(self) -> dict[str, int]:
        """Return the counts, sorted by name."""
        return dict(sorted(self._counts.items()))
