"""The table of bad inputs: what must never end in a traceback, a hang, or a changed directory; and who tests it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"test_row(\d\d)_\w+")


@dataclass(frozen=True)
class Row:
    """One kind of bad input, and what it must end in."""

    number: int
    section: str
    bad: str
    ends: str


def _rows(section: str, first: int, *pairs: tuple[str, str]) -> Iterator[Row]:
    for number, (bad, ends) in enumerate(pairs, start=first):
        yield Row(number, section, bad, ends)


ROWS: Final = (
    *_rows(
        "The card", 1,
        ("Empty, byte order mark, UTF-16, broken UTF-8, cut at any byte", "`CARD_MALFORMED` with the byte"),
        ("A key that stands twice in one object", "`CARD_DUPLICATE_KEY`"),
        ("NaN, infinity, 1e400, -0, thousands of digits, `true` for a size", "`CARD_BAD_NUMBER`"),
        ("Nesting of thousands of levels", "`CARD_TOO_DEEP` before parsing"),
        ("More than 1 MiB, a million files, a name of a million letters", "`CARD_TOO_LARGE`, `NAME_TOO_LONG`"),
        ("Lone surrogates, NUL, control and direction-changing characters", "`CARD_BAD_STRING`"),
        ("Unknown keys and roles; a newer schema number", "kept and ignored; `CARD_VERSION_UNSUPPORTED`"),
        ("No configuration file", "`CARD_INCOMPLETE`"),
        ("A value of the wrong type; a slot with the file of another", "`CARD_SCHEMA`, `SLOT_TYPE_MISMATCH`"),
        ("One name twice, with the same or another content", "accepted once; `CARD_NAME_CONFLICT`"),
        ("The same card with other key order and white space", "the same digests"),
        ("Letters moved between fields; one digest in another slot", "different digests"),
        ("A length that is zero, negative, huge or no integer", "`CARD_RANGE`"),
        ("No worker type; keys that state needs", "a cohort of its own; kept and ignored"),
        ("A card that carries a fetch policy", "ignored; `CARD_POLICY_IGNORED`"),
    ),
    *_rows(
        "Digests and sizes", 16,
        ("A digest that is absent, short, long, upper case, a path, of another algorithm", "`DIGEST_SYNTAX`"),
        ("The right size and the wrong content", "`DIGEST_MISMATCH`, next source"),
        ("The empty file in a typed slot", "`SLOT_EMPTY`; extra files may be empty"),
        ("A size absent, negative, 2^64, or not that of the body", "`CARD_RANGE`, `SIZE_EXCEEDED`, `SIZE_MISMATCH`"),
        ("A size at the cap of one file, and one byte over", "accepted; `SIZE_CAP` before connecting"),
        ("One file too many; sizes over the total budget", "`CARD_TOO_LARGE`"),
    ),
    *_rows(
        "Source URIs", 22,
        ("Other schemes, upper case, relative, leading space, embedded line feed", "`URI_FORBIDDEN`"),
        ("User info, query, fragment, ports out of range, odd hosts, backslash", "`URI_FORBIDDEN`"),
        ("`file://` with a host; devices, pipes, `/proc`", "`URI_FORBIDDEN`, `PATH_FORBIDDEN`, `NOT_REGULAR`"),
        ("Climbing paths, encoded once and twice; a link swapped meanwhile", "`PATH_ESCAPE`"),
        ("Hub URIs without a file, with a moving or empty revision", "`URI_FORBIDDEN`, `REVISION_NOT_PINNED`"),
        ("`http://` to loopback, link-local, metadata services", "`DESTINATION_FORBIDDEN`, no connection"),
    ),
    *_rows(
        "File names", 28,
        ("Climbing, absolute, drive letters, backslash, NUL, trailing dot or space", "`NAME_UNSAFE`"),
        ("Device names and alternate data streams", "`NAME_RESERVED` on every system"),
        ("A part over 255 bytes, a path over 1,024", "`NAME_TOO_LONG`"),
        ("Names equal after folding; look-alikes; invisible characters", "`NAME_COLLISION`, `NAME_UNSAFE`"),
        ("Hidden files, editor and lock files", "left out and listed"),
        ("Weights in any case, index files, code, pickles", "left out and listed; `*.index.json` comes along"),
        ("A sibling that is a link outwards, to itself, dangling, to a device", "left out with the reason"),
        ("Too many siblings; a directory that changes meanwhile", "`HARVEST_TRUNCATED`"),
    ),
    *_rows(
        "HTTP sources", 36,
        ("Closed before the last byte", "`TRUNCATED`, retried"),
        ("More bytes than announced", "ignored by framing; the digest decides"),
        ("No length, chunked, endless", "`SIZE_EXCEEDED` at the first byte too many"),
        ("One byte a second; stalls at any point", "`SLOW_SOURCE`, retried"),
        ("A content length that is negative, double, signed, hexadecimal", "`PROTOCOL_ERROR`"),
        ("A compressed body", "`ENCODING_FORBIDDEN`"),
        ("Redirects of every kind", "`REDIRECT_FORBIDDEN`"),
        ("Status 200 with an error page, a portal, a pointer file, nothing", "`DIGEST_MISMATCH`, `SIZE_MISMATCH`"),
        ("206, 416 and other answers to what was not asked", "`PROTOCOL_ERROR`"),
        ("An ETag that changes, climbs, or is huge", "never used as identity or path"),
        ("A hundred thousand headers, huge headers, bad chunks", "`PROTOCOL_ERROR`, bounded memory"),
        ("TLS: expired, wrong name, self-signed, old version", "`TLS_ERROR`, no fall back"),
        ("DNS: no answer, slow answer, private among public addresses", "`CONNECT_FAILED`, `DESTINATION_FORBIDDEN`"),
    ),
    *_rows(
        "The store", 49,
        ("No space at any step; quota", "`STORE_FULL`, `STORE_QUOTA`; the old generation serves"),
        ("Read-only, not permitted, not the owner, writable by all", "`STORE_READ_ONLY`, `STORE_DENIED`"),
        ("A blob truncated, flipped, emptied, replaced by something else", "set aside and fetched anew"),
        ("Threads and processes at the same blob and directory", "one result, no error"),
        ("`kill -9` at every system call", "heals at the next start"),
        ("Power lost after any operation", "heals; no torn blob accepted"),
        ("Stale locks, locks that lie, locks that are not supported", "progress; correctness unchanged"),
        ("The store's path is a link, or a loop of links", "resolved once; `STORE_LOOP`"),
        ("A file system without links, or that folds case", "copies instead; stated as a fact"),
        ("The clock in 1970, in 2100, jumping", "no decision rests on it"),
        ("Collection while a reader opens or a writer links", "what is in use stays"),
        ("A reader holds a generation while newer ones appear", "readable until released"),
        ("Left-overs, unknown files, a newer layout", "cleaned if ours and old; left alone; `STORE_NEWER`"),
        ("Two releases, two users, a restart with the same process id", "layout version and random owner token"),
        ("A temporary directory on another device", "temporary files are always inside the store"),
    ),
    *_rows(
        "The hub", 64,
        ("Offline, no DNS, proxies, a mirror", "local copies serve; else `HUB_OFFLINE`"),
        ("401, 403, 404, 410, 451", "`HUB_AUTH`, `HUB_GATED`, `HUB_NOT_FOUND`, `HUB_REVISION_GONE`"),
        ("429 with any Retry-After; 5xx for long", "`HUB_RATE_LIMITED`, `HUB_ERROR`; bounded"),
        ("A revision that moved, a repository renamed or made anew", "digests decide"),
        ("A poisoned, half-written or outward-pointing local cache", "hashed while copied; falls through"),
        ("A pointer file, a file over the cap under an allowed name", "`DIGEST_MISMATCH`, `SIZE_CAP`"),
        ("A token that expires, a token with a line feed", "`HUB_AUTH`; never shown"),
    ),
    *_rows(
        "Discovery", 71,
        ("A lease lost while the record is in use", "gone within the lease's time"),
        ("The holder of a lease stopped and woken", "registered anew, no duplicate"),
        ("One instance from two processes", "the later incarnation wins"),
        ("One model name with different content", "apart, never mixed; `NAME_TAKEN`"),
        ("A record that is malformed, empty, huge, at an odd key", "`RECORD_MALFORMED`; the others stand"),
        ("Changes that are lost, doubled, reordered", "listed again and compared"),
        ("The registry away for a second or an hour; back empty", "the last known state, and records put again"),
        ("A registry that only one side sees", "each side says what it cannot reach"),
        ("A worker that flaps", "bounded work; others untouched"),
        ("Half-written records, editors' files, a directory removed", "renames only; scanned again"),
        ("A registry's own expiry, relists, refused access", "`DISCOVERY_FORBIDDEN`; listed again"),
        ("Many cards at once over an empty store", "converges, bounded"),
    ),
)  # fmt: skip

REQUIRED: Final = range(1, 71)  # rows beyond are shown where they are tested

# Rows that cannot occur here, with the reason.
NOT_APPLICABLE: Final[dict[int, str]] = {}


def named_tests() -> dict[int, list[str]]:
    """Return the node ids of the tests that carry a row in their name, by row; files are parsed, never imported."""
    found: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (match := _NAME.fullmatch(node.name)):
                found.setdefault(int(match[1]), []).append(f"{where}::{node.name}")
    return {row: sorted(names) for row, names in sorted(found.items())}


def bad_inputs_text() -> str:
    """Return ``docs/bad-inputs.md``."""
    tests, lines = named_tests(), [_HEAD]
    for row in ROWS:
        if row.number not in tests and row.number not in REQUIRED:
            continue
        if f"## {row.section}" not in lines:
            lines += ["", f"## {row.section}", "", "| row | bad input | ends in | tests |", "|---|---|---|---|"]
        names = "<br>".join(f"`{name}`" for name in tests.get(row.number, []))
        names = names or f"none: {NOT_APPLICABLE.get(row.number, 'open')}"
        lines.append(f"| {row.number} | {row.bad} | {row.ends} | {names} |")
    return "\n".join(lines) + "\n"


_HEAD: Final = """# Bad inputs

Each row ends in a code of [errors.md](errors.md) or in the state that is named; no row ends in a traceback, a hang, or
a changed directory. The tests of a row carry its number in their name. Written by `python docs/generate.py`."""
