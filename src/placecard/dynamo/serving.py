"""How a Dynamo worker serves its model: the half of its card that names no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from placecard.card import CheckedFile, Lora, Serving
from placecard.errors import CardError, Code

WORKER_TYPES: Final = ("aggregated", "prefill", "decode", "encode")
_MAX_U32: Final = 2**32 - 1
_MAX_TOKENS: Final = 2**31 - 1


@dataclass
class Reading:
    """What reading one card has brought together so far."""

    slug: str
    files: dict[str, CheckedFile] = field(default_factory=dict)
    custom: list[str] = field(default_factory=list)
    skipped: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    defects: list[CardError] = field(default_factory=list)

    def wrong(self, where: str, detail: str, code: Code = Code.CARD_SCHEMA) -> None:
        """Note a defect at ``where``."""
        self.defects.append(CardError(code, detail, subject=where))


def read_serving(raw: Mapping[str, Any], reading: Reading) -> Serving:
    """Return how the worker serves the model; what is wrong goes into ``reading.defects``."""
    runtime = raw.get("runtime_config") or {}
    if not isinstance(runtime, dict):
        reading.wrong("$.runtime_config", "is not an object")
        runtime = {}
    lengths = [
        _count(runtime, "context_length", reading, at="$.runtime_config"),
        _count(raw, "architectural_max_context_length", reading),
        _count(raw, "context_length", reading),
    ]
    aliases = raw.get("aliases") or []
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        reading.wrong("$.aliases", "is not an array of strings")
        aliases = []
    return Serving(
        aliases=tuple(dict.fromkeys(aliases)),
        context_length=next((length for length in lengths if length), None),
        kv_block_size=_count(raw, "kv_cache_block_size", reading),
        worker_type=_worker_type(raw, reading),
        tool_parser=text_of(runtime, "tool_call_parser", reading.defects, at="$.runtime_config"),
        reasoning_parser=text_of(runtime, "reasoning_parser", reading.defects, at="$.runtime_config"),
        lora=_lora(raw.get("lora"), reading),
    )


def _worker_type(raw: Mapping[str, Any], reading: Reading) -> str | None:
    worker_type = text_of(raw, "worker_type", reading.defects)
    flags = text_of(raw, "model_type", reading.defects) or ""
    if worker_type is None:
        # Before the key existed, a prefill worker said so with a flag of the model type.
        return "prefill" if "prefill" in (flag.strip().lower() for flag in flags.split("|")) else None
    if worker_type.lower() in WORKER_TYPES:
        return worker_type.lower()
    reading.notes.append(f"$.worker_type: {worker_type[:40]!r} is not known here: passed over")
    reading.skipped["worker_type"] = worker_type
    return None


def _lora(value: Any, reading: Reading) -> Lora | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        reading.wrong("$.lora", "is not an object with a name")
        return None
    count = value.get("max_gpu_lora_count")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
        reading.wrong("$.lora.max_gpu_lora_count", f"{count!r:.40} is not an integer", Code.CARD_RANGE)
        return None
    return Lora(name=value["name"], max_gpu_lora_count=count)


def _count(raw: Mapping[str, Any], key: str, reading: Reading, *, at: str = "$") -> int | None:
    """Return a count of tokens; zero is Dynamo's word for none, and what no engine can mean is as good as none."""
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_U32:
        reading.wrong(f"{at}.{key}", f"{value!r:.40} is not an integer of 32 bits", Code.CARD_RANGE)
        return None
    if value > _MAX_TOKENS:
        reading.notes.append(f"{at}.{key}: {value} stands for no limit")
        return None
    return value or None


def text_of(
    raw: Mapping[str, Any], key: str, defects: list[CardError], *, at: str = "$", required: bool = False
) -> str | None:
    """Return the string under ``key``, or None; what is no string goes into ``defects``."""
    value = raw.get(key)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        found = "is absent" if key not in raw else f"is a {type(value).__name__}, not a string"
        defects.append(CardError(Code.CARD_SCHEMA, found, subject=f"{at}.{key}"))
        return None
    return value
