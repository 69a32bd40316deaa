"""The card as JSON: a strict reader that reports every defect, and a writer that gives unknown keys back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from placecard.card.model import (
    MAX_CARD_BYTES,
    MAX_FILES,
    SCHEMA,
    Card,
    CheckedFile,
    LeftOut,
    Lora,
    Serving,
    name_defects,
)
from placecard.errors import CardDefectsError, CardError, Code

MAX_DEPTH: Final = 32
# Strings, and whatever else is no bracket; possessive: linear on any input.
_NO_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^]["{}]++', re.DOTALL)
_INTEGERS: Final = ("context_length", "kv_block_size", "max_gpu_lora_count", "schema", "size")
_T = TypeVar("_T", bound=msgspec.Struct)


def decode_card(data: bytes) -> Card:
    """Return the card that ``data`` (JSON, UTF-8) states.

    Raises:
        CardError: The bytes are not one JSON object within the bounds, or of a newer schema.
        CardDefectsError: They are, and break rules of the card; all are listed. Rules between files are looked at once
            each file stands by itself.
    """
    return card_from_json(read_json(data))


def card_from_json(raw: dict[str, Any]) -> Card:
    """Return the card that the JSON object ``raw`` states, as :func:`read_json` returned it.

    Raises:
        CardError: It is of a newer schema.
        CardDefectsError: It breaks rules; all are listed.
    """
    _check_schema(raw)
    defects: list[CardError] = []
    files = _files(raw.get("files", []), defects)
    serving = _part(raw.get("serving", {}), Serving, "$.serving", defects)
    own = _part({key: value for key, value in raw.items() if key not in ("files", "serving")}, _Own, "$", defects)
    if defects or serving is None or own is None:
        raise CardDefectsError(defects)
    return Card(
        name=own.name, schema=own.schema, origin=own.origin, files=files, left_out=own.left_out, serving=serving,
        unknown=own.unknown,
    )  # fmt: skip


def encode_card(card: Card, *, indent: int | None = None) -> bytes:
    """Return ``card`` as JSON with sorted keys; unknown keys stand where they were read.

    Raises:
        CardError: ``CARD_TOO_LARGE``: no reader would take it.
    """
    data = json.dumps(to_json(card), sort_keys=True, ensure_ascii=False, indent=indent).encode()
    _check_size(data, MAX_CARD_BYTES)
    return data


def to_json(card: Card) -> dict[str, Any]:
    """Return ``card`` as plain JSON values, without empty members."""
    return _plain(card)


def read_json(data: bytes, *, max_bytes: int = MAX_CARD_BYTES) -> dict[str, Any]:
    """Return the one JSON object in ``data``, read strictly.

    Stricter than :func:`json.loads`: bounded size and depth before parsing, no duplicate keys, no NaN, infinity,
    negative zero or integer over 64 bits, no lone surrogates.

    Raises:
        CardError: ``CARD_TOO_LARGE``, ``CARD_TOO_DEEP``, ``CARD_DUPLICATE_KEY``, ``CARD_BAD_NUMBER``,
            ``CARD_BAD_STRING`` or ``CARD_MALFORMED`` with the byte offset.
    """
    _check_size(data, max_bytes)
    _check_depth(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CardError(Code.CARD_MALFORMED, f"not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_bad_constant, parse_int=_integer, parse_float=_float
        )
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise CardError(Code.CARD_MALFORMED, f"not JSON at byte {offset}: {error.msg}") from None
    if not isinstance(value, dict):
        raise CardError(Code.CARD_MALFORMED, f"the top level is a {type(value).__name__}, not an object")
    if "\\u" in text:  # UTF-8 itself cannot hold a surrogate; an escape can
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise CardError(Code.CARD_BAD_STRING, "a string holds a lone surrogate") from None
    return value


class _Own(msgspec.Struct):
    """The card without its files and serving part."""

    name: str
    schema: int = SCHEMA
    origin: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    unknown: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if defects := tuple(name_defects(self.name, self.origin)):
            raise CardDefectsError(defects)


def _files(raw: Any, defects: list[CardError]) -> tuple[CheckedFile, ...]:
    if not isinstance(raw, list):
        defects.append(CardError(Code.CARD_SCHEMA, "is not an array", subject="$.files"))
        return ()
    if len(raw) > MAX_FILES:
        defects.append(
            CardError(Code.CARD_TOO_LARGE, f"lists {len(raw)} files; at most {MAX_FILES}", subject="$.files")
        )
        return ()
    files: dict[str, CheckedFile] = {}
    for index, entry in enumerate(raw):
        file = _part(entry, CheckedFile, f"$.files[{index}]", defects)
        if file is None:
            continue
        other = files.setdefault(file.name, file)
        if other.digest != file.digest or other.size != file.size:
            detail = f"stands twice with different content ({other.digest}, {file.digest})"
            defects.append(CardError(Code.CARD_NAME_CONFLICT, detail, subject=ascii(file.name)))
        elif file.typed and not other.typed:
            files[file.name] = file  # the same file as slot and as extra: once, in its slot
    return tuple(files.values())


def _part(raw: Any, type_: type[_T], where: str, defects: list[CardError]) -> _T | None:
    """Return ``raw`` as ``type_``; note what is wrong in ``defects``."""
    if not isinstance(raw, dict):
        defects.append(CardError(Code.CARD_SCHEMA, f"is a {type(raw).__name__}, not an object", subject=where))
        return None
    code = Code.CARD_RANGE if type_ is Serving else Code.CARD_BAD_NUMBER
    parted = _parted(raw, type_)
    if wrong := [CardError(code, f"{value!r} is not an integer", subject=at) for at, value in _floats(parted, where)]:
        defects.extend(wrong)
        return None
    try:
        return msgspec.convert(parted, type_)
    except msgspec.ValidationError as error:
        defects.append(_schema_defect(error, where))
    except CardDefectsError as found:
        defects.extend(found.defects)
    return None


def _parted(raw: Any, type_: type[msgspec.Struct]) -> Any:
    """Return ``raw`` with the keys that ``type_`` does not know moved into its ``unknown``; its parts likewise."""
    if not isinstance(raw, dict):
        return raw
    fields = _known_keys(type_)
    parted = dict(raw)
    if not raw.keys() <= fields:
        parted = {key: value for key, value in raw.items() if key in fields}
        parted["unknown"] = {key: value for key, value in raw.items() if key not in fields}
    if "lora" in parted:
        parted["lora"] = _parted(parted["lora"], Lora)
    if isinstance(left_out := parted.get("left_out"), list):
        parted["left_out"] = [_parted(entry, LeftOut) for entry in left_out]
    return parted


@cache
def _known_keys(type_: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(type_.__struct_fields__) - {"unknown"}


def _floats(parted: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """Yield each value that stands for an integer and is none, though JSON readers would let it pass."""
    for key in _INTEGERS:
        if type(parted.get(key)) in (bool, float):
            yield f"{where}.{key}", parted[key]
    if isinstance(lora := parted.get("lora"), dict):
        yield from _floats(lora, f"{where}.lora")


def _plain(part: msgspec.Struct) -> dict[str, Any]:
    body: dict[str, Any] = dict(getattr(part, "unknown", {}))
    for key in part.__struct_fields__:
        value = getattr(part, key)
        if key == "unknown" or value is None or value in ((), {}):
            continue
        if isinstance(value, msgspec.Struct):
            body[key] = _plain(value)
        elif isinstance(value, tuple):
            body[key] = [_plain(each) if isinstance(each, msgspec.Struct) else each for each in value]
        else:
            body[key] = value
    return body


def _check_schema(raw: dict[str, Any]) -> None:
    schema = raw.get("schema")
    if schema is None:
        raise CardError(Code.CARD_SCHEMA, "the key is absent", subject="$.schema")
    if isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA:
        raise CardError(
            Code.CARD_VERSION_UNSUPPORTED, f"schema {schema}; this release reads up to {SCHEMA}", subject="$.schema"
        )
    if isinstance(schema, int) and not isinstance(schema, bool) and schema < 1:
        raise CardError(Code.CARD_RANGE, f"schema {schema} does not exist", subject="$.schema")


def _schema_defect(error: msgspec.ValidationError, where: str) -> CardError:
    detail, _, at = str(error).partition(" - at ")
    place = at.strip("`").removeprefix("$") if at else ""
    return CardError(Code.CARD_SCHEMA, detail[:1].lower() + detail[1:], subject=where + place)


def _check_size(data: bytes, max_bytes: int) -> None:
    if len(data) > max_bytes:
        raise CardError(Code.CARD_TOO_LARGE, f"{len(data)} bytes; at most {max_bytes}")


def _check_depth(data: bytes) -> None:
    depth = 0
    for bracket in _NO_BRACKET.sub(b"", data):
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise CardError(Code.CARD_TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")
        else:
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise CardError(Code.CARD_DUPLICATE_KEY, "the key stands twice in one object", subject=ascii(twice[:80]))
    return value


def _bad_constant(text: str) -> NoReturn:
    raise CardError(Code.CARD_BAD_NUMBER, f"{text} is not a JSON number")


def _integer(text: str) -> int:
    if len(text) > 20 or text == "-0" or not -(2**63) <= (value := int(text)) < 2**64:
        raise CardError(Code.CARD_BAD_NUMBER, f"{text[:24]} is negative zero or does not fit 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or (value == 0 and text.startswith("-")):
        raise CardError(Code.CARD_BAD_NUMBER, f"{text[:24]} is infinite or negative zero")
    return value
