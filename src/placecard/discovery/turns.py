"""In which order a look's bounds are shared out among the files of a registry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

Found = tuple[str, os.stat_result]


def in_turn(found: Iterable[Found], *, lives: Callable[[str], bool], latest: float) -> list[Found]:
    """Return ``found`` in the order in which it is read until a bound is reached, so that no flood hides a worker.

    Workers that are known to live come first, small records before large ones. Of the others each user's come in turn,
    lately touched ones first: who lives touches.

    Args:
        lives: Whether the worker of a name is known to live.
        latest: Modification times after this, in seconds, are impossible, and come last.
    """
    known: list[Found] = []
    others: dict[int, list[Found]] = {}
    for each in found:
        (known if lives(each[0]) else others.setdefault(each[1].st_uid, [])).append(each)
    known.sort(key=lambda each: (each[1].st_size, each[0]))
    turns: list[tuple[int, int, Found]] = []
    for uid, mine in others.items():
        mine.sort(key=lambda each: (each[1].st_mtime > latest, -each[1].st_mtime, each[0]))
        turns += [(turn, uid, each) for turn, each in enumerate(mine)]
    return known + [each for _, _, each in sorted(turns, key=lambda turn: turn[:2])]
