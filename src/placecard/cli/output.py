"""How the commands speak: JSON on request, colour on a terminal, plain lines when piped."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from placecard.errors import PlacecardError

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 250  # tables are not cut where nobody looks at a screen


@cache
def out() -> Console:
    """Return the console of standard output: answers."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


@cache
def err() -> Console:
    """Return the console of standard error: progress and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(jsonlib.dumps(value, indent=2, ensure_ascii=not _speaks_unicode()) + "\n")


def print_json_line(value: Any) -> None:
    """Print one JSON object on one line, and flush: a reader waits for it."""
    sys.stdout.write(jsonlib.dumps(value, ensure_ascii=not _speaks_unicode()) + "\n")
    sys.stdout.flush()


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def print_errors(errors: Sequence[PlacecardError], *, json: bool) -> None:
    """Print what went wrong, each with its code and mend."""
    if json:
        print_json({"errors": [error.as_json() for error in errors]})
    for error in errors:
        err().print(f"[bold red]{error.code.value}[/]  ", safe(str(error)), sep="")
        err().print("  [dim]mend[/]  ", safe(error.mend), sep="")


def safe(text: str, style: str = "") -> Any:
    """Return untrusted text for a console: no markup is read in it, control characters are shown, not sent."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), style=style)


def size_text(count: int) -> str:
    """Return a number of bytes for people: ``711.2 KiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable: GiB is the last unit")
