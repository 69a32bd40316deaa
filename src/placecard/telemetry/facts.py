"""Facts: what happened, as frozen values. Code that does the work states facts; observers count, log or draw them.

An observer is any callable that takes one fact. It is handed down explicitly; there is no global one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from placecard.errors import Code


@dataclass(frozen=True)
class StageStarted:
    """A stage of the pipeline begins: ``plan``, ``fetch``, ``harvest``, ``snapshot``, ``load test``."""

    model: str
    stage: str
    total: int = 0


@dataclass(frozen=True)
class StageEnded:
    """A stage of the pipeline has ended, well or not; ``note`` says in a few words what came of it."""

    model: str
    stage: str
    seconds: float
    note: str = ""
    ok: bool = True


@dataclass(frozen=True)
class BytesArrived:
    """Bytes of one file arrived; they are not proven yet."""

    model: str
    name: str
    count: int


@dataclass(frozen=True)
class FileHeld:
    """A proven file was in the store already; nothing was fetched."""

    name: str
    size: int


@dataclass(frozen=True)
class FileVerified:
    """A file arrived and is the advertised one."""

    name: str
    size: int
    origin: str
    uri: str
    seconds: float


@dataclass(frozen=True)
class CandidateFailed:
    """One place did not deliver a file; the next is tried."""

    name: str
    uri: str
    code: Code
    detail: str


@dataclass(frozen=True)
class Degraded:
    """Something is worse than it should be, and here is what, for whom, and the mend.

    Args:
        code: Kind of loss.
        consumer: Who is hurt: ``image_processor``, ``tokenizer`` …; empty when nobody reads the file.
        missing: The file that is missing or unproven; empty when it is not about a file.
        detail: What was seen.
        mend: What to do.
    """

    code: Code
    consumer: str
    missing: str
    detail: str
    mend: str


@dataclass(frozen=True)
class RecordRejected:
    """A registry held something that is no usable record; it was passed over."""

    key: str
    code: Code
    detail: str


@dataclass(frozen=True)
class BlobQuarantined:
    """A stored blob was no longer what its name says; it was moved aside."""

    digest: str
    reason: str


@dataclass(frozen=True)
class Fallback:
    """A lesser way was taken: ``kind`` names it (``copy_instead_of_link``, ``polling_instead_of_inotify`` …)."""

    kind: str
    cause: str


Fact = (
    StageStarted | StageEnded | BytesArrived | FileHeld | FileVerified | CandidateFailed | Degraded
    | RecordRejected | BlobQuarantined | Fallback
)  # fmt: skip
Observe = Callable[[Fact], None]


def ignore(fact: Fact) -> None:
    """Observe nothing; for callers that read the outcome alone."""


def tee(*observers: Observe) -> Observe:
    """Return an observer that hands each fact to all of ``observers``, in order."""

    def observe(fact: Fact) -> None:
        for each in observers:
            each(fact)

    return observe
