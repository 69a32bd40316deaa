"""What came of a resolve: the state of the model, where its directory is, and everything that is less than it should
be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placecard.admission import State
from placecard.card import LeftOut
from placecard.errors import PlacecardError
from placecard.store import Entry
from placecard.telemetry import Degraded


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The outcome of one resolve.

    Args:
        directory: What ``from_pretrained()`` opens: an immutable generation; None when refused.
        stable_path: Always the newest whole generation of this model, also an older one while this outcome is REFUSED;
            None if there is none.
        entries: The files of the directory, with digest, proof and origin.
        load_test: ``passed``, ``failed``, ``remembered`` (passed before, same files and libraries), ``off``,
            ``not run`` or ``unavailable``.
        served: The consumers that opened the directory: ``config``, ``tokenizer`` …
        notices: What is good to know and hurts nobody, such as keys that name code which is never run.
        timings: Seconds of each stage.
    """

    model: str
    state: State
    content_digest: str
    serving_digest: str
    directory: Path | None = None
    stable_path: Path | None = None
    entries: tuple[Entry, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    degraded: tuple[Degraded, ...] = ()
    errors: tuple[PlacecardError, ...] = ()
    load_test: str = "not run"
    served: tuple[str, ...] = ()
    notices: tuple[Degraded, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as the object that ``placecard resolve --json`` prints."""
        return {
            "model": self.model,
            "state": self.state.value,
            "directory": _text(self.directory),
            "stable_path": _text(self.stable_path),
            "content_digest": self.content_digest,
            "serving_digest": self.serving_digest,
            "files": [_entry(entry) for entry in self.entries],
            "left_out": [{"name": each.name, "reason": each.reason} for each in self.left_out],
            "degraded": [degraded_json(fact) for fact in self.degraded],
            "errors": [error.as_json() for error in self.errors],
            "notices": [degraded_json(fact) for fact in self.notices],
            "load_test": self.load_test,
            "served": list(self.served),
            "timings_s": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
        }


def degraded_json(fact: Degraded) -> dict[str, str]:
    """Return a degradation as every JSON answer shows it."""
    return {
        "code": fact.code.value,
        "consumer": fact.consumer,
        "missing": fact.missing,
        "message": fact.detail,
        "mend": fact.mend,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "digest": entry.digest,
        "size": entry.size,
        "role": entry.role,
        "origin": entry.origin.value,
        "proof": entry.proof.value,
        "uri": entry.uri,
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
