"""File names: rows 28-31 of the bad-input table, the kind of each file, and the slots."""

from __future__ import annotations

import unicodedata

import pytest

from placecard.card import Kind, Role, assign_slots, check_name, collisions, kind_of, name_key
from placecard.errors import Code
from tests.unit.card.cards import card_json, codes, file_json, refusals


@pytest.mark.parametrize(
    "name",
    ["config.json", "a/b", "1_Pooling/config.json", "with space.json", "große Fluß.json", "说明：必读.txt", "ａ.json",
     "-rf", "~", "#x#", ".hidden", "a..b", "..a", "config.d/a", "auxiliary.json", "nulls", "com10", "x" * 255,
     "a/" * 15 + "b", "emoji 🌊.json", "%2e%2e", "ﬁ.json", "İ.json", "100%.txt"],
)  # fmt: skip
def test_a_name_that_passes(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../b", "a/..", "./a", "/abs", "//x", "a//b", "a/", "a\\b", "\\\\srv\\x", "..\\x",
     "C:x", "c:\\x", "C:/x", "a/C:x", "x\x00y", "x\ny", "x\x7f", "x\x1b[0m", "x.", "x ", " x", "a./b", "a /b", "...",
     "x\u00a0", "a|b", "a?", "a*", '"a"', "<a>", "\ud800", "x\udcffy"],
)  # fmt: skip
def test_row28_an_unsafe_name(name: str) -> None:
    assert refusals(lambda: check_name(name)) == [Code.NAME_UNSAFE]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "x\x00", "x "])
def test_row28_an_unsafe_name_on_a_card(name: str) -> None:
    assert codes(card_json(file_json(name))) == [Code.NAME_UNSAFE]


@pytest.mark.parametrize(
    "name",
    ["CON", "con", "nul.json", "COM1", "LPT9", "aux.txt", "prn", "COM¹", "lpt².json", "CONIN$", "conout$.txt", "COM0",
     "sub/nul", "nul/x.json", "CON .txt", "nul.tar.gz",
     "ＣＯＮ", "ｎｕｌ.json", "config.json:stream", "xy:z", "ab::$DATA"],
)  # fmt: skip
def test_row29_a_reserved_name(name: str) -> None:
    assert refusals(lambda: check_name(name)) == [Code.NAME_RESERVED]


@pytest.mark.parametrize(
    "name",
    ["x" * 256, "🌊" * 255, "a/" + "é" * 128, "a/" * 2048 + "b", "a/" * 16 + "b", ("x" * 200 + "/") * 6 + "x"],
)
def test_row30_a_name_that_is_too_long(name: str) -> None:
    assert refusals(lambda: check_name(name)) == [Code.NAME_TOO_LONG]


def test_row30_the_message_of_a_long_name_is_short() -> None:
    with pytest.raises(Exception, match="longer than") as caught:
        check_name("x" * 1_000_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("config.json", "Config.json"),
        ("caf\u00e9.json", "cafe\u0301.json"),
        ("fi.json", "\ufb01.json"),
        ("config2.json", "ｃｏｎｆｉｇ２.json"),
        ("i\u0307.json", "İ.json"),
        ("STRASSE.txt", "straße.txt"),
        ("K.json", "\u212a.json"),
        ("ς.json", "Σ.json"),
        ("config.json", "config\ufe0f.json"),
        ("a/b.json", "A/B.JSON"),
        ("sub", "Sub/config.json"),
        ("a/b", "a/b/c/d"),
    ],
)
def test_row31_two_names_for_one_place(one: str, other: str) -> None:
    assert codes(card_json(file_json(one), file_json(other))) == [Code.NAME_COLLISION]
    assert list(collisions([one, other])) == [(one, other)]


