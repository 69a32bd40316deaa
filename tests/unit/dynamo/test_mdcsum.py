"""Our checksum equals what a stock front end computed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.dynamo import mdcsum
from placecard.dynamo.mdcsum import effective_context_length
from placecard.errors import Code
from tests.unit.dynamo.cards import GOLDEN, checked, dynamo_card, refusals

VECTORS = [json.loads(line) for line in (GOLDEN / "mdcsum.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["case"] for vector in VECTORS])
def test_equals_the_real_front_end(vector: dict[str, Any]) -> None:
    assert mdcsum(vector["card"]) == vector["mdcsum"]


def test_the_vectors_tell_fields_apart_that_are_hashed() -> None:
    sums = {vector["case"]: vector["mdcsum"] for vector in VECTORS}
    same_as_base = {case for case, value in sums.items() if value == sums["base"]}
    expected = {"base", "template, other key", "paths, not URLs", "runtime flag, off", "not hashed"}
    assert same_as_base == expected


def test_hosting_changes_the_sum_of_the_same_bytes() -> None:
    """Why hosted and other replicas of one model never share a set in Dynamo; ours go by content."""
    assert mdcsum(dynamo_card()) != mdcsum(dynamo_card(checked("/m/vocab.json")))


@pytest.mark.parametrize(
    "changes",
    [
        {"display_name": None},
        {"kv_cache_block_size": None},
        {"kv_cache_block_size": -1},
        {"kv_cache_block_size": 2**32},
        {"context_length": "x"},
        {"worker_type": "speculator"},
        {"worker_type": []},
        {"needs": [["nobody"]]},
        {"needs": 7},
        {"model_info": {}},
        {"model_info": {"a": {}, "b": {}}},
        {"model_info": "unit"},
        {"extra_files": [{}]},
        {"extra_files": [None]},
        {"aliases": [1]},
        {"prompt_context": ["of tomorrow"]},
        {"indexer_identity": {"semantics": [1]}},
        {"runtime_config": [1]},
    ],
    ids=str,
)
def test_a_card_that_dynamo_cannot_read_has_no_sum(changes: dict[str, Any]) -> None:
    assert refusals(lambda: mdcsum(dynamo_card(**changes))) == [Code.CARD_SCHEMA]


def test_a_checksum_that_is_none_has_no_sum() -> None:
    card = dynamo_card(checked("/m/vocab.json", checksum="blake3:TODO"))
    assert refusals(lambda: mdcsum(card)) == [Code.DIGEST_SYNTAX]


@given(st.permutations(["a.json", "b.json", "LICENSE"]))
def test_the_order_of_extra_files_does_not_matter(names: list[str]) -> None:
    extras = [checked(f"/m/{name}", name.encode()) for name in names]
    assert mdcsum(dynamo_card(*extras)) == mdcsum(dynamo_card(*sorted(extras, key=lambda file: str(file["path"]))))


def test_zero_of_the_runtime_counts_as_a_length() -> None:
    assert effective_context_length({"runtime_config": {"context_length": 0}, "context_length": 9}) == 0
    assert effective_context_length({"runtime_config": None, "architectural_max_context_length": 7}) == 7
    assert effective_context_length({}) == 0
