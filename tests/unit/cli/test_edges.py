"""The edges of the command line: full disks, closed streams, narrow encodings, pipes, signals, and hostile text."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from placecard.card import digest_of, to_json
from placecard.cli.card import read_card_file
from placecard.cli.main import run
from placecard.errors import Code, UsageError
from placecard.store import Entry, Origin, Proof, Store
from tests.unit.store.kit import FILES, MODEL, card_of, publish, put

LIMIT_S = 60.0  # generous: what hangs, hangs for ever


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "PLACECARD_DISCOVERY", "PLACECARD_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def card_file(home: Path, change: Mapping[str, Any] | None = None, name: str = "card.json") -> Path:
    path = home / name
    path.write_text(json.dumps(to_json(card_of(FILES)) | dict(change or {}), ensure_ascii=False))
    return path


def shell(home: Path, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which ``placecard`` is the command."""
    function = f'placecard() {{ "{sys.executable}" -m placecard "$@"; }}; '
    return subprocess.run(
        ["/bin/sh", "-c", function + line], cwd=home, env=dict(os.environ) | env, capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip


# --- output that cannot be written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command", ["card schema", "card show card.json", "card show card.json --json", "card show none.json --json"]
)
def test_a_full_disk_is_one_line_and_a_failure(home: Path, command: str) -> None:
    card_file(home)
    done = shell(home, f"placecard {command} >/dev/full")
    assert done.returncode == 1
    assert "output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("placecard:")]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_both_streams_is_a_failure(home: Path) -> None:
    done = shell(home, "placecard card show none.json --json >/dev/full 2>/dev/full")
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"])
@pytest.mark.parametrize(("command", "code"), [("cache ls", 0), ("cache path none --json", 1), ("nonsense", 2)])
def test_a_stream_that_is_closed_at_the_start_is_no_traceback(home: Path, closed: str, command: str, code: int) -> None:
    done = shell(home, f"placecard {command} {closed}")
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr


def test_a_reader_that_has_gone_is_told_nothing(home: Path) -> None:
    card_file(home)
    done = shell(home, "(placecard card schema; echo $? >code) | true; cat code")
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")  # what fits into the pipe may have been written before


# --- names that the terminal cannot show


