"""Which names of a directory in the making are spoken for, and whether a sibling still fits in beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from placecard.card import Kind, check_name, kind_of, name_key
from placecard.errors import MEANINGS, CardError, Code
from placecard.source import Reason
from placecard.telemetry import Degraded

_ADVERTISED: Final = "advertised"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def skip_reason(name: str, *, taken: Mapping[str, str], folders: Mapping[str, str] = _NONE) -> str | None:
    """Say why a sibling stays out of the directory; None means it comes along.

    Args:
        name: Relative name in its directory.
        taken: :func:`~placecard.card.name_key` of every name that is spoken for, to the reason.
        folders: Key of every folder that such a name is in, to the reason.
    """
    key = name_key(name)
    for part in (*_folders(key), key):
        if reason := taken.get(part):
            return reason
    if reason := folders.get(key):
        return reason
    if (kind := kind_of(name)) is not Kind.METADATA:
        return kind.value
    try:
        check_name(name)
    except CardError:
        return Reason.NAME_UNSAFE.value
    return None


class SpokenFor:
    """The names of one directory: those of the card, which are never replaced, and siblings, first come first served.

    Args:
        keys: :func:`~placecard.card.name_key` of every name that the card or an overlay has.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._advertised = frozenset(keys)
        self._siblings: dict[str, str] = {}
        self._taken = dict.fromkeys(self._advertised, _ADVERTISED)
        self._folders = {folder: "a folder of advertised files" for key in self._advertised for folder in _folders(key)}

    def __len__(self) -> int:
        return len(self._advertised)

    def advertised(self, name: str) -> bool:
        """Whether the card or an overlay has the file: then nothing is lost by passing over a sibling."""
        return name_key(name) in self._advertised

    def held(self, name: str) -> bool:
        """Whether a sibling of that very name was taken before."""
        return self._siblings.get(name_key(name)) == name

    def why_not(self, name: str) -> str | None:
        """Say why a sibling that is neither advertised nor held stays out; None means it fits."""
        reason = skip_reason(name, taken=self._taken, folders=self._folders)
        return "collides with an advertised file" if reason == _ADVERTISED else reason

    def take(self, name: str) -> None:
        """Note that the sibling was taken."""
        key = name_key(name)
        self._siblings[key] = name
        self._taken[key] = f"collides with {name}"
        for folder in _folders(key):
            self._folders.setdefault(folder, f"collides with {name}")


def loss(name: str, reason: str) -> Degraded | None:
    """Return what is lost when the sibling ``name`` stays out for ``reason``, one of :meth:`SpokenFor.why_not` or of a
    walk; None for what no front end wants: weights, code, hidden files, and folders seen before."""
    if kind_of(name) is not Kind.METADATA or reason in (Kind.METADATA, Reason.HIDDEN, Reason.CYCLE):
        return None
    if reason in _MENDS:
        return Degraded(Code.SIBLING_UNREADABLE, "", name, f"the sibling {name} was left out: {reason}", _MENDS[reason])
    mend = MEANINGS[Code.NAME_COLLISION].mend
    return Degraded(Code.NAME_COLLISION, "", name, f"the sibling {name} was left out: {reason}", mend)


def _folders(key: str) -> Iterable[str]:
    parts = key.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


_REPLACE: Final = "Replace it by the file itself, or let the worker self-host."
_RENAME: Final = MEANINGS[Code.NAME_UNSAFE].mend
_MENDS: Final[Mapping[str, str]] = {
    Reason.UNREADABLE: MEANINGS[Code.SIBLING_UNREADABLE].mend,
    Reason.DANGLING: "Remove the link or restore what it leads to, or let the worker self-host.",
    Reason.ESCAPES: _REPLACE,
    Reason.NOT_REGULAR: _REPLACE,
    Reason.DEVICE: _REPLACE,
    Reason.NAME_UNSAFE: _RENAME,
    Reason.NAME_NOT_UTF8: _RENAME,
    Reason.TOO_DEEP: "Move the file nearer to the model directory.",
}
