"""From a discovery URL to an open registry."""

from __future__ import annotations

from typing import Final

from placecard.discovery import Record, Registry, Scheme, open_registry, parse_discovery
from placecard.errors import Code, DiscoveryError
from placecard.telemetry import Observe

NO_WORKER: Final = "0" * 32
"""Instance of a record that no worker wrote: a card in a file, or in the store."""


def registry_of(url: str, observe: Observe) -> Registry:
    """Return the registry that ``url`` names, not yet entered.

    Raises:
        UsageError: The URL has another form, or its back end is not in this release.
    """
    parsed = parse_discovery(url)
    if parsed.scheme is Scheme.DYNAMO_FILE and parsed.directory is not None:
        from placecard.dynamo import DynamoFileRegistry

        return DynamoFileRegistry(parsed.directory, observe=observe)
    return open_registry(parsed, observe=observe)


def choose(records: tuple[Record, ...], wanted: str, where: str) -> tuple[Record, ...]:
    """Return the records that serve ``wanted``: a name or alias, with ``@DIGEST`` where workers disagree on the
    content.

    Raises:
        DiscoveryError: ``MODEL_UNKNOWN``, or ``NAME_TAKEN`` when several contents answer to the name.
    """
    from placecard.card import content_digest

    name, _, prefix = wanted.partition("@blake3:")
    named = [r for r in records if name == r.card.name or name in r.card.serving.aliases]
    contents: dict[str, list[Record]] = {}
    for record in named:
        digest = content_digest(record.card)
        if digest.startswith("blake3:" + prefix):
            contents.setdefault(digest, []).append(record)
    if not contents:
        known = ", ".join(sorted({r.card.name for r in records})[:8]) or "none"
        raise DiscoveryError(
            Code.MODEL_UNKNOWN, f"no worker in {where} advertises it; advertised: {known}", subject=wanted
        )
    if len(contents) > 1:
        shown = "; ".join(f"{name}@{digest[:19]} ({len(rs)} workers)" for digest, rs in sorted(contents.items()))
        raise DiscoveryError(Code.NAME_TAKEN, f"workers differ: {shown}", subject=wanted)
    return tuple(next(iter(contents.values())))
