"""Which files of a model directory come on its card, and in which slot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecard.card import MAX_FILES, Kind, LeftOut, Role, assign_slots, kind_of
from placecard.errors import Code, UsageError
from placecard.source import Entry, Walk

MAX_FILE_BYTES: Final = 1 << 30
MAX_TOTAL_BYTES: Final = 256 << 20
MAX_TEMPLATE_BYTES: Final = 1 << 20
_TEMPLATES: Final = frozenset({"chat_template.jinja", "chat_template.json"})


@dataclass(frozen=True)
class Selection:
    """The files of a card.

    Args:
        entries: Files, by name.
        roles: File name to its slot.
        left_out: Files that stay out, with the reason.
        template: Name under which the operator's own template stands; empty without one.
    """

    entries: tuple[Entry, ...]
    roles: Mapping[str, Role]
    left_out: tuple[LeftOut, ...]
    template: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name on the card."""
        return tuple(entry.name for entry in self.entries)

    @property
    def metadata_names(self) -> tuple[str, ...]:
        """Names that front ends take: code is listed on the card and stays where it is."""
        return tuple(name for name in self.names if kind_of(name) is Kind.METADATA)


def select(found: Walk, template: Path | None, max_total_bytes: int) -> Selection:
    """Sort the files of a directory: weights stay out, code is listed, the largest beyond the bounds stay out.

    The operator's own template stands as ``chat_template.jinja`` (or ``.json``, if it is one), where every consumer
    looks first, whatever its file is called; the model's own of that name stay out.

    Raises:
        UsageError: ``template`` is not a readable text.
    """
    left_out = list(found.left_out)
    kept: list[Entry] = []
    for entry in found.files:
        if reason := _reason(entry, replaced=template is not None):
            left_out.append(LeftOut(entry.name, reason))
        else:
            kept.append(entry)
    own = _template_entry(template) if template is not None else None
    if own is not None:
        kept.append(own)
    roles = assign_slots(entry.name for entry in kept)
    room, total, taken = MAX_FILES, max_total_bytes, []
    for entry in sorted(kept, key=lambda entry: _rank(entry, roles)):
        if room and entry.size <= total:
            taken.append(entry)
            room, total = room - 1, total - entry.size
        else:
            left_out.append(LeftOut(entry.name, "budget"))
    taken.sort(key=lambda entry: entry.name)
    return Selection(tuple(taken), roles, tuple(left_out), own.name if own is not None else "")


def _reason(entry: Entry, *, replaced: bool) -> str:
    """Say why a file stays out; empty if it comes on the card."""
    if (kind := kind_of(entry.name)) in (Kind.WEIGHTS, Kind.HIDDEN):
        return kind.value
    if replaced and entry.name in _TEMPLATES:
        return "replaced by the operator's template"
    return "larger than one metadata file may be" if entry.size > MAX_FILE_BYTES else ""


def _rank(entry: Entry, roles: Mapping[str, Role]) -> tuple[bool, bool, bool, int, str]:
    """Order in which files take their room: slots first, metadata above code, top level above folders, then by size."""
    name = entry.name
    return roles[name] is Role.EXTRA, kind_of(name) is Kind.CODE, "/" in name, entry.size, name


def _template_entry(template: Path) -> Entry:
    """Return the operator's template as a file of the card."""
    mend = "Pass a Jinja template (text, UTF-8, at most 1 MiB) with --chat-template."
    try:
        data = template.read_bytes()[: MAX_TEMPLATE_BYTES + 1]
        real = Path(os.path.realpath(template))
        status = real.stat()
        data.decode()
    except OSError as error:
        raise UsageError(Code.USAGE, f"cannot be read: {error.strerror}", subject=str(template), mend=mend) from error
    except UnicodeDecodeError:
        raise UsageError(Code.USAGE, "is not text in UTF-8", subject=str(template), mend=mend) from None
    if not data or len(data) > MAX_TEMPLATE_BYTES:
        raise UsageError(Code.USAGE, "is empty or larger than 1 MiB", subject=str(template), mend=mend)
    name = "chat_template.json" if template.suffix == ".json" else "chat_template.jinja"
    times = status.st_mtime_ns, status.st_ctime_ns
    return Entry(name, real, status.st_dev, status.st_ino, status.st_size, *times)
