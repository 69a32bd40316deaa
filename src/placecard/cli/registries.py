"""From a discovery URL to an open registry."""

from __future__ import annotations

from placecard.discovery import Registry, Scheme, open_registry, parse_discovery
from placecard.telemetry import Observe


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
