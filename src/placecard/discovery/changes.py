"""What changed between two looks at a registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from placecard.discovery.base import Change, Joined, Left, Record


def changes(before: Mapping[str, Record], after: Mapping[str, Record]) -> Iterator[Change]:
    """Yield what leads from ``before`` to ``after`` (instance to record), every :class:`Left` first, then by instance.

    A record that was written again without a difference is no change.
    """
    yield from (Left(instance) for instance in sorted(before.keys() - after.keys()))
    yield from (Joined(after[instance]) for instance in sorted(after) if before.get(instance) != after[instance])
