"""The seed's rules (NVIDIA Dynamo pull request 9610) and its coverage table, each with a test, and what goes beyond
them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from placecard.admission import State
from placecard.card import Card, digest_of
from placecard.discovery import Record
from placecard.errors import Code
from placecard.resolver import Budget, ResolveSettings, skip_reason
from placecard.source import HubSnapshot
from placecard.store import Origin, Proof, Store
from placecard.telemetry import CandidateFailed

from .world import FILES, World, make_card, read_all, write

COMMIT = "c" * 40
REPO = "acme/river"
TYPED = {name: FILES[name] for name in ("config.json", "tokenizer.json", "tokenizer_config.json")}
SIBLINGS = {
    "special_tokens_map.json": b'{"eos_token": "<|im_end|>"}',
    "preprocessor_config.json": b'{"image_processor_type": "Qwen2VLImageProcessor"}',
    "tokenizer.model": b"\x0asentencepiece",
    "1_Pooling/config.json": b'{"pooling_mode": "mean"}',
}
NINE = ("safetensors", "bin", "gguf", "onnx", "tflite", "h5", "pt", "pth", "msgpack")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def mount(world: World) -> Path:
    """A model directory on a mount that worker and front end share."""
    directory = write(world.root / "mount" / "river", TYPED | SIBLINGS)
    world.roots = [world.root / "mount"]
    return directory


def shared(directory: Path) -> Record:
    """A card of a worker that does not self-host: typed slots only, absolute paths, no sizes."""
    card = make_card(TYPED, source=lambda name: (directory / name).as_uri(), sizes=False)
    return Record("1" * 32, card, complete=False)


def hub_card(revision: str | None = COMMIT) -> Record:
    at = f"@{revision}" if revision else ""
    card = make_card(TYPED, source=lambda name: f"hf://{REPO}{at}/{name}", sizes=False, origin=f"hf://{REPO}")
    return Record("1" * 32, card, complete=False)


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def hub_cache(
    world: World,
    files: dict[str, bytes],
    commit: str = COMMIT,
    etag: Callable[[bytes], str] = lambda data: digest_of(data)[7:47],
) -> Path:
    """Lay ``files`` out as the hub's client does: snapshots are links into the repository's blobs."""
    repository = world.root / "hub" / "models--acme--river"
    snapshot = repository / "snapshots" / commit
    (repository / "blobs").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        blob = repository / "blobs" / etag(data)
        blob.write_bytes(data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    world.roots = [*world.roots, world.root / "hub"]
    world.hub.local.append(HubSnapshot(REPO, commit, snapshot))
    return snapshot


# The coverage table: hub-backed, shared mount, worker without shared mount, self-hosted.


async def test_coverage_shared_mount(world: World, mount: Path) -> None:
    outcome = await world.resolve(shared(mount))
    assert outcome.state is State.READY
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS


async def test_coverage_hub_backed_from_a_local_snapshot_without_network(world: World) -> None:
    hub_cache(world, TYPED | SIBLINGS)
    world.settings = ResolveSettings(offline=True)
    outcome = await world.resolve(hub_card())
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS


async def test_coverage_hub_backed_from_the_hub_itself(world: World) -> None:
    world.hub.add(REPO, COMMIT, TYPED | SIBLINGS | {"model.safetensors": b"w", ".gitattributes": b"x", "run.py": b"p"})
    outcome = await world.resolve(hub_card(None))
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS
    proofs = {entry.name: entry.proof for entry in outcome.entries}
    assert {proofs[name] for name in SIBLINGS} == {Proof.COMMIT}
    assert {each.name: each.reason for each in outcome.left_out} == {
        "model.safetensors": "weights", ".gitattributes": "hidden", "run.py": "code",
    }  # fmt: skip


async def test_coverage_old_worker_without_shared_mount_falls_back_to_the_hub(world: World) -> None:
    world.hub.add(REPO, COMMIT, TYPED | SIBLINGS)
    card = make_card(TYPED, source=lambda name: f"file:///absent/river/{name}", sizes=False, origin=f"hf://{REPO}")
    outcome = await world.resolve(Record("1" * 32, card, complete=False))
    assert outcome.state is State.READY
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS


async def test_coverage_self_hosted_worker_advertises_its_siblings(world: World) -> None:
    files = TYPED | SIBLINGS
    outcome = await world.resolve(world.serve(make_card(files), files))
    assert outcome.directory is not None
    assert read_all(outcome.directory) == files
    assert {entry.proof for entry in outcome.entries} == {Proof.ADVERTISED}


# The ladder.


async def test_the_ladder_prefers_the_worker_s_path_over_the_model_path(world: World, mount: Path) -> None:
    other = write(world.root / "other", TYPED)
    world.settings = ResolveSettings(model_path=other)
    world.roots = [*world.roots, other]
    outcome = await world.resolve(shared(mount))
    assert {entry.origin for entry in outcome.entries if entry.name in TYPED} == {Origin.FILE}


async def test_the_ladder_goes_to_the_model_path_when_the_worker_s_path_is_absent(world: World) -> None:
    here = write(world.root / "here", TYPED | SIBLINGS)
    world.settings, world.roots = ResolveSettings(model_path=here), [here]
    outcome = await world.resolve(shared(Path("/absent/river")))
    assert outcome.state is State.READY
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS
    assert {entry.origin for entry in outcome.entries} == {Origin.MODEL_PATH}


async def test_the_ladder_goes_on_after_a_mismatch(world: World, mount: Path) -> None:
    (mount / "config.json").write_bytes(b'{"model_type": "other"}')
    good = write(world.root / "good", TYPED)
    world.settings, world.roots = ResolveSettings(model_path=good), [*world.roots, good]
    outcome = await world.resolve(shared(mount).__class__("1" * 32, _typed_card(mount), complete=False))
    assert outcome.state is State.READY
    assert any(isinstance(fact, CandidateFailed) and fact.code is Code.DIGEST_MISMATCH for fact in world.facts)


async def test_row67_a_revision_that_moved_is_refused_because_the_digests_decide(world: World) -> None:
    world.hub.add(REPO, COMMIT, TYPED | {"config.json": b'{"model_type": "moved"}'})
    outcome = await world.resolve(hub_card(None))
    assert outcome.state is State.REFUSED
    assert outcome.errors[0].code in (Code.DIGEST_MISMATCH, Code.SIZE_MISMATCH)


async def test_an_unpinned_revision_is_resolved_to_a_commit_once_and_remembered(world: World) -> None:
    world.hub.add(REPO, COMMIT, TYPED | SIBLINGS)
    await world.resolve(hub_card(None))
    asked = len(world.hub.asked)
    world.hub.add(REPO, "d" * 40, {"config.json": b"{}"})  # the branch moves
    again = await world.resolve(hub_card(None))
    assert world.hub.pinned == [REPO]
    assert len(world.hub.asked) == asked
    assert again.directory is not None
    assert read_all(again.directory) == TYPED | SIBLINGS


async def test_row68_a_stale_snapshot_of_another_commit_serves_what_still_has_the_right_digest(world: World) -> None:
    hub_cache(world, TYPED, commit="e" * 40)
    outcome = await world.resolve(hub_card(COMMIT))
    assert outcome.state is not State.REFUSED
    assert {entry.origin for entry in outcome.entries} == {Origin.HUB}
    assert world.hub.asked.count(f"hf://{REPO}@{COMMIT}/config.json") == 0


async def test_a_hub_that_cannot_list_its_siblings_is_told(world: World) -> None:
    world.hub.add(REPO, COMMIT, TYPED)
    del world.hub.listings[REPO, COMMIT]
    outcome = await world.resolve(hub_card(None))
    assert outcome.state is State.DEGRADED
    assert [fact.code for fact in outcome.degraded] == [Code.HUB_OFFLINE]


# The harvest.


async def test_typed_names_are_never_overwritten(world: World, mount: Path) -> None:
    other = write(world.root / "other", {"config.json": b"{}", "CONFIG.JSON": b"{}", "more.json": b"1"})
    world.settings, world.roots = ResolveSettings(model_path=other), [*world.roots, other]
    outcome = await world.resolve(shared(mount))
    assert outcome.directory is not None
    found = read_all(outcome.directory)
    assert found["config.json"] == TYPED["config.json"]
    assert "CONFIG.JSON" not in found
    assert found["more.json"] == b"1"


@pytest.mark.parametrize("suffix", [*NINE, "SAFETENSORS", "Bin", "ckpt", "npz", "nemo", "engine"])
async def test_row33_weights_by_their_extensions_stay_out(world: World, mount: Path, suffix: str) -> None:
    write(mount, {f"model.{suffix}": b"w", f"nested/model.{suffix}": b"w", "model.safetensors.index.json": b"{}"})
    outcome = await world.resolve(shared(mount))
    assert outcome.directory is not None
    assert read_all(outcome.directory).keys() == (TYPED | SIBLINGS).keys() | {"model.safetensors.index.json"}
    reasons = {each.name: each.reason for each in outcome.left_out}
    assert reasons == {f"model.{suffix}": "weights", f"nested/model.{suffix}": "weights"}


async def test_row32_hidden_files_and_code_stay_out_and_are_listed_and_that_degrades_nothing(
    world: World, mount: Path
) -> None:
    write(mount, {".env": b"SECRET", "modeling.py": b"x", "lib.so": b"x", "data.pkl": b"x", "sub/.git": b"x"})
    outcome = await world.resolve(shared(mount))
    assert outcome.state is State.READY
    assert {each.name: each.reason for each in outcome.left_out} == {
        ".env": "hidden", "modeling.py": "code", "lib.so": "code", "data.pkl": "code", "sub/.git": "hidden",
    }  # fmt: skip


async def test_every_sibling_of_every_source_comes_in_and_a_differing_loser_is_listed(
    world: World, mount: Path
) -> None:
    other = write(world.root / "other", {"extra.json": b"2", "special_tokens_map.json": b"another"})
    world.settings, world.roots = ResolveSettings(model_path=other), [*world.roots, other]
    outcome = await world.resolve(shared(mount))
    assert outcome.directory is not None
    found = read_all(outcome.directory)
    assert found["extra.json"] == b"2"
    assert found["special_tokens_map.json"] == SIBLINGS["special_tokens_map.json"]
    (loser,) = outcome.left_out
    assert loser.name == "special_tokens_map.json"
    assert str(other) in loser.reason


async def test_hub_snapshots_are_links_into_blobs_and_are_followed(world: World) -> None:
    snapshot = hub_cache(world, TYPED | SIBLINGS)
    assert (snapshot / "1_Pooling" / "config.json").is_symlink()
    world.settings = ResolveSettings(offline=True)
    outcome = await world.resolve(hub_card())
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS
    for path in outcome.directory.rglob("*"):
        assert path.resolve().is_relative_to((world.root / "store").resolve())


async def test_row34_links_that_lead_out_of_the_directory_stay_out(world: World, mount: Path) -> None:
    secret = world.root / "mount" / "id_rsa"
    secret.write_bytes(b"secret")
    (mount / "stolen.json").symlink_to(secret)
    (mount / "dangling.json").symlink_to("nowhere")
    (mount / "loop.json").symlink_to("loop.json")
    outcome = await world.resolve(shared(mount))
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS
    assert {each.name for each in outcome.left_out} == {"stolen.json", "dangling.json", "loop.json"}
    assert outcome.state is State.DEGRADED
    assert {(fact.missing, fact.code) for fact in outcome.degraded} == {
        (name, Code.SIBLING_UNREADABLE) for name in ("stolen.json", "dangling.json", "loop.json")
    }


async def test_row31_odd_siblings_cost_themselves_and_not_the_model(world: World, mount: Path) -> None:
    write(mount, {"docs": b"x", "Docs/x.md": b"x", "aux.txt": b"x", "x?": b"x"})
    outcome = await world.resolve(shared(mount))
    assert outcome.state is State.DEGRADED
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS | {"docs": b"x"}


async def test_a_missing_folder_is_a_no_op(world: World, mount: Path) -> None:
    world.settings = ResolveSettings(model_path=world.root / "nowhere")
    outcome = await world.resolve(shared(mount))
    assert outcome.state is State.READY
    assert outcome.left_out == ()


async def test_a_changed_sibling_is_picked_up_on_the_next_warm_resolve(world: World, mount: Path) -> None:
    first = await world.resolve(shared(mount))
    (mount / "preprocessor_config.json").write_bytes(b'{"image_processor_type": "Other"}')
    (mount / "new.json").write_bytes(b"new")
    second = await world.resolve(shared(mount))
    assert first.directory is not None
    assert second.directory is not None
    assert first.content_digest == second.content_digest
    assert read_all(second.directory)["preprocessor_config.json"] == b'{"image_processor_type": "Other"}'
    assert read_all(second.directory)["new.json"] == b"new"
    assert read_all(first.directory) == TYPED | SIBLINGS  # the reader of the old generation is not disturbed


async def test_a_sibling_that_vanished_is_gone_from_the_next_directory(world: World, mount: Path) -> None:
    await world.resolve(shared(mount))
    (mount / "tokenizer.model").unlink()
    outcome = await world.resolve(shared(mount))
    assert outcome.directory is not None
    assert "tokenizer.model" not in read_all(outcome.directory)


async def test_an_unchanged_warm_resolve_gives_the_same_generation_without_copying(world: World, mount: Path) -> None:
    first = await world.resolve(shared(mount))
    inodes = {path.name: path.stat().st_ino for path in (world.root / "store" / "blobs-v1").iterdir()}
    second = await world.resolve(shared(mount))
    assert second.directory == first.directory
    assert {path.name: path.stat().st_ino for path in (world.root / "store" / "blobs-v1").iterdir()} == inodes


async def test_siblings_are_copies_and_a_later_write_to_the_source_cannot_reach_them(world: World, mount: Path) -> None:
    outcome = await world.resolve(shared(mount))
    with (mount / "special_tokens_map.json").open("r+b") as writer:
        writer.write(b"OVERWRITTEN")
    assert outcome.directory is not None
    assert read_all(outcome.directory)["special_tokens_map.json"] == SIBLINGS["special_tokens_map.json"]


async def test_the_directory_of_an_operator_s_template_is_not_harvested(world: World, mount: Path) -> None:
    own = write(world.root / "mount" / "templates", {"chat_template.jinja": b"{{ x }}", "private.json": b"1"})
    card = make_card(TYPED, source=lambda name: (mount / name).as_uri())
    template = make_card(
        {"config.json": b"1", "chat_template.jinja": b"{{ x }}"}, source=lambda name: (own / name).as_uri()
    ).files[1]
    outcome = await world.resolve(Record("1" * 32, Card(name="m", files=(*card.files, template)), complete=False))
    assert outcome.directory is not None
    found = read_all(outcome.directory)
    assert found["chat_template.jinja"] == b"{{ x }}"
    assert "private.json" not in found


async def test_row24_a_card_cannot_name_etc(world: World) -> None:
    data = Path("/etc/hostname").read_bytes() if Path("/etc/hostname").exists() else b""
    files = TYPED | {"hostname": data or b"x"}
    card = make_card(files, source=lambda name: f"file:///etc/{name}")
    outcome = await world.resolve(Record("1" * 32, card, complete=False))
    assert outcome.state is State.REFUSED
    assert {error.code for error in outcome.errors} == {Code.PATH_FORBIDDEN}
    assert all("--file-root" in error.mend for error in outcome.errors)
    assert list((world.root / "store" / "blobs-v1").iterdir()) == []


async def test_row35_a_directory_over_the_bounds_is_cut_and_told(world: World, mount: Path) -> None:
    write(mount, {f"many/{index:03}.json": b"%d" % index for index in range(60)})
    world.settings = ResolveSettings(budget=Budget(harvest_files=20))
    outcome = await world.resolve(shared(mount))
    assert outcome.state is State.DEGRADED
    assert {fact.code for fact in outcome.degraded} == {Code.HARVEST_TRUNCATED}
    assert len(outcome.entries) <= len(TYPED) + 20


async def test_row35_siblings_over_the_byte_bound_are_cut_and_told(world: World, mount: Path) -> None:
    write(mount, {"zz.json": b"x" * 10_000})
    world.settings = ResolveSettings(budget=Budget(harvest_bytes=5_000))
    outcome = await world.resolve(shared(mount))
    assert Code.HARVEST_TRUNCATED in {fact.code for fact in outcome.degraded}
    assert outcome.directory is not None
    assert "zz.json" not in read_all(outcome.directory)


async def test_strict_takes_what_the_hub_cache_proves_and_refuses_what_only_looks_like_it(world: World) -> None:
    snapshot = hub_cache(world, TYPED | SIBLINGS, etag=git_sha1)
    world.settings = ResolveSettings(offline=True, strict=True)
    assert (await world.resolve(hub_card())).state is State.READY
    world.hub.local.clear()
    outcome = await world.resolve(shared(snapshot))
    assert {error.code for error in outcome.errors} == {Code.UNPROVEN_FILE}, "a card may name any directory"
    forged = write(world.root / "hub" / "plain", TYPED)
    (forged / "blobs").mkdir()
    (forged / "blobs" / git_sha1(b"{}")).write_bytes(b"{}")
    (forged / "special_tokens_map.json").symlink_to(f"blobs/{git_sha1(b'{}')}")
    outcome = await world.resolve(shared(forged))
    assert Code.UNPROVEN_FILE in {error.code for error in outcome.errors}


async def test_strict_refuses_a_sibling_that_was_only_seen(world: World, mount: Path) -> None:
    world.settings = ResolveSettings(strict=True)
    outcome = await world.resolve(shared(mount))
    assert outcome.state is State.REFUSED
    assert {error.code for error in outcome.errors} == {Code.UNPROVEN_FILE}


async def test_row57_copies_serve_where_links_are_not_to_be_had(
    world: World, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    store = Store.open(world.root / "store")
    async with world.resolver(store) as resolver:
        outcome = await resolver.resolve(shared(mount))
    assert outcome.state is State.READY
    assert outcome.directory is not None
    assert read_all(outcome.directory) == TYPED | SIBLINGS
    assert not any(path.is_symlink() for path in outcome.directory.rglob("*"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("config.json", "advertised"), ("CONFIG.json", "advertised"), ("ｃonfig.json", "advertised"),
        ("config.json/x", "advertised"), ("model.BIN", "weights"), ("x.py", "code"), (".env", "hidden"),
        ("a/.b/c", "hidden"), ("aux.txt", "unsafe name"), ("a:b.txt", "unsafe name"), ("x?", "unsafe name"),
        ("aux.bin", "weights"), ("model.bin.index.json", None), ("preprocessor_config.json", None),
        ("tekken.json", None),
    ],
)  # fmt: skip
def test_row31_the_rule_is_one_pure_function(name: str, reason: str | None) -> None:
    assert skip_reason(name, taken={"config.json": "advertised"}) == reason


def _typed_card(directory: Path) -> Card:
    return make_card(TYPED, source=lambda name: (directory / name).as_uri())
