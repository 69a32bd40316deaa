"""Building from a hub repository: what is fetched, and that nothing passes which the commit does not prove."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.simulator.models import TEXT_FILES, write_text_model

from placecard.card import HubUri, LeftOut, Uri
from placecard.errors import Code, SourceError, UsageError, VerificationError
from placecard.publisher.build import build_card
from placecard.publisher.checkout import checkout
from placecard.source import HubFile

COMMIT = "c" * 40


class FakeHub:
    """A repository in memory; ``lies`` are served in place of the files of that name."""

    def __init__(self, files: dict[str, bytes], lies: dict[str, bytes] | None = None) -> None:
        self._files, self._lies = files, lies or {}
        self.opened: list[str] = []

    async def pin(self, repo: str, revision: str | None) -> str:
        if revision == "gone":
            raise SourceError(Code.HUB_REVISION_GONE, "is gone", subject=repo)
        return COMMIT

    async def listing(self, repo: str, commit: str) -> tuple[HubFile, ...]:
        return tuple(
            HubFile(name, len(data), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
            if len(data) < 1000
            else HubFile(name, len(data), "0" * 40, hashlib.sha256(data).hexdigest())
            for name, data in self._files.items()
        )

    @asynccontextmanager
    async def open(self, uri: Uri) -> AsyncIterator[AsyncIterator[bytes]]:
        assert isinstance(uri, HubUri) and uri.revision == COMMIT
        self.opened.append(uri.path)
        yield self._chunks(self._lies.get(uri.path, self._files[uri.path]))

    async def _chunks(self, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100):
            yield data[start : start + 100]


def repository(tmp_path: Path) -> dict[str, bytes]:
    directory = write_text_model(tmp_path / "repo")
    return {path.name: path.read_bytes() for path in directory.iterdir()} | {"1_Pooling/config.json": b"{}"}


async def test_a_repository_becomes_a_card_pinned_to_its_commit(tmp_path: Path) -> None:
    hub = FakeHub(repository(tmp_path))
    found = await checkout(hub, "acme/tiny", None, tmp_path / "into")
    assert found.left_out == (
        LeftOut(".gitattributes", "hidden"),
        LeftOut("model-00001-of-00001.safetensors", "weights"),
    )
    assert set(hub.opened) == TEXT_FILES | {"1_Pooling/config.json"}
    card, _ = await build_card(
        found.directory, name="tiny", origin=found.origin, sources=found.sources, left_out=found.left_out
    )
    assert card.origin == f"hf://acme/tiny@{COMMIT}"
    pooling = card.file("1_Pooling/config.json")
    assert pooling is not None and pooling.sources == (f"hf://acme/tiny@{COMMIT}/1_Pooling/config.json",)
    assert {each.reason for each in card.left_out} == {"hidden", "weights"}


@pytest.mark.parametrize("lie", [b"{}", b"", b"x" * 5000], ids=["other", "empty", "longer"])
async def test_bytes_that_the_commit_does_not_prove_are_refused(tmp_path: Path, lie: bytes) -> None:
    hub = FakeHub(repository(tmp_path), {"config.json": lie})
    with pytest.raises(VerificationError) as raised:
        await checkout(hub, "acme/tiny", None, tmp_path / "into")
    assert raised.value.code is Code.DIGEST_MISMATCH and "config.json" in raised.value.subject


async def test_names_that_would_leave_the_directory_are_left_out(tmp_path: Path) -> None:
    hub = FakeHub({"config.json": b"{}", "../evil.json": b"{}", "/etc/evil": b"{}", "a/../../evil": b"{}", "con": b"x"})
    found = await checkout(hub, "acme/tiny", None, tmp_path / "into")
    assert hub.opened == ["config.json"]
    assert {each.reason for each in found.left_out} == {"unsafe name"} and len(found.left_out) == 4
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.json", "into"]


async def test_a_repository_of_weights_alone_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        await checkout(FakeHub({"model.gguf": b"x"}), "acme/tiny", None, tmp_path / "into")


async def test_what_the_hub_says_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as raised:
        await checkout(FakeHub({}), "acme/tiny", "gone", tmp_path / "into")
    assert raised.value.code is Code.HUB_REVISION_GONE


async def test_row35_a_flood_of_small_files_pushes_out_no_slot(tmp_path: Path) -> None:
    files = {f"a{number:04}.txt": b"x" for number in range(1200)}
    hub = FakeHub(
        files | {"config.json": b"{}" * 9, "tokenizer.json": b"{}" * 400, "preprocessor_config.json": b"{}" * 9}
    )
    found = await checkout(hub, "acme/tiny", None, tmp_path)
    assert {"config.json", "tokenizer.json", "preprocessor_config.json"} <= set(hub.opened)
    assert (len(hub.opened), len(found.left_out)) == (1024, 179)
