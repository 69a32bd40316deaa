"""What came of opening a directory: a report for each consumer, and the limits under which it was opened."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Final

from placecard.errors import Code

PROTOCOL: Final = 2
_DISTRIBUTIONS: Final = ("transformers", "tokenizers", "jinja2", "pillow", "protobuf", "sentencepiece", "tiktoken")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one load test.

    Args:
        seconds: Wall time for all consumers together; the child is killed then.
        memory_bytes: Address space beyond what the parent process has already.
        open_files: File descriptors.
        template_seconds: Wall time for rendering the chat template.
        children: Load tests that run at once; more wait.
    """

    seconds: float = 60.0
    memory_bytes: int = 2 << 30
    open_files: int = 256
    template_seconds: float = 5.0
    children: int = 2


@dataclass(frozen=True, kw_only=True)
class ConsumerReport:
    """How one consumer fared.

    Args:
        consumer: A :class:`~placecard.admission.consumers.Consumer`.
        ok: It opened the directory and worked.
        skipped: There was nothing for it to open, or it is not installed; ``detail`` says which.
        code: Kind of failure; None when ok or skipped for want of files.
        detail: What was seen, in one sentence.
        files_read: Names it opened; empty unless traced.
    """

    consumer: str
    ok: bool
    skipped: bool = False
    code: Code | None = None
    detail: str = ""
    files_read: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """How all consumers fared.

    Args:
        consumers: One report each, in the order they were run.
        versions: Distribution name to version, of what was loaded with.
        seconds: Wall time.
        unavailable: Why some consumers could not be run at all; empty when all could.
        isolation: What held the child in: ``network namespace``, ``landlock``, ``rlimits`` …
        not_isolated: What could not be had, with the cause; a stated fallback.
        tracing: How opens were seen: ``inotify and audit hook``, ``audit hook and known names``; empty unless traced.
    """

    consumers: tuple[ConsumerReport, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    unavailable: str = ""
    isolation: tuple[str, ...] = ()
    not_isolated: tuple[str, ...] = ()
    tracing: str = ""

    def of(self, consumer: str) -> ConsumerReport | None:
        """Return the report of ``consumer``."""
        return next((report for report in self.consumers if report.consumer == consumer), None)

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """File name to the consumers that opened it, as cards record it."""
        found: dict[str, list[str]] = {}
        for report in self.consumers:
            for name in report.files_read:
                found.setdefault(name, []).append(report.consumer)
        return {name: tuple(consumers) for name, consumers in sorted(found.items())}


def versions() -> dict[str, str]:
    """Return the versions of the installed consumers, without importing them."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def versions_key() -> str:
    """Return a short text that changes whenever a cached verdict must be thrown away."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    return ",".join(
        [f"load={PROTOCOL}", f"python={python}", *(f"{name}={version}" for name, version in sorted(versions().items()))]
    )
