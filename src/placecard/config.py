"""The only reader of the environment. Every flag has a variable of its own, which the command line reads by itself;
what is left are the places that a platform names by convention."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from placecard.discovery import default_discovery_dir
from placecard.source import default_hub_cache


@dataclass(frozen=True)
class Environment:
    """Where things are on this host unless a flag says otherwise.

    Args:
        cache_dir: The store.
        discovery: URL of the registry.
        hub_cache: The cache of the hub's own client, which is read and never written.
        hub_offline: Whether the hub's client is told to stay offline.
        debug: Whether a defect of ours shows its traceback.
    """

    cache_dir: Path
    discovery: str
    hub_cache: Path
    hub_offline: bool
    debug: bool


def environment(env: Mapping[str, str] = os.environ) -> Environment:
    """Read the conventional variables: ``XDG_CACHE_HOME``, ``XDG_RUNTIME_DIR``, and the hub client's own."""
    home = Path(env.get("HOME") or tempfile.gettempdir())
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    directory = default_discovery_dir(env, Path(tempfile.gettempdir()), os.getuid())
    return Environment(
        cache_dir=cache / "placecard",
        discovery=directory.as_uri(),
        hub_cache=default_hub_cache(env, home),
        hub_offline=_true(env, "HF_HUB_OFFLINE") or _true(env, "TRANSFORMERS_OFFLINE"),
        debug=_true(env, "PLACECARD_DEBUG"),
    )


def _true(env: Mapping[str, str], key: str) -> bool:
    return env.get(key, "").strip().lower() in ("1", "true", "yes", "on")
