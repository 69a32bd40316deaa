"""Reading the hub through its real client, against a local hub."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from placecard.card import HubUri, digest_of
from placecard.errors import Code, VerificationError
from placecard.source import HubSource, TransferError, default_hub_cache
from placecard.source.hub_client import retry_after_s
from placecard.telemetry import Fact, Fallback
from tests.simulator.hub import Damage, Fault, LocalHub
from tests.unit.source.tools import code, failure, read

REPO = "org/model"
FILES = {
    "config.json": b'{"model_type": "qwen2_vl"}',
    "tokenizer.json": b'{"version": "1.0"}' * 500,
    "sub dir/chat template.jinja": b"{{ messages }}",
    "empty.txt": b"",
    "tokenizer.model": bytes(range(256)) * 40,  # kept in large-file storage
}


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


@pytest.fixture(autouse=True)
def quiet_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token of this machine, no waiting between the client's own attempts, no lines about them."""
    import huggingface_hub.constants as constants
    import huggingface_hub.file_download as download

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda seconds: None))
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    write(tmp_path / "hub" / REPO, FILES)
    with LocalHub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def source_of(hub: LocalHub, cache: Path, **options: Any) -> HubSource:
    return HubSource(**{"endpoint": hub.url, "cache_dir": cache, "deadline_s": 20.0, "api_timeout_s": 5.0, **options})


def uri(hub: LocalHub, name: str = "config.json") -> HubUri:
    return HubUri(REPO, hub.commit(REPO), name)


# --- what it does


@pytest.mark.parametrize("name", sorted(FILES))
async def test_a_file_is_read_at_its_commit(hub: LocalHub, cache: Path, name: str) -> None:
    assert await read(source_of(hub, cache), uri(hub, name)) == FILES[name]


async def test_many_files_are_read_at_once(hub: LocalHub, cache: Path) -> None:
    source = source_of(hub, cache)
    contents = await asyncio.gather(*(read(source, uri(hub, name)) for name in FILES))
    assert contents == list(FILES.values())


async def test_a_revision_is_pinned_with_one_call(hub: LocalHub, cache: Path, tmp_path: Path) -> None:
    write(tmp_path / "hub" / f"{REPO}@v1", {"config.json": b"{}"})
    source = source_of(hub, cache)
    assert await source.pin(REPO, None) == hub.commit(REPO)
    assert len(hub.requests) == 1
    assert await source.pin(REPO, "v1") == hub.commit(REPO, "v1") != hub.commit(REPO)
    assert len(hub.requests) == 2


async def test_a_commit_is_pinned_without_a_call(hub: LocalHub, cache: Path) -> None:
    assert await source_of(hub, cache, offline=True).pin(REPO, "a" * 40) == "a" * 40
    assert hub.requests == []


async def test_a_listing_is_one_call_with_the_digests_of_the_commit(hub: LocalHub, cache: Path) -> None:
    files = {file.name: file for file in await source_of(hub, cache).listing(REPO, hub.commit(REPO))}
    assert len(hub.requests) == 1
    assert set(files) == set(FILES)
    for name, data in FILES.items():
        assert files[name].size == len(data)
        assert files[name].git_sha1 == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    assert files["tokenizer.model"].sha256 == hashlib.sha256(FILES["tokenizer.model"]).hexdigest()
    assert files["config.json"].sha256 is None


async def test_a_second_read_is_from_the_cache_after_one_look(hub: LocalHub, cache: Path) -> None:
    source = source_of(hub, cache)
    await read(source, uri(hub))
    before = len(hub.requests)
    assert await read(source, uri(hub)) == FILES["config.json"]
    assert [request.method for request in hub.requests[before:]] == ["HEAD"]


async def test_what_was_read_is_a_snapshot_of_the_cache(hub: LocalHub, cache: Path) -> None:
    source = source_of(hub, cache)
    assert source.snapshots(REPO) == ()
    await read(source, uri(hub))
    (snapshot,) = source.snapshots(REPO)
    assert (snapshot.repo, snapshot.commit) == (REPO, hub.commit(REPO))
    assert (snapshot.path / "config.json").read_bytes() == FILES["config.json"]


