"""The local hub itself, as the real client and as plain HTTP see it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from tests.simulator.hub import Fault, LocalHub
from tests.simulator.models import write_vl_model

REPO = "org/tiny-vl"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    write_vl_model(tmp_path / "hub" / REPO)
    (tmp_path / "hub" / REPO / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "hub" / f"{REPO}@v1" / "sub").mkdir(parents=True)
    (tmp_path / "hub" / f"{REPO}@v1" / "sub" / "config.json").write_text("{}")
    with LocalHub(tmp_path / "hub", gated=["org/gated"]) as hub:
        yield hub


def ask(hub: LocalHub, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(hub.url).netloc, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_the_real_client_downloads_a_snapshot(hub: LocalHub, tmp_path: Path) -> None:
    folder = Path(snapshot_download(REPO, cache_dir=tmp_path / "cache", endpoint=hub.url, token=False))
    source = tmp_path / "hub" / REPO
    wanted = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == wanted
    assert folder.name == hub.commit(REPO)


def test_the_real_client_reads_trees_and_revisions(hub: LocalHub) -> None:
    api = HfApi(endpoint=hub.url, token=False)
    assert [entry.path for entry in api.list_repo_tree(REPO, revision="v1")] == ["sub"]
    assert [entry.path for entry in api.list_repo_tree(REPO, revision="v1", recursive=True)] == [
        "sub",
        "sub/config.json",
    ]
    assert api.model_info(REPO, revision="v1").sha == hub.commit(REPO, "v1")
    assert [branch.target_commit for branch in api.list_repo_refs(REPO).branches] == [hub.commit(REPO)]
    assert api.file_exists(REPO, "config.json") and not api.file_exists(REPO, "absent")
    assert [entry.path for entry in api.get_paths_info(REPO, ["config.json", "absent"])] == ["config.json"]
    assert api.list_repo_commits(REPO)[0].commit_id == hub.commit(REPO)


def test_the_real_client_knows_its_errors(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "hub" / "org" / "gated").mkdir()
    api = HfApi(endpoint=hub.url, token=False)
    for repo, revision, expected in (
        ("org/absent", None, RepositoryNotFoundError),
        (REPO, "absent", RevisionNotFoundError),
        ("org/gated", None, GatedRepoError),
    ):
        with pytest.raises(expected):
            api.model_info(repo, revision=revision)


def test_a_commit_changes_with_the_content_and_only_with_it(hub: LocalHub, tmp_path: Path) -> None:
    before = hub.commit(REPO)
    config = tmp_path / "hub" / REPO / "config.json"
    data = config.read_bytes()
    config.write_bytes(data + b"\n")
    assert hub.commit(REPO) != before
    config.write_bytes(data)
    assert hub.commit(REPO) == before


@pytest.mark.parametrize(
    ("wanted", "status", "slice_of"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=2-99999999", 206, slice(2, None)),
        ("bytes=99999999-", 416, slice(0, 0)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(hub: LocalHub, tmp_path: Path, wanted: str, status: int, slice_of: slice) -> None:
    data = (tmp_path / "hub" / REPO / "config.json").read_bytes()
    answer = ask(hub, "GET", f"/{REPO}/resolve/main/config.json", Range=wanted)
    assert (answer[0], answer[2]) == (status, data[slice_of])


def test_heads_carry_what_the_client_reads(hub: LocalHub) -> None:
    status, headers, body = ask(hub, "HEAD", f"/{REPO}/resolve/main/model.safetensors")
    revision = hub.revision(REPO, "main")
    assert revision is not None
    file = revision.files["model.safetensors"]
    assert (status, body) == (200, b"")
    assert headers["X-Repo-Commit"] == revision.commit
    assert headers["X-Linked-Etag"] == headers["ETag"] == f'"{file.sha256}"'
    assert headers["X-Linked-Size"] == headers["Content-Length"] == str(file.size)
    again = ask(hub, "GET", f"/{REPO}/resolve/main/model.safetensors", **{"If-None-Match": headers["ETag"]})
    assert (again[0], again[2]) == (304, b"")


@pytest.mark.parametrize("path", ["/", "/../etc/passwd", f"/{REPO}/resolve/main/../../x", "/%2e%2e/x/resolve/main/y"])
def test_paths_that_are_none_are_not_found(hub: LocalHub, path: str) -> None:
    status, _, body = ask(hub, "GET", path)
    assert status == 404 and "error" in json.loads(body)


def test_faults_run_out_and_heal(hub: LocalHub) -> None:
    path = f"/{REPO}/resolve/main/config.json"
    hub.fail("config.json", Fault(status=503), times=1)
    assert [ask(hub, "HEAD", path)[0] for _ in range(2)] == [503, 200]
    hub.fail("config.json", Fault(status=503, method="GET"))
    assert (ask(hub, "GET", path)[0], ask(hub, "HEAD", path)[0]) == (503, 200)
    hub.heal()
    assert ask(hub, "GET", path)[0] == 200
    assert hub.answered("GET", "config.json") == 2


def test_it_runs_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "org" / "m").mkdir(parents=True)
    (tmp_path / "org" / "m" / "config.json").write_text("{}")
    command = [sys.executable, "-m", "tests.simulator.hub", "--root", str(tmp_path), "--token", "t"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        word, url = process.stdout.readline().split()
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        answers: list[Any] = []
        for headers in ({}, {"Authorization": "Bearer t"}):
            connection.request("GET", "/org/m/resolve/main/config.json", headers=headers)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()[:2]))
        connection.close()
        process.terminate()
    assert word == "HUB"
    assert [status for status, _ in answers] == [401, 200]