def test_a_narrow_encoding_shows_escapes(home: Path) -> None:
    card_file(home, {"name": "mödel-模"})
    done = shell(home, "placecard card show card.json", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "m\\xf6del-\\u6a21" in done.stdout


def test_json_in_a_narrow_encoding_is_json(home: Path) -> None:
    card_file(home, {"name": "mödel-模-😀"})
    done = shell(home, "placecard card show card.json --json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["card"]["name"] == "mödel-模-😀"


def test_a_path_that_is_no_unicode_is_shown(home: Path) -> None:
    done = shell(home, "mkdir \"$(printf 'bad\\377')\"; placecard cache ls --json --cache-dir \"$(printf 'bad\\377')\"")
    assert json.loads(done.stdout)["root"].endswith("bad\udcff")
    assert done.returncode == 0


# --- text that is not ours


@pytest.mark.parametrize("consumer", ["[/bold]", "[link=http://evil]tokenizer[/link]", "[red]"])
def test_text_of_a_card_is_no_markup(home: Path, capsys: pytest.CaptureFixture[str], consumer: str) -> None:
    files = to_json(card_of(FILES))["files"]
    files[0] |= {"consumers": [consumer], "role": "[/red]"}
    left_out = [{"name": "[/dim]", "reason": "[/]"}]
    path = card_file(home, {"name": "[/]", "files": files, "left_out": left_out, "origin": "[/nope]"})
    assert run(["card", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in (consumer, "[/red]", "[/dim] ([/])", "[/nope]"))
    assert run(["card", "lint", str(path)]) == 0
    assert run(["card", "diff", str(path), str(card_file(home, name="other.json"))]) == 1
    assert run(["card", "verify", str(path)]) == 1


@pytest.mark.parametrize("state", ["[/nope]", "[link=http://evil]READY[/link]", 5, ["x"], None])
def test_text_of_a_state_is_no_markup(home: Path, capsys: pytest.CaptureFixture[str], state: Any) -> None:
    store = Store.open(home / "store")
    publish(store)
    for broken in ({"serving": state}, {"state": state, "errors": 7}, {"state": state, "errors": [{"code": 1}, "x"]}):
        store.write_state(MODEL, "outcome", {"degraded": 7, **broken})
        assert run(["cache", "ls", "--cache-dir", str(store.root)]) == 0
        assert ("IMPORTED" if state is None else str(state)) in capsys.readouterr().out


# --- what stands in a card's place


def test_a_pipe_in_a_cards_place_is_not_waited_for(home: Path) -> None:
    os.mkfifo(home / "pipe.json")
    for command in ("card show pipe.json", "card verify pipe.json", "card diff pipe.json pipe.json"):
        done = shell(home, f"placecard {command}")
        assert done.returncode == 2
        assert "not a regular file" in done.stderr
    done = shell(home, "placecard resolve pipe.json --no-load-test --json")
    assert done.returncode == 2


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/dev/tty"])
def test_a_device_or_folder_is_no_card(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_card_file(Path(path))
    assert caught.value.code is Code.USAGE


def test_a_card_comes_through_a_pipe_by_its_own_name(home: Path) -> None:
    card_file(home)
    done = shell(home, "cat card.json | placecard card show - --json")
    assert json.loads(done.stdout)["card"]["name"] == MODEL


def test_a_pipe_among_the_files_is_not_waited_for(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = card_file(home)
    for name, data in FILES.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(data)
    (home / "tokenizer.json").unlink()
    os.mkfifo(home / "tokenizer.json")
    assert run(["card", "verify", str(path), "--json"]) == 1
    wrong = [file for file in json.loads(capsys.readouterr().out)["files"] if not file["ok"]]
    assert [file["name"] for file in wrong] == ["tokenizer.json"]


@pytest.mark.parametrize("key", ["display_name", "card_json", "slug", "mdcsum"])
def test_a_card_of_ours_stays_ours_whatever_keys_a_newer_release_adds(home: Path, key: str) -> None:
    assert read_card_file(card_file(home, {key: "x"})).card.unknown == {key: "x"}


@pytest.mark.parametrize("command", [["card", "show", "--jsn"], ["cache", "import", "-x"], ["card", "lint", "--"]])
def test_a_hyphen_alone_is_standard_input_and_no_other(home: Path, command: list[str]) -> None:
    assert run(command) == 2


# --- variables and signals


def test_an_empty_variable_counts_as_unset(home: Path) -> None:
    here = home / "here"
    here.mkdir()
    done = shell(
        here, "placecard cache ls --json && ls -A", PLACECARD_CACHE_DIR="", PLACECARD_CACHE_LS_CACHE_DIR="",
        PLACECARD_LOWER_DIR="", PLACECARD_QUOTA_BYTES="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["root"] == str(home / ".cache" / "placecard")
    assert list(here.iterdir()) == []


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_an_import_and_leaves_nothing_behind(home: Path, number: int, code: int) -> None:
    near, far = Store.open(home / "near"), home / "far"
    publish(near)
    bundle = io.BytesIO()
    near.export(MODEL, bundle)
    command = [sys.executable, "-m", "placecard", "cache", "import", "-", "--cache-dir", str(far)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bundle.getvalue()[: bundle.getvalue().index(b"tokenstokens") + 1000])
        process.stdin.flush()
        wait_for(lambda: any(path.name.rpartition("-")[2].isdigit() for path in far.glob("ingest/*")))
        process.send_signal(number)
        process.wait(LIMIT_S)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == code
    assert list((far / "ingest").iterdir()) == []
    assert list((far / "leases").iterdir()) == []


def test_sigterm_ends_a_resolve_that_waits(home: Path) -> None:
    command = [sys.executable, "-m", "placecard", "resolve", "nobody", "--wait", "600", "--discovery"]
    registry = home / "registry"
    with subprocess.Popen([*command, registry.as_uri()], stderr=subprocess.PIPE) as process:
        wait_for(registry.is_dir)
        process.terminate()
        process.wait(LIMIT_S)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 143


def test_a_handler_that_stands_is_left_alone(home: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run(["card", "schema"]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


# --- bundles


def test_code_comes_in_with_its_digest_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = b"import os\n"
    store = Store.open(home / "near")
    for data in (FILES["config.json"], code):
        put(store, data)
    files = {"config.json": FILES["config.json"], "model.py": code}
    entries = [
        Entry(name, digest_of(data), len(data), "extra", Proof.ADVERTISED, Origin.WORKER)
        for name, data in files.items()
    ]
    store.publish(MODEL, entries, card=card_of(files))
    assert run(["cache", "export", MODEL, "-o", str(home / "b.tar"), "--cache-dir", str(store.root)]) == 0
    bring = ["cache", "import", str(home / "b.tar"), "--cache-dir", str(home / "far"), "--json"]
    assert run(bring) == 1
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "BUNDLE_MALFORMED"
    assert run([*bring, "--allow-code", digest_of(code)]) == 0