async def test_the_token_goes_to_the_hub_and_into_no_text(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "hub" / REPO, FILES)
    with LocalHub(tmp_path / "hub", token="hf_s3cret") as hub:
        error = await failure(source_of(hub, cache), uri(hub))
        assert error.code is Code.HUB_AUTH
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        error = await failure(source_of(hub, cache), uri(hub))
        assert error.code is Code.HUB_AUTH and "hf_wrong" not in str(error)
        monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
        assert await read(source_of(hub, cache), uri(hub)) == FILES["config.json"]


async def test_progress_bars_stay_away(hub: LocalHub, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    await read(source_of(hub, cache), uri(hub, "tokenizer.model"))
    assert capfd.readouterr() == ("", "")


# --- the local cache without the client


def snapshot_folder(cache: Path, commit: str, repo: str = REPO) -> Path:
    folder = cache / ("models--" + repo.replace("/", "--")) / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


def test_the_snapshot_of_main_is_first_then_the_newest(cache: Path) -> None:
    commits = [digit * 40 for digit in "abc"]
    for age, commit in enumerate(commits):
        folder = snapshot_folder(cache, commit)
        os.utime(folder, (1000 - age, 1000 - age))
    refs = cache / "models--org--model" / "refs"
    refs.mkdir()
    source = HubSource(cache_dir=cache)
    assert [each.commit for each in source.snapshots(REPO)] == commits
    (refs / "main").write_text(commits[2] + "\n")
    assert [each.commit for each in source.snapshots(REPO)] == [commits[2], commits[0], commits[1]]


@pytest.mark.parametrize("repo", ["../etc", "org/../model", "/abs", "a/b/c", "", "org--x/y", "org/model\n", "."])
def test_hostile_names_have_no_snapshots(cache: Path, repo: str) -> None:
    snapshot_folder(cache, "a" * 40)
    assert HubSource(cache_dir=cache).snapshots(repo) == ()


def test_what_is_no_folder_named_by_a_commit_is_no_snapshot(cache: Path, tmp_path: Path) -> None:
    folder = snapshot_folder(cache, "a" * 40)
    (folder.parent / "main").mkdir()
    (folder.parent / ("b" * 40)).touch()
    (folder.parent / ("c" * 40)).symlink_to(tmp_path)
    refs = cache / "models--org--model" / "refs"
    refs.mkdir()
    (refs / "main").symlink_to("/etc/passwd")
    assert [each.commit for each in HubSource(cache_dir=cache).snapshots(REPO)] == ["a" * 40]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "/home/u/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HUB_CACHE": "~/c"}, "/home/u/c"),
        ({"HF_HUB_CACHE": ""}, "/home/u/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_client_keeps_it(env: dict[str, str], expected: str) -> None:
    assert default_hub_cache(env, Path("/home/u")) == Path(expected)


def test_the_default_cache_is_the_clients_own(tmp_path: Path) -> None:
    script = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    for env in ({"HF_HOME": "/h"}, {"XDG_CACHE_HOME": "/x"}, {"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}):
        full = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **env}
        run = subprocess.run([sys.executable, "-c", script], env=full, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == str(default_hub_cache(env, tmp_path))


# --- rows of the table of bad inputs


@pytest.mark.parametrize("revision", ["main", "v1", "a" * 39, "A" * 40, None])
async def test_row26_a_revision_that_can_move_is_not_pinned(hub: LocalHub, cache: Path, revision: str | None) -> None:
    assert await code(source_of(hub, cache), HubUri(REPO, revision, "config.json")) is Code.REVISION_NOT_PINNED
    assert hub.requests == []


async def test_row64_offline_serves_the_cache_and_nothing_else(hub: LocalHub, cache: Path) -> None:
    await read(source_of(hub, cache), uri(hub))
    before = len(hub.requests)
    source = source_of(hub, cache, offline=True)
    assert await read(source, uri(hub)) == FILES["config.json"]
    error = await failure(source, uri(hub, "tokenizer.json"))
    assert error.code is Code.HUB_OFFLINE
    assert len(hub.requests) == before
    with pytest.raises(type(error)):
        await source.pin(REPO, "main")


async def test_row64_the_clients_own_offline_switch_counts(
    hub: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert await code(source_of(hub, cache), uri(hub)) is Code.HUB_OFFLINE
    assert hub.requests == []


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://name.invalid"])
async def test_row64_an_unreachable_hub_is_an_error_at_once(hub: LocalHub, cache: Path, endpoint: str) -> None:
    source = source_of(hub, cache, endpoint=endpoint)
    with anyio.fail_after(10):
        error = await failure(source, uri(hub))
    assert error.code is Code.HUB_OFFLINE and error.transient
    await read(source_of(hub, cache), uri(hub))
    assert await read(source, uri(hub)) == FILES["config.json"], "the copy in the cache serves"


async def test_row64_a_hub_that_does_not_answer_is_offline(hub: LocalHub, cache: Path) -> None:
    hub.latency_s = 0.5
    assert await code(source_of(hub, cache, api_timeout_s=0.1), uri(hub)) is Code.HUB_OFFLINE


async def test_row64_a_proxy_that_is_not_there_is_offline(
    hub: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    huggingface_hub.close_session()
    try:
        assert await code(source_of(hub, cache), uri(hub)) is Code.HUB_OFFLINE
    finally:
        huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("fault", "expected", "transient"),
    [
        (Fault(status=401), Code.HUB_AUTH, False),
        (Fault(status=403), Code.HUB_AUTH, False),
        (Fault(status=403, error_code="GatedRepo"), Code.HUB_GATED, False),
        (Fault(status=404), Code.HUB_NOT_FOUND, False),
        (Fault(status=404, error_code="RepoNotFound"), Code.HUB_NOT_FOUND, False),
        (Fault(status=404, error_code="EntryNotFound"), Code.HUB_NOT_FOUND, False),
        (Fault(status=404, error_code="RevisionNotFound"), Code.HUB_REVISION_GONE, False),
        (Fault(status=410), Code.HUB_ERROR, False),
        (Fault(status=451), Code.HUB_ERROR, False),
        (Fault(status=400), Code.HUB_ERROR, False),
    ],
)
async def test_row65_each_refusal_has_its_code_and_is_not_repeated(
    hub: LocalHub, cache: Path, fault: Fault, expected: Code, transient: bool
) -> None:
    hub.fail("config.json", fault)
    error = await failure(source_of(hub, cache), uri(hub))
    assert (error.code, error.transient) == (expected, transient)
    assert len(hub.requests) == 1, "no storm of retries"


async def test_row65_what_is_not_there_has_its_code(hub: LocalHub, cache: Path, tmp_path: Path) -> None:
    source, commit = source_of(hub, cache), hub.commit(REPO)
    assert await code(source, HubUri(REPO, commit, "absent.json")) is Code.HUB_NOT_FOUND
    assert await code(source, HubUri("org/absent", commit, "config.json")) is Code.HUB_NOT_FOUND
    assert await code(source, HubUri(REPO, "0" * 40, "config.json")) is Code.HUB_REVISION_GONE
    write(tmp_path / "hub" / "org" / "gated", FILES)
    hub.gated.add("org/gated")
    assert await code(source, HubUri("org/gated", hub.commit("org/gated"), "config.json")) is Code.HUB_GATED
    for ask in (source.pin(REPO, "no-such-branch"), source.listing(REPO, "0" * 40)):
        with pytest.raises(Exception, match="no such revision") as caught:
            await ask
        assert getattr(caught.value, "code", None) is Code.HUB_REVISION_GONE


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", 1.0),
        ("7", 7.0),
        ("60", 60.0),
        ("3600", 60.0),
        ("9" * 400, 60.0),
        ("-1", 1.0),
        ("1.5", 1.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1.0),
        ("soon", 1.0),
        ("²", 1.0),
        ("", 1.0),
        (None, 1.0),
    ],
)
def test_row66_how_long_to_wait_is_bounded(header: str | None, expected: float) -> None:
    assert retry_after_s(header) == expected


@pytest.mark.parametrize("header", ["0", "3600", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "garbage"])
async def test_row66_a_busy_hub_is_left_alone(hub: LocalHub, cache: Path, header: str) -> None:
    hub.fail("config.json", Fault(status=429, headers={"Retry-After": header}))
    source = source_of(hub, cache)
    with anyio.fail_after(10):
        errors = [await failure(source, uri(hub, name)) for name in ("config.json", "tokenizer.json", "empty.txt")]
    assert {error.code for error in errors} == {Code.HUB_RATE_LIMITED}
    assert all(error.transient for error in errors)
    assert len(hub.requests) == 1, "asked once; the others were not sent at all"
    assert isinstance(errors[0], TransferError) and errors[0].retry_after_s == retry_after_s(header)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_row66_an_hour_of_errors_is_one_request_each(hub: LocalHub, cache: Path, status: int) -> None:
    hub.fail("", Fault(status=status))
    source = source_of(hub, cache)
    with anyio.fail_after(10):
        error = await failure(source, uri(hub))
    assert error.code is Code.HUB_ERROR and error.transient
    assert len(hub.requests) == 1


async def test_row67_a_moved_branch_does_not_move_a_commit(hub: LocalHub, cache: Path, tmp_path: Path) -> None:
    old = uri(hub)
    write(tmp_path / "hub" / f"{REPO}@old", FILES)
    (tmp_path / "hub" / REPO / "config.json").write_bytes(b"moved")
    assert hub.commit(REPO) != old.revision
    assert await read(source_of(hub, cache), old) == FILES["config.json"]


async def test_row67_a_commit_that_was_pushed_away_is_gone(hub: LocalHub, cache: Path, tmp_path: Path) -> None:
    old = uri(hub)
    (tmp_path / "hub" / REPO / "config.json").write_bytes(b"forced")
    assert await code(source_of(hub, cache), old) is Code.HUB_REVISION_GONE


async def test_row67_an_answer_for_another_commit_is_refused(hub: LocalHub, cache: Path) -> None:
    asked = HubUri(REPO, "b" * 40, "config.json")
    real = hub.revision
    hub.revision = lambda repo, revision: real(repo, "main")  # type: ignore[method-assign]
    assert await code(source_of(hub, cache), asked) is Code.HUB_REVISION_GONE
    with pytest.raises(Exception, match="another commit"):
        await source_of(hub, cache).listing(REPO, "b" * 40)


async def test_row67_a_renamed_repository_is_followed_on_the_same_host(hub: LocalHub, cache: Path) -> None:
    commit = hub.commit(REPO)
    hub.renamed["org/former"] = REPO
    assert await read(source_of(hub, cache), HubUri("org/former", commit, "config.json")) == FILES["config.json"]


async def test_row67_another_repository_under_the_old_name_is_left_to_the_digest(
    hub: LocalHub, cache: Path, tmp_path: Path
) -> None:
    hub.fail("config.json", Fault(damage=Damage.CORRUPT, method="GET"))
    assert digest_of(await read(source_of(hub, cache), uri(hub))) != digest_of(FILES["config.json"])


@pytest.mark.parametrize("poison", [b"poisoned", b'{"model_type": "qwen2_VL"}', b""])
async def test_row68_a_poisoned_copy_is_seen_and_the_network_asked(hub: LocalHub, cache: Path, poison: bytes) -> None:
    facts: list[Fact] = []
    source = source_of(hub, cache, observe=facts.append)
    await read(source, uri(hub))
    (copy,) = (snapshot.path / "config.json" for snapshot in source.snapshots(REPO))
    blob = copy.resolve()
    blob.write_bytes(poison)
    assert await read(source, uri(hub)) == FILES["config.json"]
    assert facts == [Fallback("hub_cache_bypassed", "the copy in the cache is not the file")]
    assert blob.read_bytes() == poison, "the user's cache is not ours to mend"


async def test_row68_a_copy_that_leads_out_of_the_cache_is_not_read(hub: LocalHub, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (snapshot_folder(cache, hub.commit(REPO)) / "config.json").symlink_to(tmp_path / "secret")
    assert await read(source_of(hub, cache), uri(hub)) == FILES["config.json"]
    assert await code(source_of(hub, cache, offline=True), uri(hub)) is Code.HUB_OFFLINE


async def test_row68_a_copy_that_dangles_is_fetched(hub: LocalHub, cache: Path) -> None:
    (snapshot_folder(cache, hub.commit(REPO)) / "config.json").symlink_to("../../blobs/gone")
    assert await read(source_of(hub, cache), uri(hub)) == FILES["config.json"]


async def test_row68_a_poisoned_blob_without_a_snapshot_is_not_taken(hub: LocalHub, cache: Path) -> None:
    revision = hub.revision(REPO, "main")
    assert revision is not None
    blobs = cache / "models--org--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / revision.files["config.json"].etag).write_bytes(b"half writ")
    assert await read(source_of(hub, cache), uri(hub)) == FILES["config.json"]


async def test_row68_a_cache_that_cannot_be_written_is_gone_around(
    hub: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: list[Fact] = []
    cache.write_bytes(b"a file where the cache should be")
    source = source_of(hub, cache, observe=facts.append)
    assert await read(source, uri(hub)) == FILES["config.json"]
    assert [fact.kind for fact in facts if isinstance(fact, Fallback)] == ["hub_cache_bypassed"]


async def test_row69_a_file_over_the_cap_is_refused_before_it_is_fetched(hub: LocalHub, cache: Path) -> None:
    source = source_of(hub, cache, max_file_bytes=len(FILES["tokenizer.json"]) - 1)
    error = await failure(source, uri(hub, "tokenizer.json"))
    assert error.code is Code.SIZE_CAP and isinstance(error, VerificationError)
    assert hub.answered("GET") == 0
    assert await read(source, uri(hub)) == FILES["config.json"]


async def test_row69_a_pointer_for_a_large_file_does_not_pass_for_it(hub: LocalHub, cache: Path) -> None:
    hub.fail("tokenizer.model", Fault(damage=Damage.POINTER, method="GET"))
    error = await failure(source_of(hub, cache), uri(hub, "tokenizer.model"))
    assert error.code is Code.TRUNCATED


async def test_row69_more_bytes_than_announced_are_cut(cache: Path) -> None:
    from placecard.source.hub_client import _brake

    bar = _brake(100, threading.Event(), "hf://x")(total=100)
    bar.update(100)
    with pytest.raises(VerificationError) as caught:
        bar.update(1)
    assert caught.value.code is Code.SIZE_CAP


async def test_row70_a_token_that_expires_between_look_and_fetch(hub: LocalHub, cache: Path) -> None:
    hub.fail("config.json", Fault(status=401, method="GET"))
    assert await code(source_of(hub, cache), uri(hub)) is Code.HUB_AUTH


@pytest.mark.parametrize("token", ["hf_s3c\x00ret", "hf_s3c\r\nret", "hf_s3crét"])
async def test_row70_a_token_that_no_header_can_hold(
    hub: LocalHub, cache: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: token)
    error = await failure(source_of(hub, cache), uri(hub))
    assert error.code is Code.HUB_AUTH
    assert "s3c" not in str(error) + repr(error) + str(error.as_json())
    assert error.__cause__ is None and error.__suppress_context__


async def test_row70_a_newline_in_the_token_is_cut_by_the_client(
    hub: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abc\n")
    assert await read(source_of(hub, cache), uri(hub)) == FILES["config.json"]
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: "hf_s3c\nret")
    assert await code(source_of(hub, cache), uri(hub, "tokenizer.json")) is Code.HUB_AUTH


# --- the network between us and the hub


@pytest.mark.parametrize("damage", [Damage.TRUNCATE, Damage.DROP])
async def test_one_broken_connection_is_mended_by_the_client(hub: LocalHub, cache: Path, damage: Damage) -> None:
    hub.fail("tokenizer.json", Fault(damage=damage, method="GET"), times=1)
    assert await read(source_of(hub, cache), uri(hub, "tokenizer.json")) == FILES["tokenizer.json"]


@pytest.mark.parametrize("damage", [Damage.DROP, Damage.RESET])
async def test_a_connection_that_keeps_breaking_is_truncated(hub: LocalHub, cache: Path, damage: Damage) -> None:
    hub.fail("tokenizer.json", Fault(damage=damage, method="GET"))
    error = await failure(source_of(hub, cache), uri(hub, "tokenizer.json"))
    assert error.code is Code.TRUNCATED and error.transient


async def test_past_the_deadline_the_hub_is_slow(hub: LocalHub, cache: Path) -> None:
    hub.fail("tokenizer.json", Fault(damage=Damage.STALL, method="GET"))
    with anyio.fail_after(10):
        error = await failure(source_of(hub, cache, deadline_s=0.5), uri(hub, "tokenizer.json"))
    assert error.code is Code.SLOW_SOURCE and error.transient


async def test_what_is_no_hub_is_said_to_be_none(tmp_path: Path, cache: Path) -> None:
    from tests.simulator.faulty import FaultyServer, Reply

    async with FaultyServer() as server:
        server.serve(f"/{REPO}/resolve/{'a' * 40}/config.json", Reply(b"<html>"))
        source = HubSource(endpoint=server.url, cache_dir=cache)
        error = await failure(source, HubUri(REPO, "a" * 40, "config.json"))
    assert error.code is Code.HUB_ERROR and not error.transient
    assert "HF_ENDPOINT" in str(error)
