"""Configuration files: read as leniently as consumers read them, never with a foreign error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.admission import is_config, parse_config, read_configs
from placecard.admission.configs import (
    MAX_CONFIG_BYTES,
    MAX_MEMBERS,
    MAX_OTHER_BYTES,
    MAX_TOTAL_BYTES,
    MAX_TOTAL_MEMBERS,
)
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


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert read_configs(tmp_path, ["config.json"]).broken == {"config.json": "not a regular file"}


def test_a_file_that_no_consumer_opens_by_name_has_less_room(tmp_path: Path) -> None:
    text = json.dumps({"pad": "x" * MAX_OTHER_BYTES})
    for name in ("notes.json", "tokenizer_config.json", "config.4.0.0.json"):
        (tmp_path / name).write_text(text)
    configs = read_configs(tmp_path, ["notes.json", "tokenizer_config.json", "config.4.0.0.json"])
    assert sorted(configs.parsed) == ["config.4.0.0.json", "tokenizer_config.json"]
    assert "at most 1048576" in configs.broken["notes.json"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_objects_by_the_hundred_thousand_are_not_made(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("[" + ",".join(["{}"] * (MAX_MEMBERS // 2 + 1)) + "]").encode(encoding)
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    with pytest.raises(AdmissionError) as raised:
        parse_config(data, name="config.json")
    assert raised.value.code is Code.CONSUMER_FAILED and "members" in raised.value.detail


def test_one_directory_is_bounded_and_what_is_opened_comes_first(tmp_path: Path) -> None:
    names = [f"a{number:02}.json" for number in range(30)]
    for name in names:
        (tmp_path / name).write_text("[" + ",".join(["{}"] * 40_000) + "]")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    configs = read_configs(tmp_path, [*names, "tokenizer_config.json"])
    assert list(configs.parsed) == ["tokenizer_config.json", *names[: MAX_TOTAL_MEMBERS // 80_001]]
    assert set(configs.broken.values()) == {"over what is read of one directory"}
    for name in names:
        (tmp_path / name).write_text(json.dumps("x" * (MAX_OTHER_BYTES - 2)))
    configs = read_configs(tmp_path, names)
    assert len(configs.parsed) == MAX_TOTAL_BYTES // MAX_OTHER_BYTES and len(configs.broken) == 14
