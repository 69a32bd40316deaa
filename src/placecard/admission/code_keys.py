"""Which keys of a configuration select code, found by walking it whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from placecard.admission.configs import MAX_MEMBERS, Configs
from placecard.admission.consumers import opened_by_name


class Danger(StrEnum):
    """What a code-bearing key can do to a consumer that is told not to trust remote code."""

    REFERENCE = "reference"
    """Ignored then: the model may still load, if its classes are part of transformers."""
    BYPASS = "bypass"
    """Has loaded code in spite of that: never handed to a consumer."""
    UNSEARCHED = "unsearched"
    """Nobody knows: the file was not searched, and no consumer is known to open one of its name."""


@dataclass(frozen=True)
class CodeFinding:
    """One key that selects code: in file ``name`` at JSON path ``where``, holding ``value`` (both shortened)."""

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
_MAX_WHERE: Final = 200
_MAX_KEY: Final = 60
_MAX_VALUE: Final = 120
# Parts of the value of a kernel key; people write one for each part of a model.
_MAX_PARTS: Final = 64


def code_keys(configs: Mapping[str, Any] | Configs) -> tuple[CodeFinding, ...]:
    """Return every key that selects code, at any depth.

    The work is bounded and may still take a second: call it in a thread where others wait.

    Args:
        configs: Parsed files: name to JSON value. Of :class:`Configs` the files that could not be searched, and that no
            consumer is known to open, are told too.
    """
    parsed = configs.parsed if isinstance(configs, Configs) else configs
    found: list[CodeFinding] = []
    for name in sorted(parsed):
        found += islice(_of_file(name, parsed[name]), _MAX_FINDINGS - len(found))
    if isinstance(configs, Configs):
        found += (
            CodeFinding(name, "$", configs.broken[name], Danger.UNSEARCHED)
            for name in sorted(configs.broken)
            if not opened_by_name(name)
        )
    return tuple(found[:_MAX_FINDINGS])


def _of_file(name: str, value: Any) -> Iterator[CodeFinding]:
    for count, (trail, key, child) in enumerate(_walk(value), 1):
        if count > MAX_MEMBERS:
            yield CodeFinding(name, "$", f"too large to search: over {MAX_MEMBERS} members", Danger.BYPASS)
            return
        if isinstance(key, str) and (danger := _danger(name, key, child)) is not None:
            yield CodeFinding(name, _where([*trail, key]), _shown(child), danger)


def _danger(name: str, key: str, value: Any) -> Danger | None:
    if key in _BYPASSES:
        return Danger.BYPASS if value is not None else None
    if key in _KERNELS:
        return Danger.BYPASS if _names_repository(value) else None
    if key in _CLASSES:
        return Danger.BYPASS if not (isinstance(value, str | None) and _CLASS_NAME.fullmatch(value or "")) else None
    if key in _REFERENCES:
        return Danger.REFERENCE if value else None
    if name == "modules.json" and key == "type":
        known = isinstance(value, str) and value.startswith("sentence_transformers.")
        return None if known else Danger.REFERENCE
    return None


def _names_repository(value: Any) -> bool:
    """Whether a string in ``value`` holds a slash; a value of more parts than people write does, for all we know."""
    if isinstance(value, str):
        return "/" in value
    for count, (_, key, child) in enumerate(_walk(value), 1):
        if count > _MAX_PARTS or any(isinstance(text, str) and "/" in text for text in (key, child)):
            return True
    return False


def _walk(value: Any) -> Iterator[tuple[Sequence[str | int], str | int, Any]]:
    """Yield (trail, key, value) of each member, depth first, without recursion: memory grows with depth alone.

    ``trail`` holds the keys above the member, until the next step.
    """
    trail: list[str | int] = []
    stack = [_members(value)]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            del trail[-1:]
            continue
        key, child = step
        yield trail, key, child
        if isinstance(child, dict | list):
            trail.append(key)
            stack.append(_members(child))


def _members(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _where(keys: Sequence[str | int]) -> str:
    """Return the JSON path of ``keys``; of a long one its beginning and its end."""
    text = "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{_key(key)}" for key in keys)
    half = _MAX_WHERE // 2
    return text if len(text) <= _MAX_WHERE else f"{text[: half - 3]}...{text[-half:]}"


def _key(key: str) -> str:
    short = key if len(key) <= _MAX_KEY else key[: _MAX_KEY - 3] + "..."
    return short if short.isprintable() else ascii(short)[1:-1]


def _shown(value: Any) -> str:
    text = ascii(_cut(value, 3))
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."


def _cut(value: Any, depth: int) -> Any:
    """Return as much of ``value`` as can be shown: what is cut off here would be cut off from its text."""
    if isinstance(value, str):
        return value[:_MAX_VALUE]
    if isinstance(value, dict | list) and not depth:
        return "..."
    if isinstance(value, dict):
        return {key[:_MAX_VALUE]: _cut(child, depth - 1) for key, child in islice(value.items(), _MAX_VALUE)}
    if isinstance(value, list):
        return [_cut(child, depth - 1) for child in islice(value, _MAX_VALUE)]
    return value
