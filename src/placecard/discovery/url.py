"""Discovery URLs: which registry, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from placecard.discovery.base import Registry
from placecard.discovery.file import FileRegistry
from placecard.discovery.memory import MemoryHub, MemoryRegistry
from placecard.errors import Code, UsageError
from placecard.telemetry import Observe, ignore

DEFAULT_TTL_S: Final = 10.0


class Scheme(StrEnum):
    """The kinds of registry of this release."""

    FILE = "file"
    MEMORY = "memory"
    DYNAMO_FILE = "dynamo+file"


_LATER: Final = ("etcd", "kubernetes", "dynamo+etcd")


@dataclass(frozen=True)
class DiscoveryUrl:
    """Where a registry is; ``directory`` is absolute, and None exactly for ``memory:``."""

    scheme: Scheme
    directory: Path | None = None

    def __str__(self) -> str:
        return "memory:" if self.directory is None else f"{self.scheme}://{quote(str(self.directory))}"


def parse_discovery(url: str) -> DiscoveryUrl:
    """Return the parts of ``file:///DIR``, ``dynamo+file:///DIR`` or ``memory:``.

    Raises:
        UsageError: It is none of them.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme in _LATER:
        raise _unusable(url, f"{scheme}: is not in this release; use file:///DIR")
    if url == "memory:":
        return DiscoveryUrl(Scheme.MEMORY)
    if colon and scheme in (Scheme.FILE, Scheme.DYNAMO_FILE):
        return DiscoveryUrl(Scheme(scheme), _directory(rest, url))
    raise _unusable(url, "is not file:///DIR, memory: or dynamo+file:///DIR")


def default_discovery_dir(env: Mapping[str, str], tmp: Path, uid: int) -> Path:
    """Return where workers and front ends of one user meet by default.

    Args:
        env: Environment; an absolute ``XDG_RUNTIME_DIR`` is used.
        tmp: The system's directory for temporary files.
        uid: The user's number.
    """
    runtime = env.get("XDG_RUNTIME_DIR", "")
    # Source: XDG Base Directory Specification: a path that is not absolute is to be ignored.
    return Path(runtime) / "placecard" if runtime.startswith("/") else tmp / f"placecard-{uid}"


def open_registry(
    url: DiscoveryUrl, *, observe: Observe = ignore, ttl_s: float = DEFAULT_TTL_S, hub: MemoryHub | None = None
) -> Registry:
    """Return the registry at ``url``, to be entered with ``async with``.

    Args:
        hub: What ``memory:`` registries of this process share; a new one if None.

    Raises:
        UsageError: The registry is Dynamo's, which the ``dynamo`` package opens.
    """
    match url:
        case DiscoveryUrl(Scheme.FILE, Path() as directory):
            return FileRegistry(directory, ttl_s=ttl_s, observe=observe)
        case DiscoveryUrl(Scheme.MEMORY):
            return MemoryRegistry(hub or MemoryHub(ttl_s=ttl_s), observe=observe)
        case _:
            raise _unusable(str(url), "is not a registry of Placecard's own")


def _directory(rest: str, url: str) -> Path:
    if not rest.startswith("///") or "?" in rest or "#" in rest:
        raise _unusable(url, "does not name an absolute directory (three slashes, no query)")
    try:
        path = unquote_to_bytes(rest[2:]).decode()
    except UnicodeError:
        raise _unusable(url, "does not decode to UTF-8") from None
    if ".." in path.split("/") or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise _unusable(url, "holds `..` or a control character")
    directory = Path("/" + path.strip("/"))
    if directory == Path("/"):
        raise _unusable(url, "names the root directory")
    return directory


def _unusable(url: str, why: str) -> UsageError:
    shown = ascii(url if len(url) <= 120 else url[:117] + "...")
    mend = "Pass --discovery file:///DIR, the same on workers and front ends."
    return UsageError(Code.USAGE, why, subject=shown, mend=mend)
