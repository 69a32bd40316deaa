"""A card of ours, written as Dynamo reads it."""

from __future__ import annotations

from typing import Any

import pytest

from placecard.card import Card, CheckedFile, LeftOut, Lora, Role, Serving, digest_of
from placecard.dynamo import card_from_dynamo, card_to_dynamo, left_out_for_dynamo
from placecard.dynamo.publish import instance_record
from placecard.errors import Code
from tests.unit.dynamo.cards import refusals

BASE_URL = "http://10.0.0.1:9000"


def file(name: str, role: Role = Role.EXTRA, **changes: Any) -> CheckedFile:
    return CheckedFile(name=name, digest=digest_of(name.encode()), size=len(name), role=role.value, **changes)


CONFIG = file("config.json", Role.MODEL_INFO)


def write(*files: CheckedFile, base_url: str | None = BASE_URL, **changes: Any) -> dict[str, Any]:
    card = Card(name="Acme/River", files=(CONFIG, *files), **changes)
    return card_to_dynamo(card, base_url=base_url, namespace="dynamo", component="backend", endpoint="generate")


@pytest.mark.parametrize(
    ("name", "role", "slot", "kind"),
    [
        ("tokenizer.json", Role.TOKENIZER, "tokenizer", "hf_tokenizer_json"),
        ("tiktoken.model", Role.TOKENIZER, "tokenizer", "tik_token_model"),
        ("o200k.tiktoken", Role.TOKENIZER, "tokenizer", "tik_token_model"),
        ("tokenizer_config.json", Role.TOKENIZER_CONFIG, "prompt_formatter", "hf_tokenizer_config_json"),
        ("generation_config.json", Role.GENERATION_CONFIG, "gen_config", "hf_generation_config_json"),
    ],
)
def test_a_typed_file_goes_into_its_slot(name: str, role: Role, slot: str, kind: str) -> None:
    url = f"{BASE_URL}/v1/metadata/acme_river/{name}"
    assert write(file(name, role))[slot] == {
        kind: {"path": url, "checksum": digest_of(name.encode()), "size": len(name)}
    }


@pytest.mark.parametrize(
    ("name", "kind", "custom"),
    [
        ("chat_template.jinja", "hf_chat_template", False),
        ("chat_template.json", "hf_chat_template_json", False),
        ("mine.jinja", "hf_chat_template", True),
    ],
)
def test_a_template_says_whether_it_is_the_operators_own(name: str, kind: str, *, custom: bool) -> None:
    ((written, body),) = write(file(name, Role.CHAT_TEMPLATE))["chat_template_file"].items()
    assert (written, body["is_custom"]) == (kind, custom)


def test_a_tokenizer_without_a_kind_of_its_own_is_an_extra_file() -> None:
    body = write(file("tokenizer.model", Role.TOKENIZER))
    assert body["tokenizer"] is None
    assert [extra["path"].rpartition("/")[2] for extra in body["extra_files"]] == ["tokenizer.model"]


def test_serving_is_said_in_dynamos_words() -> None:
    serving = Serving(
        aliases=("a", "b"),
        context_length=77,
        kv_block_size=32,
        worker_type="prefill",
        tool_parser="hermes",
        reasoning_parser="qwen3",
        lora=Lora(name="t"),
    )
    body = write(serving=serving)
    assert (body["display_name"], body["slug"], body["aliases"]) == ("Acme/River", "acme_river", ["a", "b"])
    assert (body["context_length"], body["kv_cache_block_size"], body["worker_type"]) == (77, 32, "prefill")
    assert body["runtime_config"] == {"context_length": 77, "tool_call_parser": "hermes", "reasoning_parser": "qwen3"}
    assert (body["model_type"], body["model_input"], body["lora"]) == ("Chat | Completions", "Tokens", {"name": "t"})


@pytest.mark.parametrize(
    ("origin", "source_path"),
    [
        ("/models/river", "/models/river"),
        ("hf://acme/river@0123456789abcdef0123456789abcdef01234567", "acme/river"),
        (None, None),
    ],
)
def test_the_origin_becomes_the_source_path(origin: str | None, source_path: str | None) -> None:
    assert write(origin=origin).get("source_path") == source_path


def test_what_we_write_reads_back_as_the_same_card() -> None:
    serving = Serving(aliases=("a",), context_length=77, kv_block_size=32, worker_type="decode", tool_parser="hermes")
    files = (CONFIG, file("tokenizer.json", Role.TOKENIZER), file("a b&河.json"), file("empty.txt"))
    card = Card(name="Acme/River", origin="/models/river", files=files, serving=serving)
    written = card_to_dynamo(card, base_url=BASE_URL, namespace="n", component="c", endpoint="e")
    reread, info = card_from_dynamo(written)
    assert [(f.name, f.digest, f.size, f.role) for f in reread.files] == [
        (f.name, f.digest, f.size, f.role) for f in files
    ]
    assert (reread.serving, reread.origin, reread.name, info.notes) == (serving, "/models/river", "Acme/River", ())


def test_nested_files_and_code_are_left_out_and_said_to_be() -> None:
    files = (CONFIG, file("1_Pooling/config.json"), file("modeling.py"), file("vocab.json"))
    card = Card(name="river", files=files)
    body = card_to_dynamo(card, base_url=BASE_URL, namespace="n", component="c", endpoint="e")
    assert [extra["path"].rpartition("/")[2] for extra in body["extra_files"]] == ["vocab.json"]
    assert left_out_for_dynamo(card) == (LeftOut("1_Pooling/config.json", "nested"), LeftOut("modeling.py", "code"))


def test_without_a_host_the_first_source_that_dynamo_can_open_is_taken() -> None:
    config = file("config.json", Role.MODEL_INFO, sources=("hf://a/b@main/x/config.json", "file:///m/config.json"))
    card = Card(name="river", files=(config,))
    body = card_to_dynamo(card, base_url=None, namespace="n", component="c", endpoint="e")
    assert body["model_info"]["hf_config_json"]["path"] == "/m/config.json"


@pytest.mark.parametrize(("origin", "path"), [("/models/river", "/models/river/config.json"), (None, "config.json")])
def test_a_file_without_a_source_is_left_to_dynamos_own_search(origin: str | None, path: str) -> None:
    assert write(base_url=None, origin=origin)["model_info"]["hf_config_json"]["path"] == path


@pytest.mark.parametrize("part", ["", "a/b"])
def test_a_worker_place_that_is_no_key_is_refused(part: str) -> None:
    card = Card(name="river", files=(CONFIG,))
    act = lambda: card_to_dynamo(card, base_url=BASE_URL, namespace=part, component="c", endpoint="e")  # noqa: E731
    assert refusals(act) == [Code.CARD_BAD_STRING]


def test_an_instance_names_its_transport_as_dynamo_does() -> None:
    record = instance_record(namespace="n", component="c", endpoint="e", instance_id=255, address="10.0.0.1:7")
    assert record["transport"] == {"tcp": "10.0.0.1:7/ff/n/c/e"}  # as stock workers of ai-dynamo 1.6.1 write it
