"""What happened on the side: fallbacks, records passed over, files set aside. Collected, so that no answer leaves
them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from placecard.errors import MEANINGS
from placecard.telemetry import BlobQuarantined, Fact, Fallback, RecordRejected

_MAX_NOTES: Final = 100


@dataclass(frozen=True)
class Note:
    """One such thing: a stable word for what happened, the cause, and the mend if there is one."""

    code: str
    cause: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the note as the answers with ``--json`` show it."""
        return {"code": self.code, "consumer": "", "missing": "", "message": self.cause, "mend": self.mend}


@dataclass
class Notes:
    """An observer that keeps each different note once; a flood of them is cut, and the counters still count it."""

    notes: list[Note] = field(default_factory=list)

    def __call__(self, fact: Fact) -> None:
        """Take in one fact."""
        match fact:
            case Fallback(kind=kind, cause=cause):
                self._add(Note(kind, cause))
            case RecordRejected(key=key, code=code, detail=detail):
                self._add(Note(code.value, f"the record {key} was passed over: {detail}", MEANINGS[code].mend))
            case BlobQuarantined(digest=digest, reason=reason):
                self._add(Note("blob_set_aside", f"{digest}: {reason}", "Check the disk; the file is fetched anew."))
            case _:
                pass

    def _add(self, note: Note) -> None:
        if note not in self.notes and len(self.notes) < _MAX_NOTES:
            self.notes.append(note)