@pytest.mark.parametrize(
    "name",
    ["config.json\u202e", "con\u200bfig.json", "\u2066a", "a\ufeff", "x\u2028y", "x\u00ady", "\ue000", "x\uffff",
     "a\uff0fb", "..\uff0fx", "a\uff3cb", "\uff0e\uff0e", "\u2024\u2024", "\u2025", "a/\u2026"],
)  # fmt: skip
def test_row31_a_name_that_looks_like_another(name: str) -> None:
    assert refusals(lambda: check_name(name)) == [Code.NAME_UNSAFE]


def test_names_that_only_resemble_each_other_stand_side_by_side() -> None:
    assert list(collisions(["a/b", "a/c", "ab", "a.json", "b/a.json", "i.json", "ı.json"])) == []


def test_three_names_for_one_place_are_two_pairs() -> None:
    assert list(collisions(["a", "A", "ａ"])) == [("a", "A"), ("A", "ａ")]


def test_name_key_is_the_same_for_each_normal_form() -> None:
    forms = {unicodedata.normalize(form, "Ångström ﬁle é.json") for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert len(forms) > 1
    assert len({name_key(form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.safetensors", Kind.WEIGHTS),
        ("model.SAFETENSORS", Kind.WEIGHTS),
        ("pytorch_model.bin", Kind.WEIGHTS),
        ("q4.GGUF", Kind.WEIGHTS),
        ("onnx/model.onnx", Kind.WEIGHTS),
        ("m.tflite", Kind.WEIGHTS),
        ("m.h5", Kind.WEIGHTS),
        ("m.pt", Kind.WEIGHTS),
        ("m.pth", Kind.WEIGHTS),
        ("flax_model.msgpack", Kind.WEIGHTS),
        ("last.CkPt", Kind.WEIGHTS),
        ("a.npz", Kind.WEIGHTS),
        ("a.nemo", Kind.WEIGHTS),
        ("rank0.engine", Kind.WEIGHTS),
        ("model.safetensors.index.json", Kind.METADATA),
        ("pytorch_model.bin.index.json", Kind.METADATA),
        ("x.bin.json", Kind.METADATA),
        ("bin", Kind.METADATA),
        ("safetensors", Kind.METADATA),
        ("tokenizer.model", Kind.METADATA),
        ("merges.txt", Kind.METADATA),
        ("LICENSE", Kind.METADATA),
        ("modeling_x.py", Kind.CODE),
        ("a.SO", Kind.CODE),
        ("a.pkl", Kind.CODE),
        ("setup.sh", Kind.CODE),
        (".git", Kind.HIDDEN),
        (".gitattributes", Kind.HIDDEN),
        ("a/.cache/b.json", Kind.HIDDEN),
        (".env.json", Kind.HIDDEN),
        (".model.safetensors", Kind.HIDDEN),
    ],
)
def test_row33_what_a_file_is_by_its_name(name: str, kind: Kind) -> None:
    assert kind_of(name) is kind


def test_slots_are_assigned_by_preference() -> None:
    names = [
        "tokenizer.model",
        "tokenizer.json",
        "config.json",
        "chat_template.json",
        "chat_template.jinja",
        "vocab.json",
    ]
    assert assign_slots(names) == {
        "config.json": Role.MODEL_INFO,
        "tokenizer.json": Role.TOKENIZER,
        "chat_template.jinja": Role.CHAT_TEMPLATE,
        "tokenizer.model": Role.EXTRA,
        "chat_template.json": Role.EXTRA,
        "vocab.json": Role.EXTRA,
    }


def test_two_candidates_of_one_pattern_fill_nothing() -> None:
    roles = assign_slots(["a.tiktoken", "b.tiktoken", "tokenizer.model"])
    assert roles == {"a.tiktoken": Role.EXTRA, "b.tiktoken": Role.EXTRA, "tokenizer.model": Role.TOKENIZER}


@pytest.mark.parametrize("name", ["sub/config.json", ".tiktoken", "CONFIG.JSON", "other.jinja"])
def test_a_name_that_fills_no_slot(name: str) -> None:
    assert assign_slots([name]) == {name: Role.EXTRA}
