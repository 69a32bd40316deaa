"""Directories made to harm who opens them: the child may die, the nursery and the next model do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from placecard.admission import Consumer, Limits, Loader, State, code_keys, judge, read_configs
from placecard.errors import Code
from tests.unit.admission import hostile
from tests.unit.admission.test_loader import outcome


async def nursery_pid(loader: Loader) -> int:
    await loader.warm()
    assert loader._process is not None
    return loader._process.pid


async def test_row123_files_that_panic_the_tokenizer_are_quarantined(loader: Loader, text_model: Path) -> None:
    pid = await nursery_pid(loader)
    for name, text in hostile.PANICS.items():
        (text_model / "tokenizer.json").write_text(text)
        report = await loader.load(text_model)
        assert outcome(report, Consumer.TOKENIZER).code is Code.CONSUMER_PANICKED, name
        verdict = judge((), report)
        assert verdict.state is State.REFUSED, name
        assert verdict.errors[0].code is Code.CONSUMER_PANICKED, name
    assert len(hostile.PANICS) >= 10
    assert await nursery_pid(loader) == pid


async def test_a_tokenizer_that_fails_is_refused(loader: Loader, text_model: Path) -> None:
    for name, text in hostile.FAILURES.items():
        (text_model / "tokenizer.json").write_text(text)
        report = await loader.load(text_model)
        assert outcome(report, Consumer.TOKENIZER).code is Code.CONSUMER_FAILED, (name, report)
        assert judge((), report).state is State.REFUSED, name


async def test_row124_a_tokenizer_that_eats_memory_is_stopped(loader: Loader, text_model: Path, vl_model: Path) -> None:
    pid = await nursery_pid(loader)
    for text in (hostile.HUGE_PADDING, hostile.HUGE_MAP):
        (text_model / "tokenizer.json").write_text(text)
        report = await loader.load(text_model)
        assert outcome(report, Consumer.TOKENIZER).code is Code.LOAD_TEST_LIMIT
        assert judge((), report).state is State.REFUSED
    assert judge((), await loader.load(vl_model)).state is State.READY
    assert await nursery_pid(loader) == pid


async def test_row125_row126_no_configuration_makes_a_canary_run(
    loader: Loader, vl_model: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    for number, (title, (name, keys)) in enumerate(hostile.CODE_CONFIGS.items()):
        directory = tmp_path / f"{number}"
        directory.mkdir()
        for path in vl_model.iterdir():
            (directory / path.name).write_bytes(path.read_bytes())
        hostile.write_canaries(directory, mark)
        hostile.edit(directory / name, **keys)
        configs = read_configs(directory, [path.name for path in directory.iterdir()])
        findings = code_keys(configs.parsed)
        assert any(finding.name == name for finding in findings) or title == "tokenizer class by module", title
        report = await loader.load(directory)
        assert not mark.exists(), title
        verdict = judge((), report, findings)
        assert bool(findings) == bool(verdict.notices), title
        if any(finding.danger == "bypass" for finding in findings):
            assert verdict.state is not State.READY, title
            assert Code.CODE_BEARING_CONFIG in {each.code for each in report.consumers}, title


async def test_row125_a_known_type_that_names_code_loads_without_it(loader: Loader, text_model: Path) -> None:
    hostile.edit(text_model / "config.json", auto_map={"AutoConfig": "canary.C"})
    report = await loader.load(text_model)
    verdict = judge((), report, code_keys(read_configs(text_model, ["config.json"]).parsed))
    assert verdict.state is State.READY
    assert [notice.code for notice in verdict.notices] == [Code.CODE_BEARING_CONFIG]


async def test_row127_no_template_leaves_the_sandbox(loader: Loader, text_model: Path) -> None:
    for text in hostile.TEMPLATE_INJECTIONS:
        (text_model / "chat_template.jinja").write_text(text)
        report = await loader.load(text_model)
        rendered = outcome(report, Consumer.CHAT_TEMPLATE)
        assert rendered.detail == "chat_template.jinja: 0 characters" or not rendered.ok, text
        assert "root:" not in rendered.detail and "HF_HOME" not in rendered.detail, text
        assert judge((), report).state is (State.READY if rendered.ok else State.DEGRADED), text


async def test_row127_a_template_without_end_costs_the_chat_template_alone(loader: Loader, vl_model: Path) -> None:
    (vl_model / "chat_template.jinja").write_text(hostile.ENDLESS_TEMPLATE)
    report = await loader.load(vl_model)
    assert outcome(report, Consumer.CHAT_TEMPLATE).code is Code.LOAD_TEST_LIMIT
    assert outcome(report, Consumer.IMAGE_PROCESSOR).ok
    verdict = judge((), report)
    assert verdict.state is State.DEGRADED
    assert [(fact.code, fact.consumer) for fact in verdict.degraded] == [(Code.LOAD_TEST_LIMIT, "chat_template")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (hostile.MEMORY_TEMPLATE, Code.LOAD_TEST_LIMIT),
        (hostile.LONG_TEMPLATE, Code.CONSUMER_FAILED),
        ("x" * (10 << 20), Code.CONSUMER_FAILED),
        ("{% if %}", Code.CONSUMER_FAILED),
    ],
    ids=["eats memory", "renders megabytes", "is ten megabytes", "does not parse"],
)
async def test_row127_a_template_is_bounded(loader: Loader, text_model: Path, text: str, code: Code) -> None:
    (text_model / "chat_template.jinja").write_text(text)
    report = await loader.load(text_model)
    assert outcome(report, Consumer.CHAT_TEMPLATE).code is code
    assert judge((), report).state is State.DEGRADED


async def test_row126_templates_and_tokens_by_the_thousand_end(loader: Loader, text_model: Path) -> None:
    templates = [{"name": f"t{number}", "template": "{{ messages[0].content }}"} for number in range(10_000)]
    added = {str(1000 + n): {"content": f"<{n}>", "special": True} for n in range(20_000)}
    hostile.edit(text_model / "tokenizer_config.json", chat_template=templates, added_tokens_decoder=added)
    report = await loader.load(text_model)
    assert outcome(report, Consumer.CHAT_TEMPLATE).code in (None, Code.LOAD_TEST_LIMIT)


async def test_a_child_that_hangs_is_killed_at_its_deadline(vl_model: Path) -> None:
    (vl_model / "chat_template.jinja").write_text(hostile.ENDLESS_TEMPLATE)
    async with Loader(Limits(seconds=1.5, template_seconds=60)) as loader:
        report = await loader.load(vl_model)
        rendered = outcome(report, Consumer.CHAT_TEMPLATE)
        assert (rendered.code, rendered.detail) == (Code.LOAD_TEST_LIMIT, "killed at its deadline")
        assert outcome(report, Consumer.TOKENIZER).ok
        assert outcome(await loader.load(vl_model), Consumer.CONFIG).ok


async def test_a_pickle_in_the_directory_is_never_opened(loader: Loader, vl_model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    payload = b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    for name in ("vocab.pkl", "tokenizer.pkl", "added_tokens.pkl", "model.bin"):
        (vl_model / name).write_bytes(payload)
    report = await loader.load(vl_model, trace=True)
    assert not mark.exists()
    assert not {"vocab.pkl", "tokenizer.pkl", "added_tokens.pkl", "model.bin"} & report.readers.keys()


async def test_links_out_of_the_directory_open_no_secret(loader: Loader, text_model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{{ 'canary-secret' }}")
    (text_model / "chat_template.jinja").write_text("{% include '" + str(secret) + "' %}")
    report = await loader.load(text_model)
    assert "canary-secret" not in str(report)


async def test_a_configuration_too_large_to_be_searched_is_not_opened(loader: Loader, text_model: Path) -> None:
    keys = {"pad": "x" * (9 << 20), "auto_map": {"AutoTokenizer": ["canary.C", None]}}
    hostile.edit(text_model / "tokenizer_config.json", **keys)
    tokenizer = outcome(await loader.load(text_model), Consumer.TOKENIZER)
    assert tokenizer.code is Code.CONSUMER_FAILED and "tokenizer_config.json" in tokenizer.detail


async def test_row125_a_configuration_for_some_releases_is_searched_for_all_consumers(
    loader: Loader, text_model: Path
) -> None:
    for number, (lister, key, name) in enumerate(
        [
            ("config.json", "configuration_files", "config.4.0.0.json"),
            ("config.json", "unlisted", "config.4.0.0.json"),
            ("config.json", "configuration_files", "./parts//config.5.json"),
            ("tokenizer_config.json", "fast_tokenizer_files", "tokenizer.4.0.0.json"),
        ]
    ):
        directory = shutil.copytree(text_model, text_model.parent / f"{number}")
        hostile.edit(directory / lister, **{key: [name]})
        (directory / name).parent.mkdir(exist_ok=True)
        hostile.edit(directory / name, model_type="qwen2", _attn_implementation_internal="evil/kernel")
        report = await loader.load(directory)
        assert {each.code for each in report.consumers} == {Code.CODE_BEARING_CONFIG}, name
        assert judge((), report).state is State.REFUSED


async def test_row131_a_configuration_that_another_names_must_be_one(loader: Loader, text_model: Path) -> None:
    hostile.edit(text_model / "config.json", configuration_files=["config.4.0.0.json", 7])
    (text_model / "config.4.0.0.json").write_text("{")
    config = outcome(await loader.load(text_model), Consumer.CONFIG)
    assert config.code is Code.CONSUMER_FAILED and config.detail.startswith("config.4.0.0.json: not JSON")


async def test_a_file_that_kills_the_first_consumer_refuses_the_model(text_model: Path) -> None:
    async with Loader(Limits(seconds=0.001)) as loader:
        report = await loader.load(text_model)
    assert outcome(report, Consumer.CONFIG).code is Code.LOAD_TEST_LIMIT
    verdict = judge((), report)
    assert verdict.state is State.REFUSED
    assert {error.subject for error in verdict.errors} == {"config"}
