"""Planning is pure: which files are wanted and where each is asked for, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from placecard.card import Card, CheckedFile, digest_of
from placecard.errors import Code
from placecard.resolver import Budget, HubPin, Overlay, Places, ResolveSettings, candidates, harvest_directories, plan
from placecard.source import HubSnapshot
from placecard.store import Origin

from .world import FILES, WORKER, make_card

COMMIT, OTHER = "a" * 40, "b" * 40
REPO = "acme/river"


def hub(name: str) -> str:
    return f"hf://{REPO}@{COMMIT}/{name}"


def file_with(*sources: str, name: str = "config.json") -> CheckedFile:
    return CheckedFile(name=name, digest=digest_of(b"x"), size=1, role="extra", sources=sources)


def test_the_ladder_goes_from_near_to_far() -> None:
    file = file_with(hub("config.json"), f"{WORKER}/v1/metadata/m/config.json", "file:///models/river/config.json")
    places = Places(
        peer_urls=lambda digest: (f"http://10.0.0.2:9/v1/blobs/blake3/{digest[7:]}",),
        snapshots=(HubSnapshot(REPO, OTHER, Path("/hub/o")), HubSnapshot(REPO, COMMIT, Path("/hub/c"))),
    )
    found = list(candidates(file, places, ResolveSettings(model_path=Path("/mnt/model"))))
    assert [c.origin for c in found] == [
        Origin.HUB, Origin.HUB, Origin.FILE, Origin.MODEL_PATH, Origin.WORKER, Origin.PEER, Origin.HUB,
    ]  # fmt: skip
    assert [str(c.uri) for c in found][:2] == ["file:///hub/c/config.json", "file:///hub/o/config.json"]
    assert str(found[-1].uri) == hub("config.json")


def test_offline_leaves_the_hub_out_and_keeps_its_local_snapshots() -> None:
    places = Places(snapshots=(HubSnapshot(REPO, COMMIT, Path("/hub/c")),))
    found = list(candidates(file_with(hub("config.json")), places, ResolveSettings(offline=True)))
    assert [str(c.uri) for c in found] == ["file:///hub/c/config.json"]


def test_row26_an_unpinned_hub_source_is_asked_for_only_at_the_commit_it_was_pinned_to() -> None:
    file = file_with(f"hf://{REPO}/config.json")
    assert list(candidates(file, Places(), ResolveSettings())) == []
    pinned = list(candidates(file, Places(pins=(HubPin(REPO, COMMIT),)), ResolveSettings()))
    assert [str(c.uri) for c in pinned] == [hub("config.json")]


def test_a_candidate_stands_once_however_often_it_is_named() -> None:
    file = file_with(hub("config.json"), hub("config.json"))
    assert len(list(candidates(file, Places(), ResolveSettings()))) == 1


def test_the_model_path_is_tried_under_the_worker_s_own_base_name_too() -> None:
    file = file_with("file:///opt/templates/my.jinja", name="chat_template.jinja")
    found = [str(c.uri) for c in candidates(file, Places(), ResolveSettings(model_path=Path("/mnt/m")))]
    assert found == ["file:///opt/templates/my.jinja", "file:///mnt/m/chat_template.jinja", "file:///mnt/m/my.jinja"]


def test_the_same_arguments_give_the_same_plan_whatever_the_order_of_files() -> None:
    card = make_card()
    turned = Card(name=card.name, files=tuple(reversed(card.files)))
    assert plan(card, Places(), ResolveSettings()) == plan(turned, Places(), ResolveSettings())


@pytest.mark.parametrize(
    "name", ["model.safetensors", "a/b/weights.BIN", "run.py", "lib.SO", "data.pkl", ".env", "x/.git/y"]
)
def test_weights_code_and_hidden_files_of_a_card_stay_out_with_the_reason(name: str) -> None:
    card = make_card(FILES | {name: b"x"})
    the_plan = plan(card, Places(), ResolveSettings())
    assert name not in {want.file.name for want in the_plan.wants}
    assert [each.name for each in the_plan.left_out] == [name]


def test_code_comes_in_only_by_its_digest() -> None:
    card = make_card(FILES | {"modeling.py": b"print()", "other.py": b"raise"})
    allowed = ResolveSettings(allowed_code=frozenset({digest_of(b"print()")}))
    names = {want.file.name for want in plan(card, Places(), allowed).wants}
    assert "modeling.py" in names
    assert "other.py" not in names


def test_a_role_of_a_newer_release_is_skipped_and_the_card_lives() -> None:
    card = make_card()
    newer = Card(
        name="m", files=(*card.files, CheckedFile(name="v.json", digest=digest_of(b"v"), size=1, role="voices"))
    )
    the_plan = plan(newer, Places(), ResolveSettings())
    assert [(each.name, "voices" in each.reason) for each in the_plan.left_out] == [("v.json", True)]
    assert not the_plan.refusals


def test_an_overlay_replaces_the_advertised_file() -> None:
    settings = ResolveSettings(overlays=(Overlay("config.json", Path("/etc/own.json")),))
    assert "config.json" not in {want.file.name for want in plan(make_card(), Places(), settings).wants}


def test_row20_a_file_over_the_cap_is_refused_before_anything_is_asked() -> None:
    size = len(FILES["special_tokens_map.json"])  # the largest
    exact = ResolveSettings(budget=Budget(max_file_bytes=size))
    assert plan(make_card(), Places(), exact).refusals == ()
    below = ResolveSettings(budget=Budget(max_file_bytes=size - 1))
    assert [e.code for e in plan(make_card(), Places(), below).refusals] == [Code.SIZE_CAP]


def test_row21_files_over_the_total_budget_are_refused() -> None:
    total = sum(map(len, FILES.values()))
    assert plan(make_card(), Places(), ResolveSettings(budget=Budget(max_card_bytes=total))).refusals == ()
    refusals = plan(make_card(), Places(), ResolveSettings(budget=Budget(max_card_bytes=total - 1))).refusals
    assert [e.code for e in refusals] == [Code.CARD_TOO_LARGE]


def test_weights_on_a_card_do_not_count_against_the_budget() -> None:
    big = CheckedFile(name="model.safetensors", digest=digest_of(b"w"), size=1 << 40)
    card = Card(name="m", files=(*make_card().files, big))
    assert plan(card, Places(), ResolveSettings()).refusals == ()


def test_siblings_come_from_hub_snapshot_worker_path_and_model_path_in_this_order() -> None:
    card = Card(
        name="m",
        files=(
            file_with(hub("config.json")),
            file_with("file:///models/river/sub/x.json", name="sub/x.json"),
        ),
    )
    places = Places(snapshots=(HubSnapshot(REPO, COMMIT, Path("/hub/c")), HubSnapshot(REPO, OTHER, Path("/hub/o"))))
    found = harvest_directories(card, places, ResolveSettings(model_path=Path("/mnt/m")))
    assert found == (
        (Path("/hub/c"), Origin.HUB), (Path("/models/river"), Origin.FILE), (Path("/mnt/m"), Origin.MODEL_PATH),
    )  # fmt: skip


def test_the_directory_of_an_operator_s_own_template_is_never_harvested() -> None:
    template = CheckedFile(
        name="chat_template.jinja", digest=digest_of(b"t"), size=1, role="chat_template", sources=("file:///tmp/chat_template.jinja",)
    )  # fmt: skip
    card = Card(name="m", files=(file_with("file:///models/river/config.json"), template))
    assert harvest_directories(card, Places(), ResolveSettings()) == ((Path("/models/river"), Origin.FILE),)


def test_a_model_s_own_template_is_harvested_with_its_model() -> None:
    template = CheckedFile(
        name="chat_template.jinja", digest=digest_of(b"t"), size=1, role="chat_template", sources=("file:///models/river/chat_template.jinja",)
    )  # fmt: skip
    card = Card(name="m", files=(file_with("file:///models/river/config.json"), template))
    assert harvest_directories(card, Places(), ResolveSettings()) == ((Path("/models/river"), Origin.FILE),)


def test_a_self_hosted_card_names_no_directory() -> None:
    assert harvest_directories(make_card(), Places(), ResolveSettings()) == ()
