"""Every row of the table of bad inputs has a test that carries its number, and the committed table is current."""

from __future__ import annotations

import re
from pathlib import Path

from docs.bad_inputs import NOT_APPLICABLE, REQUIRED, ROWS, bad_inputs_text, named_tests

from placecard.errors import Code

DOCUMENT = Path(__file__).parents[2] / "docs" / "bad-inputs.md"
ROW_NUMBERS = [row.number for row in ROWS]


def test_the_table_has_each_row_once() -> None:
    assert list(range(1, len(ROWS) + 1)) == ROW_NUMBERS


def test_each_row_is_tested_or_cannot_occur() -> None:
    open_rows = sorted(set(REQUIRED) - named_tests().keys() - NOT_APPLICABLE.keys())
    assert open_rows == []


def test_few_rows_cannot_occur_and_each_says_why() -> None:
    assert len(NOT_APPLICABLE) <= 10
    assert set(NOT_APPLICABLE) <= set(ROW_NUMBERS) - named_tests().keys()
    assert all(reason.endswith(".") for reason in NOT_APPLICABLE.values())


def test_no_test_names_a_row_that_is_not_in_the_table() -> None:
    assert named_tests().keys() <= set(ROW_NUMBERS)


def test_each_code_of_the_table_exists() -> None:
    named = {code for row in ROWS for code in re.findall(r"`([A-Z]+_[A-Z_]+)`", row.ends)}
    assert named <= {code.value for code in Code}


def test_the_committed_table_is_the_generated_one() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == bad_inputs_text(), "run: python docs/generate.py"
