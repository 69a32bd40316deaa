"""A file system on paper that loses power: what was not synced is lost, kept or torn, as the case may be.

:class:`Recorder` follows every call that the store makes through :class:`Disk`. From any moment on,
:meth:`Recorder.lose` writes a directory as a disk might hold it after the power went: names and bytes that were synced
are there; of the rest, each directory's names and each file's bytes may be there, or not, or in part.
"""

from __future__ import annotations

import copy
import gc
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from placecard.store.disk import Disk


@dataclass
class File:
    data: bytes = b""
    synced: bytes = b""


@dataclass
class Link:
    text: str


@dataclass
class Directory:
    names: dict[str, File | Link | Directory] = field(default_factory=dict)
    synced: dict[str, File | Link | Directory] = field(default_factory=dict)


class Recorder:
    """Calls of :class:`Disk` go on to the real one; ``on_step`` is called after each that changed something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, on_step: Callable[[Recorder], None]) -> None:
        self.root = Directory()
        self._files: dict[int, File] = {}
        self._on_step = on_step
        self._recording = True
        gc.collect()  # stores of other tests end now, unseen
        for name in (
            "create",
            "overwrite",
            "append",
            "sync",
            "rename",
            "symlink",
            "mkdir",
            "unlink",
            "rmdir",
            "sync_dir",
        ):
            monkeypatch.setattr(Disk, name, self._wrapped(getattr(Disk, name), getattr(self, f"_{name}")))
        monkeypatch.setattr(Disk, "write", self._wrapped(Disk.write, self._add))

    def lose(self, target: Path, choose: random.Random, *, keep_names: float, keep_bytes: float) -> None:
        """Write to ``target`` what a disk may hold now; each kept share is a probability."""
        root = copy.deepcopy(self.root)
        self._lay_out(root, target, choose, keep_names, keep_bytes)

    def quietly(self, work: Callable[[], None]) -> None:
        """Do ``work`` without recording it."""
        self._recording = False
        try:
            work()
        finally:
            self._recording = True

    def _lay_out(self, node: Directory, target: Path, choose: random.Random, names: float, data: float) -> None:
        target.mkdir(mode=0o700, parents=True)
        for name, child in (node.names if choose.random() < names else node.synced).items():
            match child:
                case Directory():
                    self._lay_out(child, target / name, choose, names, data)
                case Link(text):
                    os.symlink(text, target / name)
                case File():
                    torn = child.data[: choose.randrange(len(child.data) + 1)]
                    kept = child.data if choose.random() < data else choose.choice([child.synced, torn])
                    (target / name).write_bytes(child.synced if child.synced == child.data else kept)

    def _wrapped(self, real: Any, follow: Any) -> Any:
        def call(disk: Disk, *arguments: Any) -> Any:
            if not self._recording:
                return real(disk, *arguments)
            self._recording = False  # what one call does by another is one step
            try:
                answer = real(disk, *arguments)
            finally:
                self._recording = True
            follow(answer, *arguments)
            self._on_step(self)
            return answer

        return call

    def _at(self, path: str) -> tuple[Directory, str]:
        node = self.root
        *parents, name = path.split("/")
        for part in parents:
            child = node.names[part]
            assert isinstance(child, Directory)
            node = child
        return node, name

    def _create(self, fd: int, path: str) -> None:
        node, name = self._at(path)
        self._files[fd] = File()
        node.names[name] = self._files[fd]

    _append = _create

    def _overwrite(self, fd: int, path: str) -> None:
        self._create(fd, path)

    def _add(self, _: None, fd: int, data: bytes | memoryview) -> None:
        self._files[fd].data += bytes(data)

    def _sync(self, _: None, fd: int) -> None:
        if fd in self._files:
            self._files[fd].synced = self._files[fd].data

    def _rename(self, _: None, source: str, target: str) -> None:
        (old, old_name), (new, new_name) = self._at(source), self._at(target)
        new.names[new_name] = old.names.pop(old_name)

    def _symlink(self, _: None, text: str, path: str) -> None:
        node, name = self._at(path)
        node.names[name] = Link(text)

    def _mkdir(self, made: bool, path: str) -> None:
        if made:
            node, name = self._at(path)
            node.names[name] = Directory()

    def _unlink(self, gone: bool, path: str) -> None:
        if gone:
            node, name = self._at(path)
            del node.names[name]

    _rmdir = _unlink

    def _sync_dir(self, _: None, path: str) -> None:
        node = self.root
        for part in path.split("/") if path != "." else []:
            child = node.names[part]
            assert isinstance(child, Directory)
            node = child
        node.synced = dict(node.names)
