"""When a lease runs out, judged so that no wall clock can end it.

A worker keeps its lease by touching its file. Three clocks could be compared: the worker's, the reader's, and that of
the file system, which stamps both the record and a probe file of the reader. Only the last is used to judge an age,
and only once for each stamp: after that the reader's monotonic clock counts. A wall clock that jumps therefore
neither ends a lease nor keeps a dead worker alive.
"""

from __future__ import annotations


def lease_end(*, touched: float, file_now: float, now: float, ttl_s: float, untouched_at: float | None = None) -> float:
    """Return when the lease of a record ends, on the reader's monotonic clock; ``now`` if it ended already.

    Args:
        touched: Modification time of the record's file, in seconds of the file system's clock.
        file_now: What that clock says now.
        now: The reader's monotonic clock, in seconds.
        ttl_s: How long a lease lasts.
        untouched_at: ``now`` of an earlier look that saw another modification time; None at first sight. The touch
            happened
            since then, whatever the file system's clock has done in between.
    """
    age = max(0.0, file_now - touched)
    if untouched_at is not None:
        age = min(age, max(0.0, now - untouched_at))
    return now + ttl_s - min(age, ttl_s)
