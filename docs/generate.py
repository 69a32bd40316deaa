"""Write the documents that are generated from the code; a test fails when one of them is stale.

Run ``python docs/generate.py`` after a change to an error code, a fact, the card's structs, or a test of a bad input.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

DOCS: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "src")]

from docs.bad_inputs import bad_inputs_text  # noqa: E402

from placecard import errors  # noqa: E402
from placecard.card import card_schema_text  # noqa: E402
from placecard.telemetry import Fact  # noqa: E402


def errors_text() -> str:
    """Return ``docs/errors.md``: one paragraph for each code, under the branch that says who acts."""
    lines = [_ERRORS_HEAD]
    branches = dict.fromkeys(meaning.branch for meaning in errors.MEANINGS.values())
    for branch in branches:
        doc = inspect.getdoc(branch) or ""
        lines += ["", f"## {branch.__name__}", "", doc.splitlines()[0]]
        for code, meaning in errors.MEANINGS.items():
            if meaning.branch is branch:
                again = " Asking the same place again can help." if meaning.transient else ""
                lines += ["", f"### {code.value}", "", f"{meaning.what}{again}  ", f"*Mend:* {meaning.mend}"]
    return "\n".join(lines) + "\n"


def facts_text() -> str:
    """Return ``docs/facts.md``: what is stated while work is done, and what is counted and logged of it."""
    lines = [_FACTS_HEAD]
    for kind in sorted(get_args(Fact), key=lambda kind: str(kind.__name__)):
        doc = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("``", "`").replace("\n", " ")
        names = ", ".join(f"`{field.name}`" for field in dataclasses.fields(kind))
        lines += ["", f"## {kind.__name__}", "", doc, "", f"Carries {names}."]
    return "\n".join(lines) + "\n"


_ERRORS_HEAD: Final = """# Error codes

Every error carries one of these codes: in `--json` answers as `code`, in counters as the label, in logs as a field. A
branch says who acts, a code says what happened. Codes are stable. Written by `python docs/generate.py` from
`placecard.errors`."""

_FACTS_HEAD: Final = """# Facts

Code that does the work states facts; observers count them, log them, or draw them. A counter is named after the kind,
and after the code or kind of fallback where there is one; names and addresses are never labels. Written by
`python docs/generate.py` from `placecard.telemetry`."""

GENERATED: Final[dict[str, Callable[[], str]]] = {
    "bad-inputs.md": bad_inputs_text,
    "card.schema.json": card_schema_text,
    "errors.md": errors_text,
    "facts.md": facts_text,
}

if __name__ == "__main__":
    for name, text in GENERATED.items():
        (DOCS / name).write_text(text(), encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")
