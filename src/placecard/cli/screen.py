"""The live pipeline of a resolve: plan ▸ fetch ▸ harvest ▸ snapshot ▸ load test, drawn from the facts that the work
states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from placecard.cli.notes import Note
from placecard.cli.output import err, out, safe, size_text
from placecard.errors import MEANINGS, PlacecardError, VerificationError
from placecard.telemetry import (
    BytesArrived,
    CandidateFailed,
    Fact,
    FileHeld,
    FileVerified,
    StageEnded,
    StageStarted,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from placecard.resolver import Resolution

STAGES: Final = ("plan", "fetch", "verify", "harvest", "snapshot", "load test")
_MARKS: Final = {"waiting": "[dim]·[/]", "running": "[cyan]▸[/]", "done": "[green]✓[/]", "failed": "[red]✗[/]"}
_COLOURS: Final = {"READY": "green", "DEGRADED": "yellow", "REFUSED": "red"}


@dataclass
class _Stage:
    state: str = "waiting"
    seconds: float = 0.0


@dataclass
class Pipeline:
    """What the screen knows; an observer that can be rendered at any moment."""

    model: str
    stages: dict[str, _Stage] = field(default_factory=lambda: {name: _Stage() for name in STAGES})
    expected_bytes: int = 0
    arrived_bytes: int = 0
    held: int = 0
    verified: Counter[str] = field(default_factory=Counter)
    failures: Counter[bool] = field(default_factory=Counter)

    def __call__(self, fact: Fact) -> None:
        """Take in one fact."""
        match fact:
            case StageStarted(stage=stage, total=total):
                self._set(stage, _Stage("running"))
                self.expected_bytes = self.expected_bytes or total
            case StageEnded(stage=stage, seconds=seconds, ok=ok):
                self._set(stage, _Stage("done" if ok else "failed", seconds))
            case BytesArrived(count=count):
                self.arrived_bytes += count
            case FileHeld():
                self.held += 1
            case FileVerified(origin=origin):
                self.verified[origin.lower().replace("_", " ")] += 1
            case CandidateFailed(code=code):
                self.failures[MEANINGS[code].branch is VerificationError] += 1
            case _:
                pass

    def note(self, stage: str) -> str:
        """Say in a few words what came of ``stage``."""
        if self.stages[stage].state == "waiting":
            return ""
        if stage == "plan":
            return f"{size_text(self.expected_bytes)} advertised" if self.expected_bytes else ""
        if stage == "fetch":
            parts = [f"{size_text(self.arrived_bytes)} arrived"] if self.arrived_bytes else []
            parts += [f"{count} from {origin}" for origin, count in sorted(self.verified.items())]
            parts += [f"{self.held} held already"] if self.held else []
            parts += [f"{self.failures[False]} tries failed"] if self.failures[False] else []
            return " · ".join(parts)
        if stage == "verify":
            wrong = f" · {self.failures[True]} answers with wrong bytes" if self.failures[True] else ""
            return f"{self.verified.total() + self.held} files as advertised{wrong}"
        return ""

    def _set(self, stage: str, value: _Stage) -> None:
        self.stages[stage] = value
        if stage == "fetch":  # bytes are hashed as they arrive
            self.stages["verify"] = _Stage(value.state)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for name, stage in self.stages.items():
            seconds = f"{stage.seconds:6.2f} s" if stage.seconds else " " * 8
            yield f"  {_MARKS[stage.state]} {name:<10} [dim]{seconds}[/]  {self.note(name)}"


@contextmanager
def live(pipeline: Pipeline) -> Iterator[None]:
    """Show ``pipeline`` while the work runs: redrawn on a terminal, printed once at the end when piped."""
    console = err()
    console.print("[bold]resolve[/] ", safe(pipeline.model), sep="")
    if not console.is_terminal:
        try:
            yield
        finally:
            console.print(pipeline)
        return
    from rich.live import Live

    with Live(pipeline, console=console, refresh_per_second=12):
        yield


def print_resolution(outcome: Resolution, notes: Sequence[Note] = ()) -> None:
    """Print what came of a resolve: the verdict and its reasons on standard error, the directory on standard output."""
    console, state = err(), outcome.state.value
    colour = _COLOURS[state]
    counts = Counter(entry.proof.value.lower() for entry in outcome.entries)
    proofs = ", ".join(f"{count} {proof}" for proof, count in sorted(counts.items()))
    summary = f"  {len(outcome.entries)} files: {proofs}" if outcome.entries else ""
    console.print(f"  [bold {colour}]{state}[/]{summary}")
    opened = f"load test {outcome.load_test}" + (f": {', '.join(outcome.served)}" if outcome.served else "")
    console.print(f"  [dim]{opened.replace('_', ' ')}[/]")
    alike: dict[tuple[str, str], list[PlacecardError]] = {}
    for error in outcome.errors:
        alike.setdefault((error.code.value, error.mend), []).append(error)
    for (code, mend), errors in alike.items():
        what = ", ".join(error.subject for error in errors if error.subject)
        more = f" (and {len(errors) - 1} alike)" if len(errors) > 1 else ""
        _block("red", code, what, errors[0].detail + more, mend)
    for fact in outcome.degraded:
        what = " lacks ".join(part for part in (fact.consumer, fact.missing) if part)
        _block("yellow", fact.code.value, what, fact.detail, fact.mend)
    for text in (*(fact.detail for fact in outcome.notices), *(note.cause for note in notes)):
        console.print("  [yellow]note[/]  ", safe(text), sep="")
    if outcome.left_out:
        reasons: dict[str, list[str]] = {}
        for each in outcome.left_out:
            reasons.setdefault(each.reason, []).append(each.name)
        for reason, names in sorted(reasons.items()):
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            console.print("  [dim]left out[/]  ", safe(f"{shown} ({reason})"), sep="")
    if outcome.directory is not None:
        out().print(safe(str(outcome.directory)))
    elif outcome.stable_path is not None:
        console.print("  [dim]still there[/]  ", safe(f"the last good directory: {outcome.stable_path}"), sep="")


def _block(colour: str, code: str, what: str, why: str, mend: str) -> None:
    console: Any = err()
    console.print(f"  [{colour}]{code}[/]  ", safe(what), sep="")
    console.print("    [dim]why[/]   ", safe(why), sep="")
    console.print("    [dim]mend[/]  ", safe(mend), sep="")
