"""The command line as its users meet it: two hosts, one registry, no shared file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.commands import Host, host
from tests.simulator.hub import LocalHub
from tests.simulator.models import VL_FILES, write_text_model, write_vl_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_vl_model(tmp_path / "model")


@pytest.fixture
def worker(tmp_path: Path) -> Host:
    return host(tmp_path, "worker")


@pytest.fixture
def front_end(tmp_path: Path) -> Host:
    return host(tmp_path, "front-end")


@pytest.fixture
def served(worker: Host, model: Path) -> Iterator[dict[str, object]]:
    with worker.publish("--model-dir", str(model), "--name", "acme/river") as state:
        yield state


def test_a_published_model_resolves_on_another_host_without_its_directory(
    served: dict[str, object], front_end: Host, model: Path
) -> None:
    expected = {name: (model / name).read_bytes() for name in VL_FILES}
    shutil.rmtree(model)
    answer = front_end.run("resolve", "acme/river", "--json")
    assert answer.code == 0, answer.err
    outcome = answer.json
    assert outcome["state"] == "READY"
    assert outcome["content_digest"] == served["content_digest"]
    assert outcome["load_test"] == "passed"
    directory = Path(outcome["directory"])
    assert {name: (directory / name).read_bytes() for name in VL_FILES} == expected
    assert {each["name"] for each in outcome["files"]} == VL_FILES
    assert {each["origin"] for each in outcome["files"]} == {"WORKER"}


def test_the_directory_is_all_that_standard_output_says(served: dict[str, object], front_end: Host) -> None:
    answer = front_end.run("resolve", "acme/river", "--no-load-test")
    assert answer.code == 0
    assert Path(answer.out.strip()).is_dir()
    assert "READY" in answer.err
    assert "\x1b" not in answer.out + answer.err


def test_a_second_resolve_needs_no_worker(worker: Host, front_end: Host, model: Path) -> None:
    with worker.publish("--model-dir", str(model), "--name", "acme/river"):
        first = front_end.run("resolve", "acme/river", "--json").json
    answer = front_end.run("resolve", "acme/river", "--json")
    assert answer.code == 0
    assert answer.json["directory"] == first["directory"]
    assert answer.json["load_test"] == "remembered"
    assert answer.json["counts"]["Fallback:card_of_the_store"] == 1
    assert [note["code"] for note in answer.json["notices"]] == ["card_of_the_store"]
    assert "no worker advertises acme/river now" in front_end.run("resolve", "acme/river").err


def test_a_missing_image_processor_is_told_with_file_consumer_and_mend(
    worker: Host, front_end: Host, model: Path
) -> None:
    (model / "preprocessor_config.json").unlink()
    with worker.publish("--model-dir", str(model), "--name", "acme/river") as state:
        assert state["front_ends_will_say"] == "DEGRADED"
        answer = front_end.run("resolve", "acme/river", "--json")
    assert answer.code == 3
    (fact,) = answer.json["degraded"]
    assert (fact["code"], fact["consumer"], fact["missing"]) == (
        "REQUIRED_FILE_MISSING", "image_processor", "preprocessor_config.json",
    )  # fmt: skip
    assert "preprocessor_config.json" in fact["mend"]
    doctor = front_end.run("doctor", "acme/river", "--json")
    assert doctor.code == 3
    found = {each["consumer"]: each for each in doctor.json["findings"]}
    assert found["image_processor"]["status"] == "DEGRADED"
    assert found["image_processor"]["missing"] == "preprocessor_config.json"
    assert found["tokenizer"]["status"] == "OK"
    listed = front_end.run("cache", "ls", "--json").json["models"]
    assert [(each["model"], each["state"]) for each in listed] == [("acme/river", "DEGRADED")]


def test_strict_refuses_it(worker: Host, front_end: Host, model: Path) -> None:
    (model / "preprocessor_config.json").unlink()
    with worker.publish("--model-dir", str(model), "--name", "acme/river"):
        answer = front_end.run("resolve", "acme/river", "--json", "--strict")
    assert answer.code == 1
    assert answer.json["state"] == "REFUSED"
    assert answer.json["directory"] is None


def test_a_flipped_byte_at_the_worker_is_refused(
    served: dict[str, object], worker: Host, front_end: Host, model: Path
) -> None:
    from placecard.card import digest_of

    blob = worker.cache / "blobs-v1" / digest_of((model / "tokenizer.json").read_bytes()).removeprefix("blake3:")
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(data)
    answer = front_end.run("resolve", "acme/river", "--json")
    assert answer.code == 1
    assert [error["code"] for error in answer.json["errors"]] == ["DIGEST_MISMATCH"]
    assert answer.json["errors"][0]["mend"]
    assert front_end.run("cache", "path", "acme/river").code == 1


def test_later_edits_of_the_worker_s_directory_reach_nobody(
    served: dict[str, object], front_end: Host, model: Path
) -> None:
    before = (model / "config.json").read_bytes()
    (model / "config.json").write_text("{}")
    (model / "LICENSE").unlink()
    outcome = front_end.run("resolve", "acme/river", "--json").json
    assert outcome["state"] == "READY"
    assert Path(outcome["directory"], "config.json").read_bytes() == before


def test_a_token_is_demanded_and_given(worker: Host, front_end: Host, model: Path) -> None:
    for each in (worker, front_end):
        (each.home / "token").write_text("open-sesame\n")
    with worker.publish("--model-dir", str(model), "--name", "m", "--token-file", "token"):
        refused = front_end.run("resolve", "m", "--json")
        assert [error["code"] for error in refused.json["errors"]] == ["UNAUTHORIZED"] * len(refused.json["errors"])
        assert "open-sesame" not in refused.out + refused.err
        given = front_end.run("resolve", "m", "--json", "--worker-token-file", "token")
    assert given.json["state"] == "READY"
    assert "open-sesame" not in given.out + given.err


def test_a_worker_outside_the_ranges_is_not_asked(served: dict[str, object], front_end: Host) -> None:
    answer = front_end.run("resolve", "acme/river", "--json", "--worker-range", "10.0.0.0/8")
    assert answer.code == 1
    assert {error["code"] for error in answer.json["errors"]} == {"DESTINATION_FORBIDDEN"}


def test_a_bundle_carries_a_model_to_a_host_without_network(
    worker: Host, front_end: Host, tmp_path: Path, model: Path
) -> None:
    with worker.publish("--model-dir", str(model), "--name", "acme/river"):
        front_end.run("resolve", "acme/river")
    bundle = tmp_path / "river.bundle"
    assert front_end.run("cache", "export", "acme/river", "-o", str(bundle)).code == 0
    island = host(tmp_path, "island")
    imported = island.run("cache", "import", str(bundle), "--json")
    assert imported.code == 0, imported.err
    answer = island.run("resolve", "acme/river", "--json", "--offline")
    assert answer.json["state"] == "READY"
    assert Path(answer.json["directory"], "preprocessor_config.json").is_file()


def test_a_damaged_bundle_imports_nothing(worker: Host, front_end: Host, tmp_path: Path, model: Path) -> None:
    with worker.publish("--model-dir", str(model), "--name", "acme/river"):
        front_end.run("resolve", "acme/river", "--no-load-test")
    bundle = tmp_path / "river.bundle"
    front_end.run("cache", "export", "acme/river", "-o", str(bundle))
    bundle.write_bytes(bundle.read_bytes()[:-4096])
    island = host(tmp_path, "island")
    answer = island.run("cache", "import", str(bundle), "--json")
    assert answer.code == 1
    assert answer.json["errors"][0]["code"] == "BUNDLE_MALFORMED"
    assert island.run("cache", "ls", "--json").json["models"] == []


def test_a_shared_mount_serves_a_worker_that_does_not_self_host(worker: Host, front_end: Host, model: Path) -> None:
    with worker.publish("--model-dir", str(model), "--name", "m", "--no-self-host") as state:
        assert state["address"] is None
        forbidden = front_end.run("resolve", "m", "--json")
        assert {error["code"] for error in forbidden.json["errors"]} == {"PATH_FORBIDDEN"}
        allowed = front_end.run("resolve", "m", "--json", "--file-root", str(model))
    assert allowed.json["state"] == "READY"
    assert {each["origin"] for each in allowed.json["files"]} == {"FILE"}


def test_a_hub_repository_is_published_at_its_commit_and_resolved_from_the_hub(tmp_path: Path) -> None:
    write_text_model(tmp_path / "hub" / "acme" / "river")
    with LocalHub(tmp_path / "hub") as hub:
        online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        worker, front_end = host(tmp_path, "worker", **online), host(tmp_path, "front-end", **online)
        with worker.publish("--model", "hf://acme/river", "--no-self-host") as state:
            assert state["model"] == "acme/river"
            answer = front_end.run("resolve", "acme/river", "--json")
        assert answer.json["state"] == "READY", answer.out
        assert {each["origin"] for each in answer.json["files"]} == {"HUB"}
        assert all("@" in each["uri"] for each in answer.json["files"])
        assert not any(request.path.endswith(".safetensors") for request in hub.requests)


def test_cards_are_built_compared_checked_and_linted(front_end: Host, tmp_path: Path, model: Path) -> None:
    one, other = str(tmp_path / "one.json"), str(tmp_path / "other.json")
    assert front_end.run("card", "build", str(model), "-o", one).code == 0
    (model / "LICENSE").write_text("changed")
    assert front_end.run("card", "build", str(model), "-o", other, "--no-load-test").code == 0
    differ = front_end.run("card", "diff", one, other, "--json")
    assert differ.code == 1
    assert {d["where"] for d in differ.json["differences"] if d["part"] == "content"} == {
        "files[LICENSE].digest", "files[LICENSE].size",
    }  # fmt: skip
    assert front_end.run("card", "diff", one, one).code == 0
    assert front_end.run("card", "verify", other, str(model)).code == 0
    wrong = front_end.run("card", "verify", one, str(model), "--json")
    assert wrong.code == 1
    assert [row["name"] for row in wrong.json["files"] if not row["ok"]] == ["LICENSE"]
    assert front_end.run("card", "lint", one).code == 0
    shown = front_end.run("card", "show", one, "--json").json
    readers = {file["name"]: file.get("consumers", []) for file in shown["card"]["files"]}
    assert "image_processor" in readers["preprocessor_config.json"]
    assert "tokenizer" in readers["tokenizer.json"]
    assert json.loads(front_end.run("card", "schema").out)["$schema"].startswith("https://json-schema.org/")


def test_a_broken_card_lists_all_its_defects(front_end: Host, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(
        '{"schema": 1, "name": "m", "files": [{"name": "../x", "digest": "y"}, {"name": "CON", "digest": "z"}]}'
    )
    answer = front_end.run("card", "lint", str(card), "--json")
    assert answer.code == 1
    codes = [defect["code"] for defect in answer.json["defects"]]
    assert codes.count("DIGEST_SYNTAX") == 2
    assert {"NAME_UNSAFE", "NAME_RESERVED"} <= set(codes)


def test_the_store_is_verified_collected_and_emptied(served: dict[str, object], front_end: Host) -> None:
    directory = Path(front_end.run("resolve", "acme/river", "--no-load-test").out.strip())
    assert front_end.run("cache", "verify").code == 0
    assert front_end.run("cache", "path", "acme/river").out.strip().endswith("/current")
    blob = (directory / "config.json").resolve()
    blob.chmod(0o600)
    blob.write_bytes(b"{}")
    broken = front_end.run("cache", "verify", "--json")
    assert broken.code == 1
    assert broken.json["models"] == ["acme/river"]
    assert front_end.run("resolve", "acme/river", "--no-load-test").code == 0
    assert front_end.run("cache", "verify").code == 0
    assert front_end.run("cache", "rm", "acme/river").code == 0
    assert front_end.run("cache", "gc", "--json").json["blobs"] > 0
    assert front_end.run("cache", "rm", "acme/river").code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["resolve"], 2, "requires an argument"),
        (["resolve", "x", "--no-such-flag"], 2, "no-such-flag"),
        (["resolve", "x", "--worker-range", "not-a-network"], 2, "--worker-range"),
        (["resolve", "x", "--discovery", "ftp://host/x"], 2, "file:///DIR"),
        (["resolve", "x", "--discovery", "etcd://host:2379/x"], 2, "not in this release"),
        (["resolve", "nobody"], 1, "MODEL_UNKNOWN"),
        (["resolve", "absent.json"], 2, "absent.json"),
        (["publish"], 2, "--model-dir"),
        (["publish", "--model-dir", "/nowhere"], 2, "/nowhere"),
        (["publish", "--model", "acme/river"], 2, "hf://"),
        (["publish", "--model-dir", ".", "--advertise", "0.0.0.0:1"], 2, "--advertise"),
        (["resolve", "x.json", "--overlay", "a=/nowhere"], 2, "x.json"),
        (["resolve", "x", "--worker-origin", "ftp://x"], 2, "--worker-origin"),
        (["card", "show", "absent.json"], 2, "absent.json"),
        (["card", "build", "/nowhere"], 2, "/nowhere"),
        (["cache", "path", "nobody"], 1, "STORE_MISSING"),
        (["cache", "import", "absent.bundle"], 2, "absent.bundle"),
        (["cache", "export", "nobody", "-o", "x"], 1, "STORE_MISSING"),
        (["doctor", "nobody"], 1, "STORE_MISSING"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_is_wrong_is_one_clear_message_and_never_a_traceback(
    front_end: Host, arguments: list[str], code: int, says: str
) -> None:
    answer = front_end.run(*arguments)
    assert (answer.code, says in answer.out + answer.err) == (code, True), answer
    assert "Traceback" not in answer.out + answer.err


def test_flags_win_over_variables_and_variables_are_read(front_end: Host, tmp_path: Path) -> None:
    elsewhere = Host(front_end.home, front_end.registry, {"PLACECARD_CACHE_DIR": str(tmp_path / "variable")})
    assert elsewhere.run("cache", "ls", "--json").json["root"] == str(tmp_path / "variable")
    flag = elsewhere.run("cache", "ls", "--json", "--cache-dir", str(tmp_path / "flag"))
    assert flag.json["root"] == str(tmp_path / "flag")


def test_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys; from placecard.cli.main import run; run(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("[")[2]
    assert not any(f"'{name}'" in loaded for name in ("transformers", "torch", "aiohttp", "huggingface_hub", "uvicorn"))
