"""Dynamo's own checksum of a card, by which its front ends decide which workers may share a model.

Source: ``ModelDeploymentCard::mdcsum`` of ai-dynamo 1.6.1, found by giving a stock front end cards that differ in one
field each and reading the names of its ``by-slug/<slug>/<mdcsum>/`` directories; the vectors are in
``tests/golden/dynamo/mdcsum.jsonl``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

from blake3 import blake3

from placecard.card import check_digest, hex_of
from placecard.errors import CardError, Code

_WORKER_TYPES: Final[dict[object, int]] = {None: 0, "prefill": 1, "decode": 2, "encode": 3, "aggregated": 4}
_PROMPT_CONTEXT: Final = {"oai_chat": "OaiChat", "llama3_date_time": "Llama3DateTime"}
_SLOTS: Final = ("model_info", "tokenizer", "prompt_formatter", "chat_template_file", "gen_config")
# Keys of runtime_config.runtime_data that change what an engine accepts; others are not hashed.
_FLAGS: Final = ("vllm_enable_tower_connector_lora", "vllm_inference_v1_generate")
_CONTRACT: Final = "vllm_nemotron_video_processor_contract"
# What Rust's url crate leaves as it is in a path, beyond letters, digits and _.-~
_URL_SAFE: Final = "!$%&'()*+,/:;=@[]|"
_T = TypeVar("_T")


def mdcsum(dynamo_card: Mapping[str, Any]) -> str:
    """Return Dynamo's checksum of a card: 64 hexadecimal digits.

    Only its later fields are framed, so different cards can share a sum; it identifies nothing outside Dynamo.

    Args:
        dynamo_card: The card's JSON (``card_json`` of a record, not the record).

    Raises:
        CardError: ``CARD_SCHEMA`` or ``DIGEST_SYNTAX``: Dynamo could not read this card.
    """
    try:
        return blake3(b"".join(_parts(dynamo_card))).hexdigest()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, StopIteration) as error:
        raise CardError(Code.CARD_SCHEMA, f"Dynamo could not read this card ({error!r})") from error


def effective_context_length(dynamo_card: Mapping[str, Any]) -> int:
    """Return the context length in tokens: what the runtime says, else the architecture, else the old key."""
    runtime = dynamo_card.get("runtime_config") or {}
    for value in (runtime.get("context_length"), dynamo_card.get("architectural_max_context_length")):
        if value is not None:
            return int(value)
    return int(dynamo_card.get("context_length") or 0)


def _parts(card: Mapping[str, Any]) -> Iterator[bytes]:
    yield card["display_name"].encode()
    yield (card.get("source_path") or "").encode()
    for slot in _SLOTS:
        if card.get(slot) is not None:
            yield _slot_checksum(_only(card[slot].values())).encode()
    for name, hexes in sorted((basename(file["path"]).encode(), _hex(file)) for file in card.get("extra_files") or ()):
        yield name + b"\0" + hexes
    if (context := card.get("prompt_context")) is not None:
        yield f"[{', '.join(_PROMPT_CONTEXT[each] for each in context)}]".encode()
    yield effective_context_length(card).to_bytes(4, "big")
    yield int(card["kv_cache_block_size"]).to_bytes(4, "big")
    yield bytes([_WORKER_TYPES[card.get("worker_type")]])
    needs = card.get("needs") or ()
    yield len(needs).to_bytes(4, "big")
    for alternative in needs:
        yield len(alternative).to_bytes(4, "big") + bytes(_WORKER_TYPES[worker] for worker in alternative)
    if (router := card.get("router_config")) is not None:
        yield blake3(_compact(router)).digest()
    if (identity := card.get("indexer_identity")) is not None:
        yield b"dynamo/model-card/indexer-identity/v1"
        yield from _dimension(identity.get("semantics"))
        yield from _dimension(identity.get("routing_scope"))
    if aliases := card.get("aliases"):
        yield len(aliases).to_bytes(4, "big")
        yield from (_framed(alias.encode(), 4) for alias in aliases)
    yield from _runtime_contract((card.get("runtime_config") or {}).get("runtime_data") or {})


def _runtime_contract(data: Mapping[str, Any]) -> Iterator[bytes]:
    for flag in _FLAGS:
        if data.get(flag) is True or data.get(flag) == "true":
            yield f"\0{flag}\0true".encode()
    if _CONTRACT in data:
        yield b"\0dynamo/model-card/runtime-contract/v1\0"
        yield _framed(_CONTRACT.encode(), 8)
        yield _framed(_compact(data[_CONTRACT], sort_keys=True), 8)


def _dimension(labels: Mapping[str, str] | None) -> Iterator[bytes]:
    yield bytes([labels is not None])
    if labels is not None:
        yield len(labels).to_bytes(4, "little")
        for key, value in sorted((key.encode(), value.encode()) for key, value in labels.items()):
            yield len(key).to_bytes(4, "little") + key + len(value).to_bytes(4, "little") + value


def _slot_checksum(value: Mapping[str, Any]) -> str:
    return "blake3:" + _hex(value.get("file", value)).decode()


def _hex(file: Mapping[str, Any]) -> bytes:
    checksum = file["checksum"]
    check_digest(checksum, subject=str(file.get("path")))
    return hex_of(checksum).encode()


def basename(path: str) -> str:
    """Return the last segment of a path, or of a URL's path as Dynamo keeps it: percent-encoded."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        return path.rpartition("/")[2]
    return quote(re.split(r"[?#]", path)[0].rpartition("/")[2], safe=_URL_SAFE)


def _framed(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data


def _compact(value: object, *, sort_keys: bool = False) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort_keys).encode()


def _only(values: Iterable[_T]) -> _T:
    (value,) = values
    return value
