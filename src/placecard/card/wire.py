"""The card as JSON: a strict reader that reports every defect, and a writer that gives unknown keys back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from placecard.card.model import MAX_CARD_BYTES, MAX_FILES, SCHEMA, Card, CheckedFile, LeftOut, Lora, Serving
from placecard.errors import CardDefectsError, CardError, Code

MAX_DEPTH: Final = 32
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_T = TypeVar("_T", CheckedFile, Serving)


def decode_card(data: bytes) -> Card:
    """Return the card that ``data`` (JSON, UTF-8) states.

    Raises:
        CardError: The bytes are not one JSON object within the bounds.
        CardDefectsError: They are, and break rules of the card; all are listed.
    """
    raw = read_json(data)
    _check_schema(raw)
    defects: list[CardError] = []
    files = _files(raw.get("files", []), defects)
    serving = _part(raw.get("serving", {}), Serving, "$.serving", defects)
    rest = {key: value for key, value in raw.items() if key not in ("files", "serving")}
    known, unknown = _split(rest, Card)
    for where, value in _wrong_numbers(known, ("schema",), "$"):
        defects.append(CardError(Code.CARD_BAD_NUMBER, f"{value!r} is not an integer", subject=where))
    try:
        left_out = msgspec.convert(known.pop("left_out", []), tuple[LeftOut, ...])
        shell = msgspec.convert(known | {"files": []}, _Shell)
    except msgspec.ValidationError as error:
        defects.append(_schema_defect(error, "$"))
    if defects or serving is None:
        raise CardDefectsError(defects)
    return Card(
        name=shell.name, schema=shell.schema, origin=shell.origin, files=files, left_out=left_out, serving=serving,
        unknown=unknown,
    )  # fmt: skip


def encode_card(card: Card, *, indent: int | None = None) -> bytes:
    """Return ``card`` as JSON with sorted keys; unknown keys stand where they were read."""
    return json.dumps(to_json(card), sort_keys=True, ensure_ascii=False, indent=indent).encode()


def to_json(card: Card) -> dict[str, Any]:
    """Return ``card`` as plain JSON values, without empty members."""
    body = _plain(card)
    body["schema"] = card.schema
    body["files"] = [_plain(file) for file in card.files]
    body["serving"] = _plain(card.serving)
    return body


def read_json(data: bytes, *, max_bytes: int = MAX_CARD_BYTES) -> dict[str, Any]:
    """Return the one JSON object in ``data``, read strictly.

    Stricter than :func:`json.loads`: bounded size and depth before parsing, no duplicate keys, no NaN, infinity,
    negative zero or integer over 64 bits, no lone surrogates.

    Raises:
        CardError: ``CARD_TOO_LARGE``, ``CARD_TOO_DEEP``, ``CARD_DUPLICATE_KEY``, ``CARD_BAD_NUMBER``,
            ``CARD_BAD_STRING`` or ``CARD_MALFORMED`` with the byte offset.
    """
    if len(data) > max_bytes:
        raise CardError(Code.CARD_TOO_LARGE, f"{len(data)} bytes; at most {max_bytes}")
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
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise CardError(Code.CARD_BAD_STRING, "a string holds a lone surrogate") from None
    return value


class _Shell(msgspec.Struct):
    """The card's own scalar keys."""

    name: str
    schema: int = SCHEMA
    origin: str | None = None


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
        elif file.typed and other.role != file.role:
            detail = f"fills two slots, {other.role} and {file.role}"
            defects.append(CardError(Code.CARD_NAME_CONFLICT, detail, subject=ascii(file.name)))
    return tuple(files.values())


def _part(raw: Any, type_: type[_T], where: str, defects: list[CardError]) -> _T | None:
    """Return ``raw`` as ``type_`` with its unknown keys kept aside; note what is wrong in ``defects``."""
    if not isinstance(raw, dict):
        defects.append(CardError(Code.CARD_SCHEMA, f"is a {type(raw).__name__}, not an object", subject=where))
        return None
    known, unknown = _split(raw, type_)
    if bad := list(_wrong_numbers(known, ("size", "context_length", "kv_block_size"), where)):
        code = Code.CARD_BAD_NUMBER if type_ is CheckedFile else Code.CARD_RANGE
        defects.extend(CardError(code, f"{value!r} is not an integer", subject=place) for place, value in bad)
        return None
    try:
        return msgspec.convert(known | {"unknown": unknown}, type_)
    except msgspec.ValidationError as error:
        defects.append(_schema_defect(error, where))
    except CardDefectsError as found:
        defects.extend(found.defects)
    return None


def _split(raw: dict[str, Any], type_: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    fields = set(type_.__struct_fields__) - {"unknown"}
    return (
        {key: value for key, value in raw.items() if key in fields},
        {key: value for key, value in raw.items() if key not in fields},
    )


def _wrong_numbers(raw: dict[str, Any], keys: tuple[str, ...], where: str) -> Iterator[tuple[str, Any]]:
    for key in keys:
        if isinstance(value := raw.get(key), bool | float):
            yield f"{where}.{key}", value


def _plain(part: Card | CheckedFile | Serving) -> dict[str, Any]:
    body: dict[str, Any] = dict(part.unknown)
    for key in part.__struct_fields__:
        value = getattr(part, key)
        if key == "unknown" or value is None or value in ((), {}):
            continue
        body[key] = msgspec.to_builtins(value) if isinstance(value, tuple | Lora) else value
        if isinstance(value, Lora) and value.max_gpu_lora_count is None:
            body[key] = {"name": value.name}
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


def _check_depth(data: bytes) -> None:
    depth = 0
    for token in _TOKEN.finditer(data):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise CardError(
                        Code.CARD_TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels at byte {token.start()}"
                    )
            case b"]" | b"}":
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
