"""Configuration files: read as leniently as consumers read them, never with a foreign error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.admission import is_config, parse_config, read_configs
from placecard.admission.configs import MAX_CONFIG_BYTES
from placecard.errors import AdmissionError, Code


def test_not_a_number_and_infinity_pass() -> None:
    assert parse_config(b'{"a": Infinity, "b": -Infinity}', name="config.json")["a"] == float("inf")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b'{\n "a": 1, // no\n}', "line 2"),
        (b'{"a": 1,}', "line 1"),
        (b"", "line 1, column 1"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 5000, "not JSON"),
        (b" " * (MAX_CONFIG_BYTES + 1), "at most"),
    ],
    ids=["comment", "trailing comma", "empty", "not UTF-8", "deep", "huge number", "large"],
)
def test_row131_what_is_not_json_is_an_error_with_its_place(data: bytes, part: str) -> None:
    with pytest.raises(AdmissionError) as raised:
        parse_config(data, name="config.json")
    assert raised.value.code is Code.CONSUMER_FAILED
    assert part in str(raised.value) and raised.value.subject == "config.json"


@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_one_error(data: bytes) -> None:
    try:
        value = parse_config(data, name="x")
    except AdmissionError as error:
        assert error.code is Code.CONSUMER_FAILED
    else:
        assert json.dumps(value) is not None


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "processor_config.json", "modules.json"])
def test_configuration_is_told_by_name(name: str) -> None:
    assert is_config(name)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "model.safetensors.index.json", "a.txt", "json"])
def test_content_is_no_configuration(name: str) -> None:
    assert not is_config(name)


def test_a_broken_file_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "modules.json").write_text("[")
    (tmp_path / "folder.json").mkdir()
    configs = read_configs(tmp_path, ["config.json", "modules.json", "absent.json", "folder.json", "tokenizer.json"])
    assert configs.parsed == {"config.json": {"a": 1}}
    assert sorted(configs.broken) == ["absent.json", "folder.json", "modules.json"]
    assert "line 1" in configs.broken["modules.json"]
    assert configs.object("config.json") == {"a": 1} and configs.object("modules.json") == {}
