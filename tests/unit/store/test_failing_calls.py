"""Fail the n-th call, for every n: a typed error, nothing left behind, and the last good generation serves (I3)."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from placecard.errors import Code, StoreError
from placecard.store import Store
from placecard.store.disk import Disk
from tests.unit.store.kit import FILES, MODEL, OTHER, contents, open_fds, publish

CALLS = (
    "create", "overwrite", "append", "open", "write", "sync", "make_read_only", "rename", "symlink", "mkdir", "unlink",
    "rmdir", "stat", "readlink",
)  # fmt: skip
EXPECTED = {
    errno.ENOSPC: Code.STORE_FULL,
    errno.EDQUOT: Code.STORE_FULL,
    errno.EFBIG: Code.STORE_FULL,
    errno.EROFS: Code.STORE_READ_ONLY,
    errno.EACCES: Code.STORE_DENIED,
    errno.EIO: Code.STORE_IO,
    errno.EMFILE: Code.STORE_IO,
    errno.ESTALE: Code.STORE_IO,
    errno.EXDEV: Code.STORE_IO,
}


class Failing:
    """Counts every call of :class:`Disk` and fails the ``n``-th one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n, self.number, self.count, self.failed = 0, 0, 0, ""
        for name in CALLS:
            monkeypatch.setattr(Disk, name, self._wrapped(name, getattr(Disk, name)))

    def arm(self, n: int, number: int) -> None:
        self.n, self.number, self.count, self.failed = n, number, 0, ""

    def _wrapped(self, name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self.count += 1
            if self.count == self.n:
                self.failed = name
                path = next((a for a in arguments if isinstance(a, str)), None)
                raise OSError(self.number, os.strerror(self.number), path)
            return real(*arguments)

        return call


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    gc.collect()  # stores of other tests end now, not in the middle
    gc.freeze()  # what they made need not be looked at again
    yield Failing(monkeypatch)
    gc.unfreeze()


@pytest.mark.parametrize("number", sorted(EXPECTED), ids=errno.errorcode.get)
def test_row49_any_call_may_fail_and_the_old_generation_serves(number: int, tmp_path: Path, failing: Failing) -> None:
    for n in range(1, 1000):
        root = tmp_path / str(n)
        old = publish(Store.open(root), FILES)
        before = open_fds()
        failing.arm(n, number)
        try:
            store: Store | None = None
            store = Store.open(root)
            publish(store, OTHER)
        except StoreError as error:
            wrong_place = failing.failed in ("readlink", "stat", "open")  # what cannot be read may be judged unsound
            assert error.code is EXPECTED[number] or wrong_place
            assert str(root) in str(error)
        else:
            if not failing.failed:
                break
        del store
        failing.n = 0
        gc.collect()  # an error's traceback may hold the store
        assert open_fds() == before, failing.failed
        again = Store.open(root)
        left = os.listdir(root / "ingest")
        assert not left or failing.failed in ("unlink", "rmdir"), failing.failed
        current = again.current(MODEL)
        assert current is not None
        assert contents(current.directory) in (dict(FILES), dict(OTHER))
        assert contents(old.directory) == dict(FILES)
        assert contents(publish(again, OTHER).directory) == dict(OTHER)
        shutil.rmtree(root)
    else:
        pytest.fail("the scenario never ran through")
    assert n > 60
