"""The documents say what the code does, and the text of the repository speaks of the project alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from docs.generate import GENERATED

from placecard import __version__
from placecard.cli.main import build_app
from placecard.errors import MEANINGS, Code, PlacecardError
from placecard.telemetry import Fact

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def texts() -> Iterator[tuple[str, str]]:
    """Yield the path and text of each file that is written by hand."""
    folders = ("src", "tests", "docs", "demo", "bench")
    paths = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]
    paths += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    written = (".py", ".md", ".toml", ".sh", ".json", ".in", ".lock", ".yml", "")
    for path in paths:
        if path.suffix in written and path != Path(__file__):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8", errors="replace")


def words(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(GENERATED) - {"bad-inputs.md"}))
def test_a_generated_document_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == GENERATED[name](), "run: python docs/generate.py"


@pytest.mark.parametrize("code", Code)
def test_each_code_has_a_meaning_a_mend_and_a_paragraph(code: Code) -> None:
    meaning = MEANINGS[code]
    assert issubclass(meaning.branch, PlacecardError)
    assert meaning.what.endswith(".")
    assert len(meaning.mend) > 10
    assert meaning.mend.endswith(".")
    assert f"\n### {code.value}\n" in words("docs/errors.md")


@pytest.mark.parametrize("kind", get_args(Fact))
def test_each_fact_has_a_paragraph(kind: type) -> None:
    assert f"\n## {kind.__name__}\n" in words("docs/facts.md")


def test_each_flag_that_a_mend_names_exists() -> None:
    cli = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src/placecard/cli").glob("*.py")))
    named = {flag for meaning in MEANINGS.values() for flag in re.findall(r"--([a-z][a-z-]+)", meaning.mend)}
    spelled = {flag: flag.removeprefix("no-").replace("-", "_") for flag in named - {"help"}}
    assert {flag for flag, name in spelled.items() if not re.search(rf"\b{name}\b", cli)} == set()


FOREIGN = {
    "a machine's own path": re.compile(r"/Users/\w|/root/\.\w|/home/(?!me\b|u\b)\w"),
    "a package index": re.compile(r"(?i)--(?:extra-)?index-url|--trusted-host|\bPIP_INDEX_URL\s*="),
    "a note to oneself": re.compile(r"\b(?:TODO|FIXME|HACK)\b:?\s"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_the_text_speaks_of_the_project_alone(what: str) -> None:
    found = [f"{path}: {hit[0]}" for path, text in texts() for hit in FOREIGN[what].finditer(text)]
    assert found == []


def test_pages_describe_the_present() -> None:
    future = re.compile(r"(?i)\b(?:will be added|coming soon|is planned|in a future release|not yet implemented)\b")
    assert [f"{page.name}: {hit[0]}" for page in PAGES for hit in future.finditer(page.read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: str(page.name))
def test_a_decision_says_what_why_and_at_what_cost(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(rf"^# {page.name[:4]} \w", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Decision", "Reasons", "Cost"]
    assert len(text.splitlines()) < 60


def test_the_glossary_is_in_order_and_gives_the_source_of_each_term() -> None:
    entry = re.compile(r"^- \*\*(.+?)\*\*: (.+?)\n(?=- |\n|\Z)", re.MULTILINE | re.DOTALL)
    entries = entry.findall(words("GLOSSARY.md") + "\n")
    names = [name for name, _ in entries]
    assert len(names) > 30
    assert names == sorted(names, key=str.casefold)
    assert [name for name, text in entries if not re.search(r"\*\(.+\)\*$", text)] == []


TERMS = [
    "card", "slot", "role", "consumer", "content digest", "serving digest", "blob", "seal", "snapshot", "generation",
    "manifest", "origin", "harvest", "sibling", "ladder", "lease", "admission", "degraded", "ADVERTISED", "COMMIT",
    "OBSERVED", "source", "candidate", "registry", "record", "needs", "overlay", "stable path",
]  # fmt: skip


@pytest.mark.parametrize("term", TERMS)
def test_the_glossary_explains(term: str) -> None:
    assert f"- **{term}**: " in words("GLOSSARY.md")


def test_the_changelog_has_this_release() -> None:
    assert re.search(rf"^## \[?{re.escape(__version__)}\]?", words("CHANGELOG.md"), re.MULTILINE)


def test_the_read_me_opens_with_one_sentence_and_says_what_it_does_not() -> None:
    text = words("README.md")
    opening = text.split("\n\n")[1]
    assert opening.endswith(".")
    assert opening.count(". ") == 0
    assert re.search(r"(?i)\bit does\b", text)
    assert re.search(r"(?i)\bit does not\b", text)


def commands() -> Iterator[str]:
    """Yield each command of the command line as it is typed."""
    app = build_app()
    for name in (each for each in app if not each.startswith("-")):
        below = [each for each in app[name] if not each.startswith("-")]
        yield from (f"{name} {each}" for each in below) if below else [name]


def test_each_command_is_in_the_table_of_commands() -> None:
    rows = [line for line in words("README.md").splitlines() if line.startswith("| `placecard")]
    for command in commands():
        noun, _, verb = command.partition(" ")
        row = next(row for row in rows if re.match(rf"\| `placecard {noun}\b", row))
        assert not verb or f"`{verb}`" in row or f"`placecard {noun} {verb}`" in row, command


def test_each_variable_of_our_own_is_documented() -> None:
    named = set(re.findall(r"PLACECARD_[A-Z_]*[A-Z]", words("src/placecard/config.py")))
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {name for name in named if name not in pages} == set()
