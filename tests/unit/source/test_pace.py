"""How slow a source may be."""

from __future__ import annotations

from placecard.source.pace import Pace


def test_a_full_window_below_the_floor_is_too_slow() -> None:
    pace = Pace(floor_bytes_s=100, window_s=10, total_s=1000)
    assert pace.waited(9, 999) is None
    assert pace.patience_s() == 1
    assert pace.waited(1, 0) == "999 bytes in 10 s; the floor is 100 bytes/s"


def test_a_window_at_the_floor_begins_the_next() -> None:
    pace = Pace(floor_bytes_s=100, window_s=10, total_s=1000)
    assert pace.waited(10, 1000) is None
    assert pace.patience_s() == 10
    assert pace.waited(10, 0) is not None


def test_bytes_that_cost_no_wait_never_fail() -> None:
    pace = Pace(floor_bytes_s=1e9, window_s=10, total_s=1000)
    assert all(pace.waited(0, 1) is None for _ in range(1000))


def test_the_total_ends_a_transfer_that_keeps_the_floor() -> None:
    pace = Pace(floor_bytes_s=1, window_s=10, total_s=25)
    assert pace.waited(10, 1 << 20) is None
    assert pace.waited(10, 1 << 20) is None
    assert pace.patience_s() == 5
    assert pace.waited(5, 1 << 20) == "not complete after 25 s"
    assert pace.patience_s() == 0
