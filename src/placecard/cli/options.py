"""Flags that several commands share. Each dataclass is one group of ``--help``; each field is one flag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter, Token

_STORE = Group("Store", sort_key=2)
_BOUNDS = Group("Bounds", sort_key=4)
_TRUST = Group("Trust", sort_key=3)
Repeat = Parameter(negative=())


@Parameter(name="*", group=_STORE)
@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Where proven files live."""

    cache_dir: Path | None = None
    "The store; by default $XDG_CACHE_HOME/placecard or ~/.cache/placecard."
    lower_dir: Annotated[tuple[Path, ...], Repeat] = ()
    "A read-only store below it, baked into an image or mounted; repeatable."
    quota_bytes: int | None = None
    "Bytes the store may hold."


@Parameter(name="*", group=_TRUST)
@dataclass(frozen=True, kw_only=True)
class TrustOptions:
    """What may be read and asked; nothing on a card can widen it."""

    model_path: Path | None = None
    "A directory of this host that holds the model; tried after the worker's own path."
    file_root: Annotated[tuple[Path, ...], Repeat] = ()
    "A directory beneath which file:// sources may be read; repeatable. The hub cache and --model-path always may."
    worker_range: Annotated[tuple[str, ...], Repeat] = ()
    "A network (CIDR) whose workers may be asked; repeatable. By default loopback and private networks."
    worker_origin: Annotated[tuple[str, ...], Repeat] = ()
    "http(s)://HOST:PORT that may be asked, and shown the token, though no worker registered it; repeatable."
    worker_token_file: Path | None = None
    "A file with the bearer token of the workers' metadata servers."
    offline: Annotated[bool, Parameter(negative=())] = False
    "Ask no hub. Workers and this host's files are still asked."
    strict: Annotated[bool, Parameter(negative=())] = False
    "Refuse what would be DEGRADED, and files that neither card nor commit prove."
    overlay: Annotated[tuple[str, ...], Repeat] = ()
    "NAME=PATH: the operator's own file in place of one of the model's; repeatable."
    allow_code: Annotated[tuple[str, ...], Repeat] = ()
    "The digest of a code file that may enter the directory; repeatable. No code is ever run."


@Parameter(name="*", group=_BOUNDS)
@dataclass(frozen=True, kw_only=True)
class BoundOptions:
    """How much one resolve may take."""

    max_file_bytes: int = 1 << 30
    "Bytes of one file."
    max_card_bytes: int = 256 << 20
    "Bytes of all advertised files."
    harvest_files: int = 512
    "Siblings taken from directories."
    harvest_bytes: int = 256 << 20
    "Their bytes."
    fetch_timeout: float = 300.0
    "Seconds for one file from one worker."
    load_test: bool = True
    "Open the directory with its consumers before it is listed."
    load_timeout: float = 60.0
    "Seconds the load test may take."


def path_or_stdin(type_: type[Path], tokens: Sequence[Token]) -> Path:
    """Return the path that stands by position; ``-`` is standard input, and no other hyphen begins one."""
    text = tokens[0].value
    if text.startswith("-") and text != "-":
        raise ValueError(f"Unknown option: {text}")
    return Path(text)


DiscoveryUrl = Annotated[str | None, Parameter(name="--discovery")]
JsonFlag = Annotated[bool, Parameter(name="--json", negative=())]
