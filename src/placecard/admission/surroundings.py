"""What the other processes of a load test are given of this one: a fixed environment, and where modules are found."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

# One thread for each library: the nursery must have a single thread to fork from, and a child needs no more.
ENVIRONMENT: Final[dict[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "RUST_BACKTRACE": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "USE_TORCH": "0",
    "USE_TF": "0",
    "USE_JAX": "0",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    # Empty: no cache. It would be a file in a temporary directory, which a child cannot write, and named by path alone.
    "TIKTOKEN_CACHE_DIR": "",
}
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def own_search_path() -> tuple[str, ...]:
    """Return where this process finds its modules, without the directory that it happens to work in.

    ``python -m`` and ``python -c`` put the current directory first, and it may be a model's. It stays only where it is
    a folder of installed packages, or the one that this package itself was imported from.
    """
    here = ""
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile: then it cannot be on the path either
        here = os.path.realpath(os.curdir)
    own = {str(Path(__file__).resolve().parents[2])}
    entries = [entry for entry in sys.path if entry and Path(entry).is_absolute()]
    return tuple(
        entry
        for entry in entries
        if (real := os.path.realpath(entry)) != here or real in own or Path(real).name in _INSTALLED
    )
