"""``placecard publish`` into Dynamo's own registry: the real host, a stock front end, and another Placecard."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from placecard.card import digest_of
from tests.interop.stock import StockFleet, listed, placecard, stock_fleet, until
from tests.simulator.models import VL_FILES, write_vl_model

pytestmark = pytest.mark.interop


@contextmanager
def published(fleet: StockFleet, model: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run the publisher; yield what it says once it has published."""
    for part in ("home", "tmp", "kv"):
        (fleet.directory / part).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "placecard", "publish", "--model-dir", str(model), "--json"]
    with (fleet.directory / "publish.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--discovery", f"dynamo+file://{fleet.kv}", *arguments],
            env=fleet.environment,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            state = json.loads(line)
            if state.get("state") == "published":
                break
        else:
            raise AssertionError(fleet.log("publish"))
        yield state
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_stock_front_end_lists_a_published_model_and_then_drops_it(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "tiny-vl")
    (model / "extra").mkdir()
    (model / "extra/config.json").write_text("{}")
    with stock_fleet(tmp_path / "fleet") as fleet:
        with published(fleet, model, "--name", "acme/tiny"):
            base = fleet.frontend()
            models = until(lambda: listed(base), "the model")
            (laid_out,) = (fleet.metadata_cache / "by-slug/acme_tiny").iterdir()
            sealed = {path.name: digest_of(path.read_bytes()) for path in laid_out.iterdir()}
        until(lambda: not listed(base), "the model to go")
    assert models == ["acme/tiny"]
    assert sealed == {name: digest_of((model / name).read_bytes()) for name in VL_FILES}


def test_another_placecard_gets_nested_files_through_dynamos_registry(tmp_path: Path) -> None:
    model = write_vl_model(tmp_path / "tiny-vl")
    (model / "extra").mkdir()
    (model / "extra/config.json").write_text("{}")
    with stock_fleet(tmp_path / "fleet") as fleet, published(fleet, model, "--name", "tiny"):
        result = placecard(
            "resolve", "tiny", "--discovery", f"dynamo+file://{fleet.kv}", "--cache-dir", str(tmp_path / "cache"),
            "--json", env=fleet.environment,
        )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    answer = json.loads(result.stdout)
    assert {file["proof"] for file in answer["files"]} == {"ADVERTISED"}
    for name in VL_FILES | {"extra/config.json"}:
        assert (Path(answer["directory"]) / name).read_bytes() == (model / name).read_bytes(), name


def test_a_published_and_a_stock_worker_of_one_model_are_one_content(tmp_path: Path) -> None:
    """Dynamo would refuse the second for its checksum; ours go by what the directory holds."""
    model = write_vl_model(tmp_path / "tiny-vl")
    (model / "README.md").unlink()
    with stock_fleet(tmp_path / "fleet") as fleet, published(fleet, model, "--name", "tiny"):
        fleet.start("mocker", _mocker(model), DYN_SYSTEM_PORT="0")
        until(lambda: len(fleet.records()) == 2, "both records")
        result = placecard(
            "resolve", "tiny", "--discovery", f"dynamo+file://{fleet.kv}", "--cache-dir", str(tmp_path / "cache"),
            "--json", env=fleet.environment,
        )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def _mocker(model: Path) -> list[str]:
    return ["-m", "dynamo.mocker", "--model-path", str(model), "--model-name", "tiny", "--speedup-ratio", "100000"]
