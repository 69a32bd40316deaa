"""Slugs."""

from __future__ import annotations

import pytest

from placecard.card import slugify


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Qwen/Qwen3-0.6B", "qwen_qwen3-0_6b"),  # Source: public dumps of a Dynamo registry
        ("acme/river-7b-chat", "acme_river-7b-chat"),
        ("_base", "base"),
        ("../../etc", "etc"),
        ("A b", "a_b"),
        ("日本", ""),
        ("é", ""),
        ("K", "k"),
        ("a\x00b", "a_b"),
    ],
)
def test_a_name_has_this_slug(name: str, slug: str) -> None:
    assert slugify(name) == slug


def test_different_names_can_share_one() -> None:
    assert slugify("a/b") == slugify("A_b")
