"""Cards that differ in one field each, and what a stock front end makes of them."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any, Final

from placecard.card import digest_of
from placecard.dynamo.filekv import encode_key
from tests.interop.stock import StockFleet, until

NOWHERE: Final = "http://127.0.0.1:9/v1/metadata/ns/backend/generate/s/_base"  # refused at once: only the sum is wanted


def checked(name: str, base: str = NOWHERE) -> dict[str, Any]:
    """Return a file of a Dynamo card, with the digest of its own name."""
    return {"path": f"{base}/{name}", "checksum": digest_of(name.encode()), "size": len(name)}


BASE: Final[dict[str, Any]] = {
    "display_name": "acme/river-7b",
    "slug": "acme_river-7b",
    "source_path": "acme/river-7b",
    "model_info": {"hf_config_json": checked("config.json")},
    "tokenizer": {"hf_tokenizer_json": checked("tokenizer.json")},
    "prompt_formatter": {"hf_tokenizer_config_json": checked("tokenizer_config.json")},
    "chat_template_file": {"hf_chat_template": {"is_custom": False, "file": checked("chat_template.jinja")}},
    "gen_config": {"hf_generation_config_json": checked("generation_config.json")},
    "context_length": 4096,
    "kv_cache_block_size": 16,
    "migration_limit": 0,
    "model_type": "Chat | Completions",
    "model_input": "Tokens",
    "worker_type": "aggregated",
    "needs": [],
    "media_decoder": None,
    "media_fetcher": None,
}
# As ai-dynamo 1.6.1 writes RouterConfig(RouterMode.KV) of register_model.
ROUTER: Final[dict[str, Any]] = {
    "router_mode": "k_v",
    "kv_router_config": {
        "overlap_score_credit": 1.0,
        "overlap_score_credit_decay": 0.0,
        "prefill_load_scale": 1.0,
        "host_cache_hit_weight": 0.75,
        "disk_cache_hit_weight": 0.25,
        "router_temperature": 0.0,
        "use_kv_events": True,
        "router_replica_sync": False,
        "router_track_active_blocks": True,
        "router_track_output_blocks": False,
        "router_assume_kv_reuse": True,
        "router_track_prefill_tokens": True,
        "router_prefill_load_model": "none",
        "router_ttl_secs": 120.0,
        "router_queue_threshold": None,
        "router_policy_config": None,
        "router_event_threads": 4,
        "skip_initial_worker_wait": False,
        "router_queue_policy": "fcfs",
        "use_remote_indexer": False,
        "serve_indexer": False,
        "shared_cache_type": "none",
        "router_predicted_ttl_secs": None,
    },
    "load_threshold_config": {},
    "enforce_disagg": False,
    "session_affinity_ttl_secs": None,
    "session_affinity_mode": "hard",
}
_CONTRACT: Final = "vllm_nemotron_video_processor_contract"
_LORA: Final = "vllm_enable_tower_connector_lora"
_GENERATE: Final = "vllm_inference_v1_generate"
_ABSENT: Final = object()


def variant(**changes: Any) -> dict[str, Any]:
    """Return :data:`BASE` with ``changes``; :data:`_ABSENT` takes a key away."""
    card = copy.deepcopy(BASE) | changes
    return {key: value for key, value in card.items() if value is not _ABSENT}


def _runtime(**data: Any) -> dict[str, Any]:
    return {"runtime_config": {"runtime_data": data}}


CASES: Final[dict[str, dict[str, Any]]] = {
    "base": BASE,
    "other name": variant(display_name="acmé/河"),
    "no source path": variant(source_path=_ABSENT),
    "empty source path": variant(source_path=""),
    "source path is a directory": variant(source_path="/models/river"),
    "no optional slots": variant(
        tokenizer=None, prompt_formatter=_ABSENT, chat_template_file=_ABSENT, gen_config=_ABSENT
    ),
    "template, other key": variant(
        chat_template_file={"hf_chat_template_jinja": {"is_custom": False, "file": checked("chat_template.jinja")}}
    ),
    "template in JSON": variant(
        chat_template_file={"hf_chat_template_json": {"is_custom": False, "file": checked("chat_template.json")}}
    ),
    "template, custom": variant(
        chat_template_file={"hf_chat_template": {"is_custom": True, "file": checked("mine.jinja")}}
    ),
    "tiktoken": variant(tokenizer={"tik_token_model": checked("tiktoken.model")}),
    "paths, not URLs": variant(model_info={"hf_config_json": checked("config.json", "/models/river")}),
    "extra files": variant(extra_files=[checked(n) for n in ("vocab.json", "LICENSE", "preprocessor_config.json")]),
    "extra files, other order": variant(
        extra_files=[checked(n) for n in ("LICENSE", "preprocessor_config.json", "vocab.json")]
    ),
    "extra files, space": variant(extra_files=[checked("a b.json")]),
    "extra files, encoded": variant(extra_files=[checked("a%20b.json"), checked("%E6%B2%B3.json")]),
    "extra files, space in a path": variant(extra_files=[checked("a b.json", "/models/river")]),
    "extra files, not ASCII": variant(extra_files=[checked("é.json"), checked("河.json", "/models/river")]),
    "extra files, nested": variant(extra_files=[checked("1_Pooling/config.json")]),
    "context of the runtime": variant(runtime_config={"context_length": 2048}, architectural_max_context_length=9999),
    "context zero": variant(runtime_config={"context_length": 0}, architectural_max_context_length=9999),
    "context of the architecture": variant(architectural_max_context_length=9999),
    "context absent": variant(context_length=_ABSENT),
    "block size": variant(kv_cache_block_size=64),
    "prefill": variant(worker_type="prefill"),
    "decode": variant(worker_type="decode"),
    "encode": variant(worker_type="encode"),
    "no worker type": variant(worker_type=None),
    "needs one": variant(worker_type="decode", needs=[["prefill"]]),
    "needs more": variant(needs=[["prefill", "encode"], ["decode"], ["aggregated"]]),
    "aliases": variant(aliases=["river", "acme-7b", "река"]),
    "aliases, other order": variant(aliases=["acme-7b", "river", "река"]),
    "router": variant(router_config=ROUTER),
    "router and aliases": variant(router_config=ROUTER, aliases=["river"]),
    "prompt context": variant(prompt_context=["llama3_date_time", "oai_chat"]),
    "prompt context, empty": variant(prompt_context=[]),
    "identity": variant(indexer_identity={"semantics": {"b": "x", "a": "yy"}, "routing_scope": {"zone": "é"}}),
    "identity, semantics": variant(indexer_identity={"semantics": {"a": "b"}}),
    "identity, scope": variant(indexer_identity={"routing_scope": {"a": "b"}}),
    "identity, empty": variant(indexer_identity={}),
    "identity and aliases": variant(aliases=["river"], indexer_identity={"semantics": {"a": "b"}}),
    "runtime flag": variant(**_runtime(**{_LORA: True})),
    "runtime flag, string": variant(**_runtime(**{_LORA: "true"})),
    "runtime flag, off": variant(**_runtime(**{_LORA: False})),
    "runtime flags": variant(aliases=["river"], **_runtime(**{_GENERATE: True, _LORA: True})),
    "runtime contract": variant(**_runtime(**{_CONTRACT: {"b": 1, "a": [1.5, {"z": None, "é": "ü"}]}, _LORA: True})),
    "runtime contract, null": variant(**_runtime(**{_CONTRACT: None})),
    "not hashed": variant(user_data={"a": 1}, model_type="Chat", migration_limit=3, **_runtime(other=True)),
}
"""What the checksum covers and what it does not, one by one."""


def stock_sums(fleet: StockFleet, cards: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the checksum that a stock front end computes for each card: the directory it makes for its files."""
    paths = []
    (fleet.kv / "v1/mdc").mkdir(parents=True, exist_ok=True)
    for index, card in enumerate(cards.values()):
        key = f"case{index}/backend/generate/{index + 1:x}"
        record = {"type": "Model", "namespace": f"case{index}", "component": "backend", "endpoint": "generate"}
        body = record | {"instance_id": index + 1, "card_json": card | {"slug": f"case{index}"}}
        paths.append(fleet.kv / "v1/mdc" / encode_key(key))
        paths[-1].write_text(json.dumps(body), encoding="utf-8")
    fleet.frontend()
    slugs = fleet.metadata_cache / "by-slug"

    def sums() -> dict[str, str] | None:
        _touch(paths)
        found = {name: sorted(p.name for p in slugs.glob(f"case{index}/*")) for index, name in enumerate(cards)}
        return {name: each[0] for name, each in found.items()} if all(len(f) == 1 for f in found.values()) else None

    return until(sums, "a directory for each card", timeout_s=45)


def _touch(paths: list[Path]) -> None:
    for path in paths:
        os.utime(path)
