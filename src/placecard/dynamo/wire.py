"""Dynamo's card read into ours, in every form that its releases have written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from placecard.card import Card, CheckedFile, Role, read_json
from placecard.card.filenames import fits_slot
from placecard.dynamo.mdcsum import mdcsum
from placecard.dynamo.paths import read_path
from placecard.dynamo.serving import Reading, read_serving, text_of
from placecard.errors import CardDefectsError, CardError, Code

# Externally tagged slots: {kind: file} or, for templates, {kind: {"is_custom": bool, "file": file}}. Before it had its
# own slot the template stood in prompt_formatter, so both slots take both families.
_TEMPLATES: Final = dict.fromkeys(
    ("hf_chat_template", "hf_chat_template_jinja", "hf_chat_template_json"), Role.CHAT_TEMPLATE
)
_PROMPT: Final = {"hf_tokenizer_config_json": Role.TOKENIZER_CONFIG, **_TEMPLATES}
SLOTS: Final[dict[str, dict[str, Role]]] = {
    "model_info": {"hf_config_json": Role.MODEL_INFO},
    "tokenizer": {"hf_tokenizer_json": Role.TOKENIZER, "tik_token_model": Role.TOKENIZER},
    "prompt_formatter": _PROMPT,
    "chat_template_file": _PROMPT,
    "gen_config": {"hf_generation_config_json": Role.GENERATION_CONFIG},
}
MAX_EXTRA_FILES: Final = 4096  # before any is looked at; the card's own limit is lower
_SLUG = re.compile(r"[a-z0-9_-]*")
_ENVELOPE: Final = ("namespace", "component", "endpoint", "model_suffix")
_READ: Final = frozenset(SLOTS) | {"display_name", "source_path", "extra_files", "aliases", "lora"}


@dataclass(frozen=True)
class DynamoInfo:
    """What a Dynamo card says beyond ours.

    Args:
        source_path: Hub repository or directory the worker was started with; the display name where the card has none.
        slug: As on the card.
        raw: The card's JSON as received, for relaying: writing it anew from what we understood would drop newer keys.
        mdcsum: Dynamo's checksum; None if a stock front end of the release we follow could not read the card.
        custom_templates: Names of templates the operator supplied; they are found nowhere but where the card says.
        lists_extra_files: Whether the card names files beyond the typed slots, as self-hosting workers do.
        notes: What was passed over, and why.
        namespace: With ``component``, ``endpoint`` and ``instance_id``, the worker; None outside a discovery record.
        model_suffix: Slug of the adapter; None for a base model.
    """

    source_path: str
    slug: str
    raw: Mapping[str, Any]
    mdcsum: str | None
    custom_templates: tuple[str, ...] = ()
    lists_extra_files: bool = False
    notes: tuple[str, ...] = ()
    namespace: str | None = None
    component: str | None = None
    endpoint: str | None = None
    instance_id: int | None = None
    model_suffix: str | None = None


def card_from_dynamo(data: bytes | Mapping[str, Any]) -> tuple[Card, DynamoInfo]:
    """Return our card of a Dynamo card, and what Dynamo says beyond it.

    ``data`` is a card, or a discovery record that holds one as ``card_json``. A slot kind or enum variant that is not
    known is passed over and noted; it never costs the card. What was skipped is in ``card.unknown["dynamo"]["kept"]``.

    Raises:
        CardError: The bytes are not one JSON object within the bounds.
        CardDefectsError: They are, and break rules; all are listed.
    """
    return read_card(read_json(data) if isinstance(data, bytes) else _strict(data))


def read_card(raw: dict[str, Any]) -> tuple[Card, DynamoInfo]:
    """Return what :func:`card_from_dynamo` does, of JSON that was read strictly.

    Raises:
        CardError: As there.
    """
    envelope: Mapping[str, Any] = {}
    if "card_json" in raw:
        envelope, raw = raw, raw["card_json"]
        if not isinstance(raw, dict):
            raise CardError(Code.CARD_SCHEMA, f"is a {type(raw).__name__}, not an object", subject="$.card_json")
    reading = Reading(slug=text_of(raw, "slug", []) or "")
    for slot in SLOTS:
        _read_slot(raw.get(slot), slot, reading)
    extras = _read_extras(raw.get("extra_files"), reading)
    worker = _read_envelope(envelope, reading)
    serving = read_serving(raw, reading)
    name = text_of(raw, "display_name", reading.defects, required=True)
    source_path = text_of(raw, "source_path", reading.defects) or name or ""
    if not _SLUG.fullmatch(reading.slug):
        reading.wrong("$.slug", "holds characters other than a-z 0-9 - _", Code.CARD_BAD_STRING)
    if reading.defects or name is None:
        raise CardDefectsError(reading.defects)
    total = _mdcsum(raw)
    dynamo = {"mdcsum": total, **worker, "kept": _rest(raw, reading) or None}
    card = Card(
        name=name,
        origin=_origin(source_path),
        files=tuple(reading.files.values()),
        serving=serving,
        unknown={"dynamo": {key: value for key, value in dynamo.items() if value is not None}},
    )
    info = DynamoInfo(
        source_path=source_path,
        slug=reading.slug,
        raw=raw,
        mdcsum=total,
        custom_templates=tuple(reading.custom),
        lists_extra_files=extras,
        notes=tuple(reading.notes),
        **worker,
    )
    return card, info


def _strict(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` as the strict reader would have read it from text."""
    try:
        return read_json(json.dumps(data, ensure_ascii=True).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise CardError(Code.CARD_MALFORMED, f"not JSON values: {error}") from error


def _read_slot(value: Any, slot: str, reading: Reading) -> None:
    where = f"$.{slot}"
    if value is None:
        return
    if isinstance(value, str):
        value = {value: None}  # a variant without content, such as one of a newer release
    if not isinstance(value, dict) or len(value) != 1:
        reading.wrong(where, "is not an object with one kind of file")
        return
    ((kind, body),) = value.items()
    role = SLOTS[slot].get(kind)
    if role is None:
        reading.skipped[slot] = value
        reading.notes.append(f"{where}: kind {kind[:40]!r} is not known here: passed over")
        return
    custom, where = False, f"{where}.{kind}"
    if isinstance(body, dict) and "file" in body and kind in _TEMPLATES:
        custom, body = body.get("is_custom", False), body["file"]
        if not isinstance(custom, bool):
            reading.wrong(f"{where}.is_custom", "is not true or false")
            return
        where += ".file"
    _add(_read_file(body, where, role, reading, custom=custom), reading)


def _read_extras(value: Any, reading: Reading) -> bool:
    """Read the untyped siblings; return whether there are any."""
    if value is None:
        return False
    if not isinstance(value, list):
        reading.wrong("$.extra_files", "is not an array")
        return False
    if len(value) > MAX_EXTRA_FILES:
        reading.wrong("$.extra_files", f"lists {len(value)} files; at most {MAX_EXTRA_FILES}", Code.CARD_TOO_LARGE)
        return False
    for index, body in enumerate(value):
        _add(_read_file(body, f"$.extra_files[{index}]", Role.EXTRA, reading), reading)
    return bool(value)


def _read_file(body: Any, where: str, role: Role, reading: Reading, *, custom: bool = False) -> CheckedFile | None:
    if not isinstance(body, dict):
        reading.wrong(where, f"is a {type(body).__name__}, not a file")
        return None
    path, checksum, size = body.get("path"), body.get("checksum"), body.get("size")
    if not isinstance(path, str) or not isinstance(checksum, str):
        reading.wrong(where, "lacks a path or a checksum")
        return None
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        reading.wrong(f"{where}.size", f"{size!r} is not an integer", Code.CARD_BAD_NUMBER)
        return None
    try:
        place = read_path(path, slug=reading.slug)
        if place.note:
            reading.notes.append(f"{where}: no source: {place.note}")
        if custom:
            reading.custom.append(place.name)
            if not fits_slot(place.name, role):
                reading.notes.append(f"{where}: a template by its slot alone, not by its name: kept as an extra file")
                role = Role.EXTRA
        return CheckedFile(
            name=place.name,
            digest=checksum,
            size=size,
            role=role.value,
            sources=(place.source,) if place.source else (),
            unknown={"is_custom": True} if custom else {},
        )
    except CardDefectsError as found:
        reading.defects.extend(found.defects)
    except CardError as defect:
        reading.defects.append(defect)
    return None


def _add(file: CheckedFile | None, reading: Reading) -> None:
    """Take ``file`` in; the same content listed again under its name is one file, other content is a conflict."""
    if file is None:
        return
    other = reading.files.setdefault(file.name, file)
    if other is file:
        return
    if other.digest != file.digest:
        detail = f"stands twice with different content ({other.digest}, {file.digest})"
        reading.wrong(ascii(file.name), detail, Code.CARD_NAME_CONFLICT)
    elif file.typed and other.role != file.role:
        reading.wrong(ascii(file.name), f"fills {other.role} and {file.role}", Code.CARD_NAME_CONFLICT)


def _read_envelope(envelope: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    worker: dict[str, Any] = {key: text_of(envelope, key, reading.defects) for key in _ENVELOPE}
    instance = envelope.get("instance_id")
    if instance is not None and (isinstance(instance, bool) or not isinstance(instance, int) or instance < 0):
        reading.wrong("$.instance_id", "is not an integer of 64 bits", Code.CARD_BAD_NUMBER)
        instance = None
    worker["instance_id"] = instance
    if envelope.get("type", "Model") != "Model":
        reading.wrong("$.type", f"{envelope['type']!r:.40} is not a model record")
    return worker


def _mdcsum(raw: Mapping[str, Any]) -> str | None:
    try:
        return mdcsum(raw)
    except CardError:
        return None  # a slot of a newer release, or one that only an older release could read


def _rest(raw: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """Return what of the card has no place in ours: unknown keys and skipped slots."""
    rest = {key: value for key, value in raw.items() if key not in _READ and value not in (None, [], {})}
    return rest | reading.skipped


def _origin(source_path: str) -> str | None:
    """Return where the worker took the model from, as our cards say it: a directory or ``hf://REPO``."""
    if source_path.startswith(("/", "hf://")):
        return source_path
    repo = re.fullmatch(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)?(?:@[A-Za-z0-9._-]+)?", source_path)
    return f"hf://{source_path}" if repo and len(source_path) <= 224 else None
