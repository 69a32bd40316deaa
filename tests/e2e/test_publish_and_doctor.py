"""Publishing and examining as their users meet them: what is told, when, and what a disturbed worker does."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from placecard.card import digest_of
from tests.e2e.commands import PLACECARD, Host, host
from tests.simulator.models import write_vl_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_vl_model(tmp_path / "model")


@pytest.fixture
def worker(tmp_path: Path) -> Host:
    return host(tmp_path, "worker")


@contextmanager
def started(worker: Host, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``placecard publish`` without waiting for anything."""
    command = [*PLACECARD, "publish", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=worker.env(), cwd=worker.home, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(stream: IO[str] | None, words: str) -> list[str]:
    """Return the lines up to the one that holds ``words``."""
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        if words in line:
            return seen
    raise AssertionError("".join(seen))


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_during_the_build_ends_it_and_nothing_is_announced(
    worker: Host, model: Path, sent: signal.Signals, code: int
) -> None:
    with started(worker, "--model-dir", str(model), "--name", "m", "--json") as process:
        until(process.stdout, '"load test"')
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    last = json.loads(out.splitlines()[-1])
    assert (last["state"], last["published"], last["model"]) == ("stopped", False, "m")
    assert '"published",' not in out.replace('"published": false', "") and "Traceback" not in err
    assert worker.run("resolve", "m", "--json").json["errors"][0]["code"] == "MODEL_UNKNOWN"


def test_people_are_told_that_it_serves_how_to_resolve_it_and_that_it_was_withdrawn(worker: Host, model: Path) -> None:
    (worker.home / "my token").write_text("open-sesame\n")
    with started(worker, "--model-dir", str(model), "--name", "acme/a river", "--token-file", "my token") as process:
        told = "".join(until(process.stderr, "Ctrl-C to stop"))
        (hint,) = [line for line in told.splitlines() if "resolve it with" in line]
        words = shlex.split(hint.split("resolve it with")[1])
        token = str(worker.home / "my token")
        assert words == [
            "placecard", "resolve", "acme/a river", "--discovery", worker.registry, "--worker-token-file", token,
        ]  # fmt: skip
        assert worker.run(*words[1:], "--no-load-test").code == 0
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert "serving; Ctrl-C to stop" in told
    assert "withdrawn" in rest and process.returncode == 0


def test_a_publication_that_front_ends_degrade_says_so_first(worker: Host, model: Path) -> None:
    (model / "preprocessor_config.json").unlink()
    with started(worker, "--model-dir", str(model), "--name", "m", "--no-load-test") as process:
        (headline,) = [line for line in until(process.stderr, "published") if "published" in line]
    assert "published, front ends will say DEGRADED" in headline


def test_row34_links_out_of_the_directory_are_told_by_publish_and_doctor(
    worker: Host, model: Path, tmp_path: Path
) -> None:
    (model / "generation_config.json").rename(tmp_path / "g.json")
    (model / "generation_config.json").symlink_to(tmp_path / "g.json")
    with worker.publish("--model-dir", str(model), "--name", "m") as state:
        assert state["front_ends_will_say"] == "DEGRADED"
        (fact,) = state["degraded"]
        assert (fact["code"], fact["missing"]) == ("FILE_LEFT_OUT", "generation_config.json")
    answer = worker.run("doctor", str(model), "--json")
    assert (answer.code, answer.json["state"]) == (3, "DEGRADED")
    found = {each["consumer"]: each for each in answer.json["findings"]}
    assert found["generation_config"]["missing"] == "generation_config.json"
    assert "Replace the link" in found["generation_config"]["mend"]


def test_a_busy_port_is_told_before_anything_is_read(worker: Host, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flags in (["--port", port], ["--advertise", f"127.0.0.1:{port}"]):
            answer = worker.run("publish", "--model-dir", str(model), *flags, "--json")
            assert answer.code == 2 and "in use" in answer.err, answer
            assert "building" not in answer.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--port", "65536"], "65535"),
        (["--port", "-1"], "65535"),
        (["--worker-type", "sprinter"], "worker-type"),
        (["--host", "0.0.0.0"], "--advertise"),
        (["--name", "a\tb"], "control"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_flags_are_checked_before_any_work(worker: Host, flags: list[str], says: str) -> None:
    answer = worker.run("publish", "--model-dir", "/nowhere", *flags)
    assert answer.code in (1, 2) and says in answer.out + answer.err, answer
    assert "/nowhere" not in answer.err


def test_an_address_that_does_not_answer_says_where_the_worker_listens(worker: Host, model: Path) -> None:
    answer = worker.run(
        "publish", "--model-dir", str(model), "--advertise", "127.0.0.1:1", "--port", "0", "--no-load-test"
    )
    assert answer.code == 1 and "ADVERTISE_UNREACHABLE" in answer.err
    assert "this worker listens on 127.0.0.1:" in answer.err


def test_row51_a_copy_that_a_worker_lost_is_taken_again(worker: Host, tmp_path: Path, model: Path) -> None:
    lost = worker.cache / "blobs-v1" / digest_of((model / "tokenizer.json").read_bytes()).removeprefix("blake3:")
    front_end = host(tmp_path, "front-end")
    with worker.publish("--model-dir", str(model), "--name", "m", "--no-load-test"):
        lost.unlink()
        answer = front_end.run("resolve", "m", "--json", "--no-load-test")
        assert answer.json["state"] == "READY", answer.out
        assert lost.is_file()


def test_the_doctor_does_not_wait_for_a_pipe(worker: Host, model: Path) -> None:
    (model / "generation_config.json").unlink()
    os.mkfifo(model / "generation_config.json")
    answer = worker.run("doctor", str(model), "--json", "--no-load-test")
    assert (answer.code, answer.json["state"]) == (3, "DEGRADED")


def test_the_doctor_says_what_a_resolve_says(worker: Host, tmp_path: Path, model: Path) -> None:
    config = json.loads((model / "preprocessor_config.json").read_text())
    (model / "preprocessor_config.json").write_text(json.dumps(config | {"image_processor_type": "NoSuchProcessor"}))
    front_end = host(tmp_path, "front-end")
    with worker.publish("--model-dir", str(model), "--name", "m") as state:
        resolved = front_end.run("resolve", "m", "--json")
    by_name, by_directory = front_end.run("doctor", "m", "--json"), worker.run("doctor", str(model), "--json")
    assert state["front_ends_will_say"] == resolved.json["state"] == "DEGRADED"
    assert (by_name.json["state"], by_directory.json["state"]) == ("DEGRADED", "DEGRADED")
    assert resolved.code == by_name.code == by_directory.code == 3


def test_the_doctor_takes_a_relative_directory(worker: Host) -> None:
    write_vl_model(worker.home / "model")
    answer = worker.run("doctor", "model", "--json")
    assert (answer.code, answer.json["state"]) == (0, "READY"), answer.out
    assert answer.json["directory"] == str(worker.home / "model")


def test_the_doctor_examines_a_resolved_directory_by_its_path(worker: Host, tmp_path: Path, model: Path) -> None:
    front_end = host(tmp_path, "front-end")
    (model / "preprocessor_config.json").unlink()
    with worker.publish("--model-dir", str(model), "--name", "m", "--no-load-test"):
        directory = front_end.run("resolve", "m", "--no-load-test").out.strip()
    stable = front_end.run("cache", "path", "m").out.strip()
    for path in (directory, stable):
        answer = front_end.run("doctor", path, "--json", "--no-load-test")
        (lack,) = [each for each in answer.json["findings"] if each["status"] not in ("OK", "ABSENT")]
        assert (answer.code, lack["missing"]) == (3, "preprocessor_config.json")


def test_the_doctor_says_that_a_worker_advertises_what_was_never_resolved(worker: Host, model: Path) -> None:
    with worker.publish("--model-dir", str(model), "--name", "m", "--no-load-test"):
        assert "never resolved here" in worker.run("doctor", "m").err
    assert "never resolved here" not in worker.run("doctor", "other").err
