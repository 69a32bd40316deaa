"""The model deployment card: what a worker serves, and the metadata files that a front end needs to serve it too.

A :class:`Card` that exists is a valid one: construction checks every rule and raises all defects at once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

from placecard.card.digest import EMPTY_DIGEST, check_digest
from placecard.card.filenames import Role, check_name, collisions, fits_slot
from placecard.card.slug import slugify
from placecard.card.uri import parse_uri
from placecard.errors import CardDefectsError, CardError, Code

SCHEMA: Final = 1
MAX_FILES: Final = 1024
MAX_CARD_BYTES: Final = 1 << 20
MAX_SOURCES: Final = 64
_MAX_INT: Final = 2**63 - 1


class CheckedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One metadata file, named by its content.

    Args:
        name: Relative path inside the model directory, ``/`` between parts.
        role: A :class:`Role`, or a word of a newer release.
        digest: ``blake3:<64 hex>`` of the content.
        size: Bytes; None only on cards of other systems that do not say.
        consumers: Who opened the file when the publisher loaded the directory: ``config``, ``tokenizer`` …
        sources: URIs where the bytes may be had, best first. Hints only: the digest decides.
        unknown: Keys of newer releases, kept for the round trip.
    """

    name: str
    digest: str
    size: int | None = None
    role: str = Role.EXTRA.value
    consumers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    unknown: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if defects := tuple(_file_defects(self)):
            raise CardDefectsError(defects)

    @property
    def typed(self) -> bool:
        """Whether the file fills a typed slot."""
        return self.role in _TYPED

    @property
    def understood(self) -> bool:
        """Whether this release knows the role; a file of another role is skipped, and the card lives."""
        return self.role in _ROLES


class LeftOut(msgspec.Struct, frozen=True):
    """A file that stays out, and the reason: ``weights``, ``code``, ``hidden``, ``budget`` …

    Both are for reading alone, and a directory may hold any name: characters that could mislead a reader or break
    the encoding are escaped on construction, so that a file which stays out never kills the card that lists it.
    """

    name: str
    reason: str
    unknown: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("name", "reason"):
            msgspec.structs.force_setattr(self, key, _escaped(getattr(self, key)))


class Lora(msgspec.Struct, frozen=True, kw_only=True):
    """The adapter that this card adds to its base model; ``max_gpu_lora_count``: adapters an engine holds at once."""

    name: str
    max_gpu_lora_count: int | None = None
    unknown: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        defects = [*_bad_strings({"$.serving.lora.name": self.name})]
        defects += _out_of_range({"$.serving.lora.max_gpu_lora_count": self.max_gpu_lora_count}, least=0)
        if defects:
            raise CardDefectsError(defects)


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """How the worker serves the model. Another serving digest makes another cohort; it never hides a model.

    Args:
        context_length: Tokens a request may hold, prompt and answer.
        kv_block_size: Tokens of one KV cache block.
        worker_type: ``aggregated``, ``prefill``, ``decode`` or ``encode``.
    """

    aliases: tuple[str, ...] = ()
    context_length: int | None = None
    kv_block_size: int | None = None
    worker_type: str | None = None
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    image_options: dict[str, Any] = msgspec.field(default_factory=dict)
    lora: Lora | None = None
    unknown: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = {f"$.serving.{key}": getattr(self, key) for key in ("worker_type", "tool_parser", "reasoning_parser")}
        texts |= {f"$.serving.aliases[{index}]": alias for index, alias in enumerate(self.aliases)}
        numbers = {f"$.serving.{key}": getattr(self, key) for key in ("context_length", "kv_block_size")}
        if defects := (*_bad_strings(texts), *_out_of_range(numbers, least=1)):
            raise CardDefectsError(defects)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A model deployment card.

    Args:
        name: The name that clients ask for.
        origin: Where the publisher took the model from: ``hf://REPO@COMMIT``, a directory, or None.
        files: Every metadata file, each name once.
        left_out: Files of the publisher's directory that are not on the card, with the reason.

    Raises:
        CardDefectsError: On construction, with all that is wrong.
    """

    name: str
    schema: int = SCHEMA
    origin: str | None = None
    files: tuple[CheckedFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    serving: Serving = msgspec.field(default_factory=Serving)
    unknown: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if defects := tuple(_card_defects(self)):
            raise CardDefectsError(defects)

    @property
    def slug(self) -> str:
        """The name as it stands in URLs and directory names; not unique."""
        return slugify(self.name)

    def slot(self, role: Role) -> CheckedFile | None:
        """Return the file of a typed slot."""
        return next((file for file in self.files if file.role == role), None)

    def file(self, name: str) -> CheckedFile | None:
        """Return the file called ``name``."""
        return next((file for file in self.files if file.name == name), None)


_ROLES: Final = frozenset(role.value for role in Role)
_TYPED: Final = _ROLES - {Role.EXTRA.value}
# Unicode general categories: control, format (direction, zero width), surrogate, line and paragraph separator.
_MISLEADING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@lru_cache(maxsize=4096)
def bad_string(text: str, *, limit: int = 1024) -> str | None:
    """Say what makes ``text`` unfit as a name or path that people read; None if nothing does."""
    if not text or len(text) > limit:
        return f"is empty or longer than {limit} characters"
    if not (text.isascii() and text.isprintable()) and any(unicodedata.category(c) in _MISLEADING for c in text):
        return "holds a control, direction-changing or surrogate character"
    return None


def name_defects(name: str, origin: str | None) -> Iterator[CardError]:
    """Yield what is wrong with a card's own name and origin."""
    yield from _bad_strings({"$.name": name, "$.origin": origin})


