"""From flags to working parts: the one place where sources, store, loader and resolver are put together."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from placecard.admission import Limits, Loader
from placecard.card import HttpUri, check_digest, parse_uri
from placecard.cli.options import BoundOptions, StoreOptions, TrustOptions
from placecard.config import environment
from placecard.errors import CardError, Code, UsageError
from placecard.resolver import Admitter, Budget, Overlay, Resolver, ResolveSettings, Sources
from placecard.source import DEFAULT_RANGES, HttpSource, HubSource, LocalSource, Network
from placecard.store import Store
from placecard.telemetry import Observe


def open_store(options: StoreOptions | None, observe: Observe) -> Store:
    """Return the store that the flags name.

    Raises:
        StoreError: It cannot be used.
    """
    options = options or StoreOptions()
    root = options.cache_dir or environment().cache_dir
    return Store.open(root, lower=options.lower_dir, quota_bytes=options.quota_bytes, observe=observe)


@dataclass(frozen=True)
class Wishes:
    """What the flags say, read and checked before anything is opened."""

    settings: ResolveSettings
    roots: tuple[Path, ...]
    ranges: tuple[Network, ...]
    origins: tuple[str, ...]
    token: str | None
    bounds: BoundOptions


def wishes_of(trust: TrustOptions, bounds: BoundOptions) -> Wishes:
    """Return the flags of a resolve as settings.

    Raises:
        UsageError: A flag does not say what it should.
    """
    settings = settings_of(trust, bounds)
    roots = (environment().hub_cache, *map(_absolute, trust.file_root))
    return Wishes(
        settings=settings,
        roots=(*roots, settings.model_path) if settings.model_path else roots,
        ranges=ranges_of(trust.worker_range),
        origins=tuple(map(_origin, trust.worker_origin)),
        token=read_token(trust.worker_token_file),
        bounds=bounds,
    )


@asynccontextmanager
async def open_resolver(
    store: Store, wishes: Wishes, observe: Observe, *, origins: Collection[str], token_origins: Collection[str]
) -> AsyncIterator[Resolver]:
    """Yield a resolver with its sources and load test.

    Args:
        origins: ``scheme://host:port`` of the workers that may be asked, beside those of ``--worker-origin``.
        token_origins: Those of them that may be shown the workers' token.
    """
    settings, bounds = wishes.settings, wishes.bounds
    hub = HubSource(
        offline=settings.offline,
        cache_dir=environment().hub_cache,
        deadline_s=bounds.fetch_timeout,
        max_file_bytes=bounds.max_file_bytes,
        observe=observe,
    )
    http = HttpSource(
        ranges=wishes.ranges,
        token=wishes.token,
        allowed_origins={*origins, *wishes.origins},
        token_origins={*token_origins, *wishes.origins},
        total_timeout_s=bounds.fetch_timeout,
    )
    async with http, Loader(Limits(seconds=bounds.load_timeout)) as loader:
        sources = Sources(LocalSource(wishes.roots), http, hub)
        admitter = Admitter(store, loader if bounds.load_test else None, strict=settings.strict)
        async with Resolver(store, sources, settings, admit=admitter, observe=observe) as resolver:
            yield resolver


def settings_of(trust: TrustOptions, bounds: BoundOptions) -> ResolveSettings:
    """Return the resolver's settings.

    Raises:
        UsageError: An overlay or digest is malformed.
    """
    budget = Budget(
        max_file_bytes=bounds.max_file_bytes,
        max_card_bytes=bounds.max_card_bytes,
        harvest_files=bounds.harvest_files,
        harvest_bytes=bounds.harvest_bytes,
    )
    for digest in trust.allow_code:
        try:
            check_digest(digest, subject="--allow-code")
        except CardError as error:
            raise UsageError(Code.USAGE, str(error)) from error
    return ResolveSettings(
        model_path=_absolute(trust.model_path) if trust.model_path else None,
        offline=trust.offline or environment().hub_offline,
        strict=trust.strict,
        overlays=tuple(map(_overlay, trust.overlay)),
        allowed_code=frozenset(trust.allow_code),
        budget=budget,
    )


def ranges_of(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks whose workers may be asked.

    Raises:
        UsageError: One of ``texts`` is no CIDR network.
    """
    try:
        return tuple(ipaddress.ip_network(text) for text in texts) or DEFAULT_RANGES
    except ValueError as error:
        raise UsageError(Code.USAGE, f"--worker-range: {error}") from error


def read_token(path: Path | None) -> str | None:
    """Return the bearer token in ``path``, without the line end.

    Raises:
        UsageError: The file cannot be read, or holds no usable token.
    """
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(Code.USAGE, f"the token file {path} cannot be read: {error}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(Code.USAGE, f"the token file {path} must hold one printable word")
    return token


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - `..` goes, links stay: they are followed when it is opened


def _origin(text: str) -> str:
    try:
        uri = parse_uri(f"{text.rstrip('/')}/v1")
    except CardError as error:
        raise UsageError(Code.USAGE, f"--worker-origin {text}: {error.detail}") from error
    if not isinstance(uri, HttpUri):
        raise UsageError(Code.USAGE, f"--worker-origin {text} is not http(s)://HOST[:PORT]")
    return uri.origin


def _overlay(text: str) -> Overlay:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError(Code.USAGE, f"--overlay {text!r} is not NAME=PATH")
    return Overlay(name, Path(path))
