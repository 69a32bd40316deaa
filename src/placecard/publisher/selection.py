"""Which files of a model directory come on its card, and in which slot."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from placecard.admission import is_config, parse_config
from placecard.admission.consumers import CHAT_TEMPLATE_FILES
from placecard.admission.losses import BUDGET, known_consumer
from placecard.card import MAX_FILES, Kind, LeftOut, Role, assign_slots, kind_of
from placecard.errors import AdmissionError, Code, UsageError
from placecard.source import Entry, Walk, walk
from placecard.source.listing import MAX_ENTRIES

MAX_LEFT_OUT: Final = 1024  # entries on a card, which is bounded itself
MAX_FILE_BYTES: Final = 1 << 30
MAX_TOTAL_BYTES: Final = 256 << 20
MAX_TEMPLATE_BYTES: Final = 1 << 20
_REPLACED: Final = "replaced by the operator's template"


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


def look(directory: Path) -> Walk:
    """Return all that a publisher sees of ``directory``, up to the bound of one walk.

    Raises:
        UsageError: It is no directory, or cannot be read.
    """
    found = walk(directory, max_files=MAX_ENTRIES)
    if found.problem is not None:
        if directory.is_file():
            raise UsageError(
                Code.USAGE, "is a file, not a model directory", subject=str(directory), mend="Pass its folder."
            )
        raise UsageError(
            Code.USAGE, f"is not a readable directory: {found.problem.detail}", subject=str(directory),
            mend="Pass the directory that holds config.json; it must exist and be readable on this host.",
        )  # fmt: skip
    return found


def select(found: Walk, template: Path | None, max_total_bytes: int) -> Selection:
    """Sort the files of a directory: weights stay out, code is listed, what is least needed beyond the bounds stays
    out.

    The operator's own template stands as ``chat_template.jinja`` (or ``.json``, if it is one), where every consumer
    looks first, whatever its file is called; the model's own of that name stay out.

    Raises:
        UsageError: ``template`` is not a readable text.
    """
    replaced = frozenset(CHAT_TEMPLATE_FILES) if template is not None else frozenset()
    left_out = [LeftOut(each.name, _REPLACED) if each.name in replaced else each for each in found.left_out]
    if found.truncated:
        left_out.append(LeftOut(f"whatever lies beyond {MAX_ENTRIES} entries", BUDGET))
    kept: list[Entry] = []
    for entry in found.files:
        if reason := _reason(entry, replaced):
            left_out.append(LeftOut(entry.name, reason))
        else:
            kept.append(entry)
    own = _template_entry(template) if template is not None else None
    if own is not None:
        kept.append(own)
    roles = assign_slots(entry.name for entry in kept)
    over = len(kept) > MAX_FILES or sum(entry.size for entry in kept) > max_total_bytes
    words = _words(kept) if over else frozenset()
    room, total, taken = MAX_FILES, max_total_bytes, []
    for entry in sorted(kept, key=lambda entry: rank(entry.name, entry.size, roles, words)):
        if room and entry.size <= total:
            taken.append(entry)
            room, total = room - 1, total - entry.size
        else:
            left_out.append(LeftOut(entry.name, BUDGET))
    taken.sort(key=lambda entry: entry.name)
    return Selection(tuple(taken), roles, tuple(left_out), own.name if own is not None else "")


def rank(
    name: str, size: int, roles: Mapping[str, Role], words: frozenset[str] = frozenset()
) -> tuple[bool, bool, bool, bool, bool, int, str]:
    """Return the order in which files take their room on a card.

    Slots come first, then files by which a consumer is known, files that a configuration mentions, metadata above
    code, the top level above folders, and the small above the large.

    Args:
        words: Strings of the model's configuration.
    """
    mentioned = any(str(path) in words for path in (PurePosixPath(name), *PurePosixPath(name).parents))
    is_code = kind_of(name) is Kind.CODE
    return roles[name] is Role.EXTRA, not known_consumer(name), not mentioned, is_code, "/" in name, size, name


def bounded(left_out: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """Return what a card lists as left out, by name: of too many, the known and the metadata, and how many more."""
    whole = sorted(left_out, key=lambda each: each.name)
    if len(whole) <= MAX_LEFT_OUT:
        return tuple(whole)
    whole.sort(key=lambda each: (not known_consumer(each.name), kind_of(each.name) is not Kind.METADATA))
    more = Counter(each.reason for each in whole[MAX_LEFT_OUT:])
    kept = sorted(whole[:MAX_LEFT_OUT], key=lambda each: each.name)
    return (*kept, *(LeftOut(f"{count} further entries", reason) for reason, count in sorted(more.items())))


def _reason(entry: Entry, replaced: frozenset[str]) -> str:
    """Say why a file stays out; empty if it comes on the card."""
    if (kind := kind_of(entry.name)) in (Kind.WEIGHTS, Kind.HIDDEN):
        return kind.value
    if entry.name in replaced:
        return _REPLACED
    return "larger than one metadata file may be" if entry.size > MAX_FILE_BYTES else ""


def _words(entries: Iterable[Entry]) -> frozenset[str]:
    """Return every string in the configuration files that consumers are known to open: some name further files."""
    words: set[str] = set()
    for entry in entries:
        if not (known_consumer(entry.name) and is_config(entry.name)):
            continue
        try:
            words.update(_strings(parse_config(entry.real.read_bytes(), name=entry.name)))
        except (OSError, AdmissionError):
            continue  # told by the load test and by hashing; it mentions nothing
    return frozenset(words - {"", "."})


def _strings(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        match stack.pop():
            case str() as text if 0 < len(text) <= 1024:
                yield text.removeprefix("./").strip("/")
            case dict() as members:
                stack.extend(members.values())
            case list() as items:
                stack.extend(items)
            case _:
                pass


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
