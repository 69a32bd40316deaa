"""What a card leaves out against the publisher's will: which of it is a loss, for whom, and the mend."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from placecard.admission.consumers import KNOWN_NAMES
from placecard.card import Kind, LeftOut, kind_of, name_key
from placecard.errors import Code
from placecard.source import Reason
from placecard.telemetry import Degraded

BUDGET: Final = "budget"
"""Reason of a file that found no room within the bounds of a card."""
_SHOWN: Final = 5
_MENDS: Final[dict[str, str]] = {
    Reason.ESCAPES: "Replace the link {} by the file (`cp -L`), or publish from the directory that really holds it.",
    Reason.UNREADABLE: "Give the publisher's user permission to read {}, and publish again.",
    Reason.DANGLING: "Bring back what the link {} points to, or remove the link, and publish again.",
    Reason.NOT_REGULAR: "Put a regular file in the place of {}, or remove it, and publish again.",
    Reason.DEVICE: "Put a regular file in the place of {}, or remove it, and publish again.",
    Reason.NAME_UNSAFE: "Rename {} to a name that every system takes, and publish again.",
    Reason.TOO_DEEP: "Move {} nearer to the top of the model directory, and publish again.",
    BUDGET: "Publish from a directory that holds the model alone.",
}


def losses(left_out: Iterable[LeftOut], *, held: Collection[str] = ()) -> tuple[Degraded, ...]:
    """Return what is lost with the entries that a publisher left out.

    Weights, code, hidden files and what the operator replaced are left out by choice, and no loss. Files by which a
    consumer is known are told one by one; the others, which may be folders, together for each reason.

    Args:
        left_out: As it stands on a card.
        held: Names that are there all the same, from another place.
    """
    there = {name_key(name) for name in held}
    known: list[Degraded] = []
    others: dict[str, list[str]] = {}
    for each in left_out:
        if each.reason not in _MENDS or kind_of(each.name) is not Kind.METADATA or name_key(each.name) in there:
            continue
        if consumer := known_consumer(each.name):
            known.append(_loss(each.reason, consumer, each.name, each.name))
        else:
            others.setdefault(each.reason, []).append(each.name)
    together = (_loss(reason, "", names[0], _listed(names)) for reason, names in sorted(others.items()))
    return (*sorted(known, key=lambda fact: (fact.consumer, fact.missing)), *together)


def known_consumer(name: str) -> str:
    """Return the consumer that is known to open a file called ``name``; empty if none is."""
    return next((consumer.value for consumer, names in KNOWN_NAMES.items() if name in names), "")


def _loss(reason: str, consumer: str, missing: str, listed: str) -> Degraded:
    code = Code.HARVEST_TRUNCATED if reason == BUDGET else Code.FILE_LEFT_OUT
    why = "does not fit within the bounds of a card" if reason == BUDGET else reason
    mend = _MENDS[reason].replace("{}", listed)
    return Degraded(code, consumer, missing, f"not taken from the model directory: {listed} ({why})", mend)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" and others" if len(names) > _SHOWN else "")
