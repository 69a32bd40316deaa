"""Advice on valid cards: row 15 of the bad-input table, and what else hurts later."""

from __future__ import annotations

from typing import Any

import pytest

from placecard.card import Card, Role, lint
from placecard.errors import Code
from tests.unit.card.cards import decoded, file_json

SOURCES = ["http://10.0.0.1:9090/x"]
CLEAN = [file_json(sources=SOURCES), file_json("tokenizer.json", sources=SOURCES)]


def notes(card: Card) -> list[tuple[Code, str]]:
    return [(note.code, note.subject) for note in lint(card)]


def test_a_clean_card_needs_no_advice() -> None:
    assert notes(decoded(files=CLEAN)) == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"allow_private_ips": True}, "$.allow_private_ips"),
        ({"serving": {"strict": False}}, "$.serving.strict"),
        ({"media_fetcher": {"limits": {"allow_redirects": 9}}}, "$.media_fetcher.limits.allow_redirects"),
        ({"policy": {"strict": False}}, "$.policy"),
    ],
)
def test_row15_a_policy_on_the_card_is_ignored_and_said(changes: dict[str, Any], where: str) -> None:
    assert notes(decoded(files=CLEAN, **changes)) == [(Code.CARD_POLICY_IGNORED, where)]


def test_row15_a_policy_on_a_file_is_ignored_and_said() -> None:
    card = decoded(files=[*CLEAN, file_json("a.json", sources=SOURCES, trust_remote_code=True)])
    assert notes(card) == [(Code.CARD_POLICY_IGNORED, "$.files[2].trust_remote_code")]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (file_json("a.json", sources=SOURCES, role="future"), Code.CARD_SCHEMA),
        (file_json("a.json", sources=SOURCES, size=None), Code.CARD_SCHEMA),
        (file_json("a.py", sources=SOURCES), Code.CARD_SCHEMA),
        (file_json("a.bin", sources=SOURCES), Code.CARD_SCHEMA),
        (file_json("a.json"), Code.NO_CANDIDATE),
        (file_json("a.json", sources=["hf://a/b@main/a.json"]), Code.REVISION_NOT_PINNED),
        (file_json("a.json", sources=["hf://a/b/a.json"]), Code.REVISION_NOT_PINNED),
    ],
)
def test_a_file_that_will_hurt_later(file: dict[str, Any], code: Code) -> None:
    assert notes(decoded(files=[*CLEAN, file])) == [(code, file["name"])]


def test_a_missing_tokenizer_is_said_and_is_no_defect() -> None:
    card = decoded(files=CLEAN[:1])
    assert notes(card) == [(Code.CARD_INCOMPLETE, "slot tokenizer")]
    assert card.slot(Role.MODEL_INFO) is not None


def test_each_note_says_what_to_do() -> None:
    card = decoded(file_json("a.py", role="future", size=None), strict=True)
    assert all(note.mend for note in lint(card))
