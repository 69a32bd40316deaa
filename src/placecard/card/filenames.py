"""File names: which are safe, which are equal, and which kind of file each one is.

A name on a card or in a directory listing is untrusted. It is a relative path with ``/`` between its parts;
sub-folders, spaces and Unicode pass. What could leave the directory, mislead a reader, or mean another file on
another system does not.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from placecard.errors import CardError, Code

MAX_COMPONENT_BYTES: Final = 255
MAX_NAME_BYTES: Final = 1024  # leaves room for the store's own directories below PATH_MAX (4,096)
MAX_PARTS: Final = 16

# Source: Microsoft, "Naming Files, Paths, and Namespaces": reserved device names, with or without an extension.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)")
_DRIVE = re.compile(r"[A-Za-z]:")
_UNSAFE_CHARACTERS = re.compile(r'[\\<>"|?*]')
# Unicode general categories: Cc control, Cf format (bidi, zero width), Cs surrogate, Co private, Cn unassigned, Zl, Zp.
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Letters and marks that nobody sees. Source: Unicode, DerivedCoreProperties.txt, Default_Ignorable_Code_Point, without
# the format characters, which are unsafe anyway.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# Source: the nine extensions of NVIDIA Dynamo's sibling harvest (pull requests 9610 and 9707), then four it passes.
WEIGHT_SUFFIXES: Final = frozenset(
    {".safetensors", ".bin", ".gguf", ".onnx", ".tflite", ".h5", ".pt", ".pth", ".msgpack"}
    | {".ckpt", ".npz", ".nemo", ".engine"}
)
CODE_SUFFIXES: Final = frozenset(
    {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".pkl", ".pickle", ".joblib", ".dill"}
)


class Kind(StrEnum):
    """What a file is, by its name alone."""

    METADATA = "metadata"
    WEIGHTS = "weights"
    CODE = "code"
    HIDDEN = "hidden"


class Role(StrEnum):
    """The slot a file fills on a card. A role that is not listed here is kept on the card and skipped by readers."""

    MODEL_INFO = "model_info"
    TOKENIZER = "tokenizer"
    TOKENIZER_CONFIG = "tokenizer_config"
    CHAT_TEMPLATE = "chat_template"
    GENERATION_CONFIG = "generation_config"
    EXTRA = "extra"


# Names that may fill each typed slot, the preferred one first.
SLOT_PATTERNS: Final[dict[Role, tuple[str, ...]]] = {
    Role.MODEL_INFO: ("config.json",),
    Role.TOKENIZER: ("tokenizer.json", "tiktoken.model", "*.tiktoken", "tokenizer.model"),
    Role.TOKENIZER_CONFIG: ("tokenizer_config.json",),
    Role.CHAT_TEMPLATE: ("chat_template.jinja", "chat_template.json", "*.jinja", "*.jinja2", "*.j2"),
    Role.GENERATION_CONFIG: ("generation_config.json",),
}


def kind_of(name: str) -> Kind:
    """Return what ``name`` is. The one predicate for weights, code and hidden files in the whole project."""
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return Kind.HIDDEN
    suffix = path.suffix.lower()
    if suffix in WEIGHT_SUFFIXES:
        return Kind.WEIGHTS
    return Kind.CODE if suffix in CODE_SUFFIXES else Kind.METADATA


@lru_cache(maxsize=4096)
def fits_slot(name: str, role: Role) -> bool:
    """Whether a file called ``name`` can fill the typed slot ``role``; any name fits :attr:`Role.EXTRA`."""
    patterns = SLOT_PATTERNS.get(role)
    return patterns is None or ("/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def assign_slots(names: Iterable[str]) -> dict[str, Role]:
    """Return the role of each of ``names``: one name for each typed slot by order of preference, the rest extra.

    Only names at the top level fill slots. Two ``*.tiktoken`` files are ambiguous, and then neither fills the slot.
    """
    names = sorted(names)
    roles = dict.fromkeys(names, Role.EXTRA)
    top = [name for name in names if "/" not in name and kind_of(name) is Kind.METADATA]
    for role, patterns in SLOT_PATTERNS.items():
        wanted = patterns[:2] if role is Role.CHAT_TEMPLATE else patterns
        for pattern in wanted:
            found = [name for name in top if fnmatch.fnmatchcase(name, pattern)]
            if len(found) == 1:
                roles[found[0]] = role
                break
    return roles


@lru_cache(maxsize=4096)  # the workers of a fleet advertise the same names
def name_key(name: str) -> str:
    """Return the key under which two names are the same file on some system, or look so.

    Source: The Unicode Standard, section 3.13.5, D146 (compatibility caseless match), without what nobody sees.
    """
    once = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", _INVISIBLE.sub("", name)).casefold())
    return unicodedata.normalize("NFKC", once.casefold())


@lru_cache(maxsize=4096)
def check_name(name: str) -> None:
    """Raise unless ``name`` is a safe relative path.

    Raises:
        CardError: ``NAME_UNSAFE``, ``NAME_RESERVED`` or ``NAME_TOO_LONG``.
    """
    shown = ascii(name if len(name) <= 80 else name[:77] + "...")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise CardError(Code.NAME_UNSAFE, "holds a lone surrogate", subject=shown) from None
    if not name or name.startswith("/"):
        raise CardError(Code.NAME_UNSAFE, "is empty or absolute", subject=shown)
    parts = name.split("/")
    if len(encoded) > MAX_NAME_BYTES or len(parts) > MAX_PARTS:
        limit = f"{MAX_NAME_BYTES} bytes or {MAX_PARTS} parts"
        raise CardError(Code.NAME_TOO_LONG, f"is longer than {limit}", subject=shown)
    for part in parts:
        _check_part(part, shown)


def _check_part(part: str, shown: str) -> None:
    if part in ("", ".", "..") or part != part.strip() or part.endswith("."):
        why = "has a part that is empty, `.`, `..`, or begins or ends with a space or ends with a dot"
        raise CardError(Code.NAME_UNSAFE, why, subject=shown)
    if len(part.encode()) > MAX_COMPONENT_BYTES:
        raise CardError(Code.NAME_TOO_LONG, f"has a part of more than {MAX_COMPONENT_BYTES} bytes", subject=shown)
    if _UNSAFE_CHARACTERS.search(part) or any(unicodedata.category(c) in _UNSAFE_CATEGORIES for c in part):
        raise CardError(Code.NAME_UNSAFE, "holds a character that is unsafe in a file name", subject=shown)
    # Full-width and other look-alikes of separators and dots must not turn into them when a system normalizes.
    folded = unicodedata.normalize("NFKC", part)
    if "/" in folded or "\\" in folded or not folded.strip(". "):
        raise CardError(Code.NAME_UNSAFE, "normalizes to an unsafe name", subject=shown)
    if _DRIVE.match(part):
        raise CardError(Code.NAME_UNSAFE, "begins like a drive letter", subject=shown)
    if ":" in part:
        raise CardError(Code.NAME_RESERVED, "names an alternate data stream", subject=shown)
    if _RESERVED.match(part) or _RESERVED.match(folded):
        raise CardError(Code.NAME_RESERVED, "is a reserved device name", subject=shown)


def collisions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs that one directory cannot hold: equal under :func:`name_key`, or one a folder of the other."""
    seen: dict[str, str] = {}
    for name in names:
        key = name_key(name)
        if (other := seen.get(key)) is not None:
            yield other, name
        seen[key] = name
    for key, name in seen.items():
        parts = key.split("/")
        for depth in range(1, len(parts)):
            if (other := seen.get("/".join(parts[:depth]))) is not None:
                yield other, name
