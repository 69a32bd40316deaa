"""Small configuration files of a model directory, read without trust and as leniently as their consumers read them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from placecard.admission.consumers import opened_by_name
from placecard.errors import AdmissionError, Code

MAX_CONFIG_BYTES: Final = 4 << 20
"""Of a file that a consumer is known to open by its name."""
MAX_OTHER_BYTES: Final = 1 << 20
"""Of any other file: it is read only to be searched for keys that select code."""
MAX_TOTAL_BYTES: Final = 16 << 20
MAX_MEMBERS: Final = 1 << 18
"""Members of one file's objects and arrays. In memory one may take 80 times the bytes that it has in the file."""
MAX_TOTAL_MEMBERS: Final = 1 << 19
# JSON that is content, not configuration: large, and nothing in it selects code.
_NOT_CONFIG: Final = frozenset({"tokenizer.json", "vocab.json", "tekken.json", "added_tokens.json"})


@dataclass(frozen=True)
class Configs:
    """The parsed configuration files by name, and those that cannot be parsed with the reason."""

    parsed: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def object(self, name: str) -> dict[str, Any]:
        """Return the JSON object in the file ``name``; empty where there is none."""
        value = self.parsed.get(name)
        return value if isinstance(value, dict) else {}


def is_config(name: str) -> bool:
    """Whether ``name`` is a configuration file: JSON that is neither vocabulary nor weight index."""
    base = PurePosixPath(name).name
    return base.endswith(".json") and not base.endswith(".index.json") and base not in _NOT_CONFIG


def parse_config(data: bytes, *, name: str) -> Any:
    """Return the JSON value in ``data``; ``NaN`` and ``Infinity`` pass, as they stand in published configurations.

    Raises:
        AdmissionError: ``CONSUMER_FAILED`` with the line and column of what is wrong.
    """
    limit = _limit(name)
    if len(data) > limit:
        raise AdmissionError(
            Code.CONSUMER_FAILED, f"{len(data)} bytes; at most {limit} for a configuration", subject=name
        )
    if (members := _members(data)) > MAX_MEMBERS:
        detail = f"about {members} members; at most {MAX_MEMBERS} for a configuration"
        raise AdmissionError(Code.CONSUMER_FAILED, detail, subject=name)
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        where = f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        raise AdmissionError(Code.CONSUMER_FAILED, where, subject=name, mend=_mend(name)) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise AdmissionError(Code.CONSUMER_FAILED, f"not JSON: {why}", subject=name, mend=_mend(name)) from None


def read_configs(directory: Path, names: Iterable[str]) -> Configs:
    """Read the configuration files among ``names``; those that cannot be read or parsed are listed as broken.

    All of them together are bounded in bytes and members. What consumers open by name comes first, so that no other
    file can take its place.
    """
    configs = Configs()
    room, members = MAX_TOTAL_BYTES, MAX_TOTAL_MEMBERS
    for name in sorted(filter(is_config, names), key=lambda name: (not opened_by_name(name), name)):
        try:
            data = _read(directory / name, _limit(name) + 1)
            if len(data) > room or _members(data) > members:
                configs.broken[name] = "over what is read of one directory"
                continue
            configs.parsed[name] = parse_config(data, name=name)
        except AdmissionError as error:
            configs.broken[name] = error.detail
        except OSError as error:
            configs.broken[name] = error.strerror or str(error)
        else:
            room, members = room - len(data), members - _members(data)
    return configs


def _read(path: Path, limit: int) -> bytes:
    """Return the first ``limit`` bytes of a regular file; a pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def _limit(name: str) -> int:
    return MAX_CONFIG_BYTES if opened_by_name(name) else MAX_OTHER_BYTES


def _members(data: bytes) -> int:
    """Return how many members the JSON in ``data`` has at most, without parsing it.

    Each member follows a comma or the bracket of what holds it, in every encoding of Unicode.
    """
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _mend(name: str) -> str:
    return f"Correct {name} in the worker's model directory (plain JSON, no comments), and publish again."