def _bad_strings(texts: Mapping[str, str | None]) -> Iterator[CardError]:
    for where, text in texts.items():
        if text is not None and (why := bad_string(text)):
            yield CardError(Code.CARD_BAD_STRING, why, subject=where)


def _out_of_range(numbers: Mapping[str, int | None], *, least: int) -> Iterator[CardError]:
    for where, value in numbers.items():
        if value is not None and not least <= value <= 2**31 - 1:
            yield CardError(Code.CARD_RANGE, f"{value} is outside {least} to 2^31-1", subject=where)


def _escaped(text: str) -> str:
    bad = (c if unicodedata.category(c) not in _MISLEADING else c.encode("unicode_escape").decode() for c in text)
    return "".join(bad)


def _file_defects(file: CheckedFile) -> Iterator[CardError]:
    shown = ascii(file.name[:80])
    try:  # all at once, as nearly every card passes; one by one where something is wrong
        check_name(file.name)
        check_digest(file.digest, subject=shown)
        for uri in file.sources:
            parse_uri(uri)
    except CardError:
        yield from _each_defect(file, shown)
    for key, texts in (("role", (file.role,)), ("consumers", file.consumers)):
        for text in texts:
            if why := bad_string(text, limit=128):
                yield CardError(Code.CARD_BAD_STRING, f"{key} {why}", subject=shown)
    if len(file.sources) > MAX_SOURCES:
        yield CardError(Code.CARD_TOO_LARGE, f"has more than {MAX_SOURCES} sources", subject=shown)
    if file.size is not None and not 0 <= file.size <= _MAX_INT:
        yield CardError(Code.CARD_RANGE, f"size {file.size} is negative or over 2^63-1", subject=shown)
    if file.typed:
        if file.size == 0 or file.digest == EMPTY_DIGEST:
            yield CardError(Code.SLOT_EMPTY, f"fills slot {file.role} and is empty", subject=shown)
        if not fits_slot(file.name, Role(file.role)):
            yield CardError(Code.SLOT_TYPE_MISMATCH, f"cannot fill slot {file.role}", subject=shown)


def _each_defect(file: CheckedFile, shown: str) -> Iterator[CardError]:
    checks: list[Callable[[], object]] = [
        partial(check_name, file.name),
        partial(check_digest, file.digest, subject=shown),
        *(partial(parse_uri, uri) for uri in file.sources),
    ]
    for check in checks:
        try:
            check()
        except CardError as defect:
            yield defect


@lru_cache(maxsize=256)  # the workers of a model advertise the same names
def _collisions(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(collisions(names))


def _card_defects(card: Card) -> Iterator[CardError]:
    yield from name_defects(card.name, card.origin)
    if card.schema != SCHEMA:
        yield CardError(Code.CARD_VERSION_UNSUPPORTED, f"schema {card.schema}, not {SCHEMA}", subject="$.schema")
    if len(card.files) > MAX_FILES:
        yield CardError(Code.CARD_TOO_LARGE, f"lists {len(card.files)} files; at most {MAX_FILES}", subject="$.files")
        return
    names = {file.name for file in card.files}
    if not names & {"config.json", "params.json"}:  # params.json: a directory in Mistral's own format
        yield CardError(Code.CARD_INCOMPLETE, "no model_info slot (config.json)", subject="$.files")
    slots: dict[str, str] = {}
    for file in card.files:
        if file.typed and slots.setdefault(file.role, file.name) != file.name:
            detail = f"{slots[file.role]!r} and {file.name!r} both fill it"
            yield CardError(Code.CARD_NAME_CONFLICT, detail, subject=f"slot {file.role}")
    if len(names) != len(card.files):
        yield CardError(Code.CARD_NAME_CONFLICT, "a name stands twice", subject="$.files")
    for one, other in _collisions(tuple(sorted(names))):
        yield CardError(Code.NAME_COLLISION, f"cannot stand beside {other!a}", subject=ascii(one))
