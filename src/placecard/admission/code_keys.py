"""Which keys of a configuration select code, found by walking it whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Danger(StrEnum):
    """What a code-bearing key can do to a consumer that is told not to trust remote code."""

    REFERENCE = "reference"
    """Ignored then: the model may still load, if its classes are part of transformers."""
    BYPASS = "bypass"
    """Has loaded code in spite of that: never handed to a consumer."""


@dataclass(frozen=True)
class CodeFinding:
    """One key that selects code: in file ``name`` at JSON path ``where``, holding ``value`` (shortened)."""

    name: str
    where: str
    value: str
    danger: Danger


# Source: transformers, dynamic_module_utils.py (auto_map); diffusers (custom_pipelines); peft, auto.py (auto_mapping
# imports its `parent_library`); hydra (_target_).
_REFERENCES: Final = frozenset(
    {"auto_map", "custom_pipelines", "custom_pipeline", "auto_mapping", "_target_", "trust_remote_code"}
    | {"custom_generate", "custom_object_save"}
)
# Source: CVE-2026-4372: a serialized internal attribute chose a kernel repository, whose code was imported.
_BYPASSES: Final = frozenset({"_attn_implementation_internal", "_experts_implementation_internal"})
# Values of these are kernel repositories when they hold a slash. Source: transformers 5.23, hub_kernels.is_kernel.
_KERNELS: Final = frozenset(
    {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
)
# Values of these name a class; anything but an identifier is a path or module.
_CLASSES: Final = frozenset(
    {"tokenizer_class", "slow_tokenizer_class", "image_processor_type", "processor_class", "feature_extractor_type"}
    | {"video_processor_type", "model_type"}
)
_CLASS_NAME = re.compile(r"[A-Za-z0-9_.\- ]*")
_MAX_FINDINGS: Final = 64


def code_keys(configs: Mapping[str, Any]) -> tuple[CodeFinding, ...]:
    """Return every key of the parsed ``configs`` (file name to JSON value) that selects code, at any depth."""
    found: list[CodeFinding] = []
    for name in sorted(configs):
        for where, key, value in _walk(configs[name]):
            if (danger := _danger(name, key, value)) is not None:
                found.append(CodeFinding(name, where, _shown(value), danger))
            if len(found) >= _MAX_FINDINGS:
                return tuple(found)
    return tuple(found)


def _danger(name: str, key: str, value: Any) -> Danger | None:
    if key in _BYPASSES:
        return Danger.BYPASS if value is not None else None
    if key in _KERNELS:
        return Danger.BYPASS if "/" in str(value) else None
    if key in _CLASSES:
        return Danger.BYPASS if not (isinstance(value, str | None) and _CLASS_NAME.fullmatch(value or "")) else None
    if key in _REFERENCES:
        return Danger.REFERENCE if value else None
    if name == "modules.json" and key == "type":
        return None if str(value).startswith("sentence_transformers.") else Danger.REFERENCE
    return None


def _walk(value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (path, key, value) of each object member, depth first, without recursion: memory grows with depth alone."""
    trail: list[str] = ["$"]
    stack = [_members(value)]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            trail.pop()
            continue
        key, child = step
        if isinstance(key, str):
            yield "".join(trail) + f".{key}", key, child
        if isinstance(child, dict | list):
            trail.append(f".{key}" if isinstance(key, str) else f"[{key}]")
            stack.append(_members(child))


def _members(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 120 else text[:117] + "..."
