"""The processor, and libraries that are missing: what is no fault of a model's files, and what is."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from placecard.admission import Consumer, Limits, Loader, LoadReport, State, judge, needs, read_configs, unmet
from placecard.admission.child.libraries import missing_library
from placecard.errors import Code
from tests.unit.admission import hostile
from tests.unit.admission.test_loader import outcome

PACKAGES = Path(pytest.__file__).parent.parent
LLAVA: dict[str, dict[str, Any]] = {
    "config.json": {"model_type": "llava", "image_token_index": 5, "vision_config": {}, "text_config": {}},
    "tokenizer_config.json": {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "LlavaProcessor",
        "extra_special_tokens": {"image_token": "<|image_pad|>"},
    },
    "preprocessor_config.json": {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": 56, "width": 56},
        "size": {"shortest_edge": 56},
    },
    "processor_config.json": {
        "processor_class": "LlavaProcessor",
        "patch_size": 14,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    },
}


@pytest.fixture
def llava(vl_model: Path) -> Path:
    for name, value in LLAVA.items():
        (vl_model / name).write_text(json.dumps(value))
    return vl_model


def write_bare(directory: Path, name: str, data: bytes, **keys: Any) -> Path:
    """Write a model whose tokenizer is the one file ``name``."""
    directory.mkdir()
    (directory / name).write_bytes(data)
    (directory / "config.json").write_text(json.dumps({"model_type": "llama"} | keys))
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"} | keys))
    return directory


def pieces() -> bytes:
    made = io.BytesIO()
    sentences = iter(["hello world how are you doing today", "the quick brown fox"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=made,
        vocab_size=320,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    return made.getvalue()


def ranks() -> bytes:
    return b"".join(base64.b64encode(bytes([number])) + f" {number}\n".encode() for number in range(256))


def without(tmp_path: Path, *names: str) -> tuple[str, ...]:
    """Return a search path on which the packages ``names`` are not installed."""
    packages = tmp_path / "packages" / "site-packages"
    packages.mkdir(parents=True)
    for entry in PACKAGES.iterdir():
        if entry.name.lower().partition("-")[0].partition(".")[0] not in names:
            (packages / entry.name).symlink_to(entry)
    return tuple(str(packages) if entry == str(PACKAGES) else entry for entry in sys.path if entry)


def state(directory: Path, report: LoadReport) -> State:
    names = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
    return judge(unmet(needs(read_configs(directory, names).parsed, names, {}), names), report).state


async def test_a_processor_that_opens_without_torch_counts_its_tokens(loader: Loader, llava: Path) -> None:
    report = await loader.load(llava, trace=True)
    processor = outcome(report, Consumer.PROCESSOR)
    # 56 / 14 squared, one more, one less by the strategy; and the text.
    assert processor.ok and processor.detail.startswith("LlavaProcessor: ") and "tokens for 224x224" in processor.detail
    assert int(processor.detail.split()[1]) in range(17, 20)
    assert "processor" in report.readers["processor_config.json"]
    assert state(llava, report) is State.READY


async def test_a_processor_without_the_file_that_it_computes_with_is_degraded(loader: Loader, llava: Path) -> None:
    (llava / "processor_config.json").unlink()
    report = await loader.load(llava)
    processor = outcome(report, Consumer.PROCESSOR)
    assert processor.code is Code.CONSUMER_FAILED and "patch_size" in processor.detail
    assert outcome(report, Consumer.IMAGE_PROCESSOR).ok
    assert state(llava, report) is State.DEGRADED
    assert [fact.consumer for fact in judge((), report).degraded] == ["processor"]


def test_the_real_processor_fails_without_it(llava: Path) -> None:
    from PIL import Image
    from transformers import LlavaProcessor

    (llava / "processor_config.json").unlink()
    processor = LlavaProcessor.from_pretrained(str(llava), local_files_only=True)
    with pytest.raises(TypeError, match="NoneType"):
        processor(images=Image.new("RGB", (56, 56)), text="<|image_pad|> a", return_tensors="np")


async def test_a_processor_with_a_file_that_says_nothing_fails(loader: Loader, llava: Path) -> None:
    (llava / "processor_config.json").write_text('{"processor_class": "LlavaProcessor", "patch_size": "wide"}')
    assert outcome(await loader.load(llava), Consumer.PROCESSOR).code is Code.CONSUMER_FAILED


@pytest.mark.skipif(find_spec("torch") is not None, reason="with torch it opens")
async def test_a_processor_that_needs_torch_is_passed_over_and_degrades_nothing(loader: Loader, vl_model: Path) -> None:
    report = await loader.load(vl_model, trace=True)
    processor = outcome(report, Consumer.PROCESSOR)
    assert processor.skipped and processor.code is None and "torch" in processor.detail
    assert processor.files_read == ()
    assert state(vl_model, report) is State.READY


async def test_a_processor_that_transformers_does_not_know_degrades_nothing(loader: Loader, llava: Path) -> None:
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        hostile.edit(llava / name, processor_class="NewerProcessor")
    report = await loader.load(llava)
    processor = outcome(report, Consumer.PROCESSOR)
    assert processor.skipped and processor.code is None and "NewerProcessor" in processor.detail
    assert state(llava, report) is State.READY


async def test_a_processor_that_asks_for_code_degrades_nothing(loader: Loader, llava: Path) -> None:
    for name in LLAVA:
        value = json.loads((llava / name).read_text())
        value.pop("processor_class", None)
        (llava / name).write_text(json.dumps(value))
    hostile.edit(llava / "config.json", model_type="newer")
    hostile.edit(llava / "preprocessor_config.json", auto_map={"AutoProcessor": "canary.C"})
    report = await loader.load(llava)
    processor = outcome(report, Consumer.PROCESSOR)
    assert processor.skipped and processor.code is None and "code of the directory" in processor.detail
    assert state(llava, report) is State.READY


async def test_a_processor_is_not_opened_where_one_of_its_parts_failed(loader: Loader, llava: Path) -> None:
    hostile.edit(llava / "preprocessor_config.json", feature_extractor_type="evil/X")
    report = await loader.load(llava, trace=True)
    assert outcome(report, Consumer.IMAGE_PROCESSOR).code is Code.CODE_BEARING_CONFIG
    processor = outcome(report, Consumer.PROCESSOR)
    assert processor.skipped and processor.code is None
    assert "processor" not in {each for readers in report.readers.values() for each in readers}


async def test_a_module_outside_of_the_directory_fails_the_pooling(loader: Loader, text_model: Path) -> None:
    for path in ("../../etc", "/etc", 5):
        module = {"path": path, "type": "sentence_transformers.models.Pooling"}
        (text_model / "modules.json").write_text(json.dumps([module]))
        pooling = outcome(await loader.load(text_model), Consumer.POOLING)
        assert pooling.code is Code.CONSUMER_FAILED and str(path) in pooling.detail


@pytest.mark.skipif(find_spec("google") is None or find_spec("google.protobuf") is None, reason="needs protobuf")
async def test_a_tokenizer_of_sentencepiece_opens(loader: Loader, tmp_path: Path) -> None:
    directory = write_bare(tmp_path / "pieces", "tokenizer.model", pieces())
    report = await loader.load(directory)
    assert outcome(report, Consumer.TOKENIZER).ok and state(directory, report) is State.READY


async def test_a_tokenizer_of_tiktoken_opens_and_is_not_remembered_by_its_path(loader: Loader, tmp_path: Path) -> None:
    directory = write_bare(tmp_path / "ranks", "tokenizer.model", ranks())
    report = await loader.load(directory)
    assert outcome(report, Consumer.TOKENIZER).ok and state(directory, report) is State.READY
    (directory / "tokenizer.model").write_bytes(b"no ranks at all")
    failed = outcome(await loader.load(directory), Consumer.TOKENIZER)
    assert failed.code is Code.CONSUMER_FAILED


async def test_a_library_that_is_missing_is_no_fault_of_the_model(limits: Limits, tmp_path: Path) -> None:
    path = without(tmp_path, "sentencepiece", "tiktoken")
    models = {
        "sentencepiece": write_bare(tmp_path / "pieces", "tokenizer.model", pieces()),
        "tiktoken": write_bare(tmp_path / "ranks", "tokenizer.model", ranks()),
    }
    async with Loader(limits, search_path=path) as loader:
        for library, directory in models.items():
            report = await loader.load(directory)
            tokenizer = outcome(report, Consumer.TOKENIZER)
            assert tokenizer.skipped and tokenizer.code is Code.LOAD_TEST_UNAVAILABLE
            assert f"{library} is not installed" in tokenizer.detail
            verdict = judge((), report)
            assert verdict.state is State.DEGRADED and verdict.degraded[0].consumer == "tokenizer"


async def test_without_protobuf_no_sentencepiece_is_read(limits: Limits, tmp_path: Path) -> None:
    directory = write_bare(tmp_path / "pieces", "tokenizer.model", pieces())
    async with Loader(limits, search_path=without(tmp_path, "google", "protobuf")) as loader:
        report = await loader.load(directory)
    assert outcome(report, Consumer.TOKENIZER).detail.startswith("protobuf is not installed")
    assert state(directory, report) is State.DEGRADED


async def test_a_broken_tokenizer_is_refused_whatever_else_is_missing(
    limits: Limits, text_model: Path, tmp_path: Path
) -> None:
    (text_model / "tokenizer.json").write_text("{")
    (text_model / "spiece.model").write_bytes(pieces())
    async with Loader(limits, search_path=without(tmp_path, "sentencepiece")) as loader:
        report = await loader.load(text_model)
    assert outcome(report, Consumer.TOKENIZER).code is Code.CONSUMER_FAILED
    assert state(text_model, report) is State.REFUSED


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="with torchvision it opens")
async def test_an_image_processor_of_torchvision_alone_is_not_the_files_fault(loader: Loader, vl_model: Path) -> None:
    hostile.edit(vl_model / "config.json", model_type="llama4")
    hostile.edit(vl_model / "preprocessor_config.json", image_processor_type="Llama4ImageProcessor")
    report = await loader.load(vl_model)
    images = outcome(report, Consumer.IMAGE_PROCESSOR)
    assert images.code is Code.LOAD_TEST_UNAVAILABLE and "torchvision is not installed" in images.detail
    assert state(shutil.copytree(vl_model, vl_model.parent / "copy"), report) is State.DEGRADED


@pytest.mark.parametrize(
    ("error", "library"),
    [
        (ImportError("x", name="nowhere.part"), "nowhere"),
        (ImportError("x", name="json"), ""),
        (ImportError("no module"), ""),
        (ImportError("\nTimmWrapperConfig requires the timm library but it was not found."), "timm"),
        (ValueError("/tmp/x requires `timm` to be installed. Please install `timm`"), "timm"),
        (ValueError("requires the sentencepiece library"), ""),
        (ValueError("merges.txt requires a vocabulary"), ""),
        (ValueError("requires `nowhere` to be installed"), ""),
    ],
    ids=str,
)
def test_an_error_names_a_library_only_where_it_is_missing(error: Exception, library: str) -> None:
    assert missing_library(error) == library
