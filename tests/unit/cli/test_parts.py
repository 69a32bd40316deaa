"""What the commands are made of: choosing a record, reading flags, drawing the pipeline."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from placecard.card import Card, Serving, content_digest
from placecard.cli.finding import Found, choose
from placecard.cli.main import build_app
from placecard.cli.notes import Notes
from placecard.cli.options import BoundOptions, TrustOptions
from placecard.cli.output import safe, size_text
from placecard.cli.screen import STAGES, Pipeline
from placecard.cli.wiring import ranges_of, read_token, settings_of, wishes_of
from placecard.config import environment
from placecard.discovery import Record
from placecard.errors import Code, DiscoveryError, UsageError
from placecard.telemetry import (
    BytesArrived,
    CandidateFailed,
    Fallback,
    FileHeld,
    FileVerified,
    RecordRejected,
    StageEnded,
    StageStarted,
)
from tests.unit.resolver.world import FILES, make_card


def record(number: int, card: Card) -> Record:
    return Record(f"{number:032x}", card, f"http://127.0.0.1:{9000 + number}")


RIVER = make_card()
OTHER = make_card(FILES | {"LICENSE": b"x"})


def test_a_name_and_an_alias_choose_their_workers() -> None:
    aliased = Card(name="acme/sea", files=RIVER.files, serving=Serving(aliases=("sea",)))
    records = (record(1, RIVER), record(2, aliased))
    assert choose(records, "acme/river", "here") == records[:1]
    assert choose(records, "sea", "here") == records[1:]


def test_workers_with_another_serving_digest_are_all_chosen() -> None:
    longer = Card(name=RIVER.name, files=RIVER.files, serving=Serving(context_length=4096))
    records = (record(1, RIVER), record(2, longer))
    assert choose(records, "acme/river", "here") == records


def test_workers_that_differ_in_content_are_told_apart_by_digest() -> None:
    records = (record(1, RIVER), record(2, OTHER))
    with pytest.raises(DiscoveryError) as caught:
        choose(records, "acme/river", "here")
    assert caught.value.code is Code.NAME_TAKEN
    assert content_digest(RIVER)[7:19] in str(caught.value)
    assert choose(records, f"acme/river@{content_digest(OTHER)[:19]}", "here") == records[1:]


def test_a_digest_needs_no_prefix() -> None:
    records = (record(1, RIVER), record(2, OTHER))
    assert choose(records, f"acme/river@{content_digest(OTHER)[7:19]}", "here") == records[1:]


def test_nobody_takes_a_name_by_calling_it_an_alias() -> None:
    thief = Card(name="evil", files=OTHER.files, serving=Serving(aliases=("acme/river",)))
    honest = record(2, RIVER)
    assert choose((record(1, thief), honest), "acme/river", "here") == (honest,)


def test_notes_are_kept_once_and_bounded() -> None:
    notes = Notes()
    for number in range(1000):
        notes(Fallback("copy_instead_of_link", "no links here"))
        notes(RecordRejected(f"r{number}", Code.RECORD_MALFORMED, "broken"))
    assert [note.code for note in notes.notes[:2]] == ["copy_instead_of_link", "RECORD_MALFORMED"]
    assert len(notes.notes) == 100


def test_only_registered_workers_are_shown_the_token_and_asked() -> None:
    stray = Record(f"{3:032x}", make_card(source=lambda name: f"http://127.0.0.1:7777/{name}"), None)
    found = Found(record(1, RIVER), (record(1, RIVER), stray))
    assert found.token_origins == {"http://127.0.0.1:9001"}
    assert found.origins == {"http://127.0.0.1:9001"}
    by_hand = Found(Record("0" * 32, stray.card), ())
    assert (by_hand.origins, by_hand.token_origins) == ({"http://127.0.0.1:7777"}, set())


@pytest.mark.parametrize("text", ["ftp://x", "http://", "http://h:0", "file:///x", "http://u@h"])
def test_a_worker_origin_that_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--worker-origin"):
        wishes_of(TrustOptions(worker_origin=(text,)), BoundOptions())


def test_paths_of_the_flags_are_made_absolute() -> None:
    wishes = wishes_of(TrustOptions(model_path=Path("a/../b"), file_root=(Path("c"),)), BoundOptions())
    assert wishes.settings.model_path == Path.cwd() / "b"
    assert Path.cwd() / "c" in wishes.roots


@pytest.mark.parametrize("wanted", ["acme", "acme/rive", "ACME/RIVER", "acme/river@blake3:000000", ""])
def test_an_unknown_name_says_what_is_advertised(wanted: str) -> None:
    with pytest.raises(DiscoveryError, match="acme/river") as caught:
        choose((record(1, RIVER),), wanted, "here")
    assert caught.value.code is Code.MODEL_UNKNOWN


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "everything", "", "::/200"])
def test_a_range_that_is_no_network_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--worker-range"):
        ranges_of((text,))


@pytest.mark.parametrize("overlay", ["", "config.json", "=x", "config.json="])
def test_an_overlay_that_is_not_name_and_path_is_a_usage_error(overlay: str) -> None:
    with pytest.raises(UsageError, match="--overlay"):
        settings_of(TrustOptions(overlay=(overlay,)), BoundOptions())


def test_a_digest_for_code_is_checked() -> None:
    with pytest.raises(UsageError, match="--allow-code"):
        settings_of(TrustOptions(allow_code=("md5:1",)), BoundOptions())


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"caf\xc3\xa9", b"\xff", b"a\nb", b"a\x1bb"])
def test_row70_a_token_file_that_holds_no_word_is_a_usage_error_without_the_token(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_token(path)
    assert "caf" not in str(caught.value)


def test_a_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open-sesame\n")
    assert read_token(tmp_path / "token") == "open-sesame"
    assert read_token(None) is None


@given(st.text())
def test_untrusted_text_reaches_the_terminal_without_control_characters(text: str) -> None:
    assert all(c.isprintable() for c in safe(text).plain)


@given(st.integers(min_value=0, max_value=1 << 60))
def test_sizes_are_short_and_never_negative(count: int) -> None:
    number, unit = size_text(count).split()
    assert float(number) >= 0
    assert unit in ("B", "KiB", "MiB", "GiB")


def drawn(pipeline: Pipeline) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(pipeline)
    return out.getvalue()


def test_the_pipeline_tells_bytes_sources_and_what_failed() -> None:
    pipeline = Pipeline("m")
    for fact in (
        StageStarted("m", "plan"), StageEnded("m", "plan", 0.01), StageStarted("m", "fetch", 2048),
        BytesArrived("m", "a", 1024), FileVerified("a", 1024, "WORKER", "u", 0.1), FileHeld("b", 7),
        CandidateFailed("c", "u", Code.NOT_FOUND, "absent"), CandidateFailed("c", "u", Code.DIGEST_MISMATCH, "wrong"),
        StageEnded("m", "fetch", 0.2, ok=False),
    ):  # fmt: skip
        pipeline(fact)
    text = drawn(pipeline)
    assert "2.0 KiB advertised" in text
    assert "1.0 KiB arrived · 1 from worker · 1 held already · 1 tries failed" in text
    assert "2 files as advertised · 1 answers with wrong bytes" in text
    assert text.count("✗") == 2


def test_a_pipeline_that_has_not_begun_shows_every_stage_waiting() -> None:
    text = drawn(Pipeline("m"))
    assert [line.split()[1] for line in text.splitlines()] == [stage.split()[0] for stage in STAGES]
    assert "✓" not in text


def test_every_command_of_the_table_can_be_imported() -> None:
    app = build_app()
    assert {"publish", "resolve", "doctor", "card", "cache"} <= {name for name in app if not name.startswith("-")}
    for group in ("card", "cache"):
        for name in app[group]:
            if not name.startswith("-"):
                assert callable(app[group][name].default_command)


@pytest.mark.parametrize(
    ("variables", "cache", "offline"),
    [
        ({"HOME": "/h"}, "/h/.cache/placecard", False),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x", "HF_HUB_OFFLINE": "1"}, "/x/placecard", True),
        ({"HOME": "/h", "TRANSFORMERS_OFFLINE": "yes"}, "/h/.cache/placecard", True),
        ({"HOME": "/h", "HF_HUB_OFFLINE": "0"}, "/h/.cache/placecard", False),
    ],
)
def test_the_environment_s_conventions_are_read(variables: dict[str, str], cache: str, offline: bool) -> None:
    found = environment(variables)
    assert (str(found.cache_dir), found.hub_offline) == (cache, offline)


def test_without_a_home_nothing_is_written_into_the_working_directory() -> None:
    assert environment({}).cache_dir.is_absolute()
    assert replace(environment({}), debug=True).debug
