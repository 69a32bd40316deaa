"""Small configuration files of a model directory, read without trust and as leniently as their consumers read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from placecard.errors import AdmissionError, Code

MAX_CONFIG_BYTES: Final = 8 << 20
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
    if len(data) > MAX_CONFIG_BYTES:
        raise AdmissionError(
            Code.CONSUMER_FAILED, f"{len(data)} bytes; at most {MAX_CONFIG_BYTES} for a configuration", subject=name
        )
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        where = f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        raise AdmissionError(Code.CONSUMER_FAILED, where, subject=name, mend=_mend(name)) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise AdmissionError(Code.CONSUMER_FAILED, f"not JSON: {why}", subject=name, mend=_mend(name)) from None


def read_configs(directory: Path, names: Iterable[str]) -> Configs:
    """Read the configuration files among ``names``; those that cannot be read or parsed are listed as broken."""
    configs = Configs()
    for name in names:
        if not is_config(name):
            continue
        try:
            with (directory / name).open("rb") as file:
                configs.parsed[name] = parse_config(file.read(MAX_CONFIG_BYTES + 1), name=name)
        except AdmissionError as error:
            configs.broken[name] = error.detail
        except OSError as error:
            configs.broken[name] = error.strerror or str(error)
    return configs


def _mend(name: str) -> str:
    return f"Correct {name} in the worker's model directory (plain JSON, no comments), and publish again."
