"""Our card written as one that a stock Dynamo front end reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from placecard.card import Card, CheckedFile, Kind, LeftOut, Role, kind_of
from placecard.dynamo.paths import hosted_url, write_path
from placecard.errors import CardError, Code

DEFAULT_BLOCK_TOKENS: Final = 16  # Dynamo's own default
_KINDS: Final[dict[str, str]] = {
    Role.MODEL_INFO: "hf_config_json",
    Role.TOKENIZER_CONFIG: "hf_tokenizer_config_json",
    Role.GENERATION_CONFIG: "hf_generation_config_json",
}
_STANDARD_TEMPLATES: Final = ("chat_template.jinja", "chat_template.json")
_ORDER: Final = (
    ("model_info", Role.MODEL_INFO),
    ("tokenizer", Role.TOKENIZER),
    ("prompt_formatter", Role.TOKENIZER_CONFIG),
    ("chat_template_file", Role.CHAT_TEMPLATE),
    ("gen_config", Role.GENERATION_CONFIG),
)


def card_to_dynamo(
    card: Card,
    *,
    base_url: str | None,
    namespace: str,
    component: str,
    endpoint: str,
    model_type: str = "Chat | Completions",
    model_input: str = "Tokens",
    migration_limit: int = 0,
    user_data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return ``card`` as the JSON value of a Dynamo card.

    Args:
        card: Any card of ours; a card that came from Dynamo should be relayed as received instead.
        base_url: ``http://HOST:PORT`` of the publisher that serves the files; None to keep each file's own sources.
        namespace: With ``component`` and ``endpoint``, where Dynamo looks for the worker.
        component: See ``namespace``.
        endpoint: See ``namespace``.
        model_type: What the worker answers: ``Chat``, ``Completions``, ``Embedding``, joined by `` | ``.
        model_input: ``Tokens`` if the front end tokenizes, ``Text`` if the worker does.
        migration_limit: How often Dynamo may move a running request to another worker.
        user_data: Anything; Dynamo passes it on unread.

    Raises:
        CardError: ``CARD_BAD_STRING``, where a part of the worker's address cannot stand in a discovery key.
    """
    for part in (namespace, component, endpoint):
        if not part or "/" in part:
            raise CardError(Code.CARD_BAD_STRING, "cannot stand in a discovery key", subject=ascii(part))
    serving = card.serving
    context = serving.context_length or 0
    body: dict[str, Any] = {"display_name": card.name, "slug": card.slug}
    if (source_path := _source_path(card)) is not None:
        body["source_path"] = source_path
    body |= _slots(card, base_url)
    body |= {
        "context_length": context,
        "kv_cache_block_size": serving.kv_block_size or DEFAULT_BLOCK_TOKENS,
        "migration_limit": migration_limit,
        "model_type": model_type,
        "model_input": model_input,
        "worker_type": serving.worker_type or "aggregated",
        "needs": [],
        "runtime_config": {
            **({"context_length": context} if context else {}),
            "tool_call_parser": serving.tool_parser,
            "reasoning_parser": serving.reasoning_parser,
        },
    }
    if serving.aliases:
        body["aliases"] = list(serving.aliases)
    if serving.lora is not None:
        limit = serving.lora.max_gpu_lora_count
        body["lora"] = {"name": serving.lora.name, **({} if limit is None else {"max_gpu_lora_count": limit})}
    if user_data is not None:
        body["user_data"] = user_data
    if extras := [_file(file, card, base_url) for file in _extras(card)]:
        body["extra_files"] = extras
    return body


def left_out_for_dynamo(card: Card) -> tuple[LeftOut, ...]:
    """Return the files of ``card`` that a Dynamo card cannot carry, with the reason.

    Dynamo lays every file flat into one directory, so that ``1_Pooling/config.json`` would take the place of
    ``config.json``; and it hands code to whoever opens the directory.
    """
    return tuple(LeftOut(file.name, reason) for file in card.files if (reason := _reason(file)) is not None)


def model_record(
    dynamo_card: dict[str, Any], *, namespace: str, component: str, endpoint: str, instance_id: int, suffix: str | None
) -> dict[str, Any]:
    """Return the discovery record that advertises ``dynamo_card``."""
    record: dict[str, Any] = {
        "type": "Model",
        "namespace": namespace,
        "component": component,
        "endpoint": endpoint,
        "instance_id": instance_id,
    }
    if suffix is not None:
        record["model_suffix"] = suffix
    return record | {"card_json": dynamo_card}


def instance_record(*, namespace: str, component: str, endpoint: str, instance_id: int, address: str) -> dict[str, Any]:
    """Return the record of the worker itself, without which no front end lists its models.

    Args:
        namespace: With ``component``, ``endpoint`` and ``instance_id``, the worker.
        component: See ``namespace``.
        endpoint: See ``namespace``.
        instance_id: See ``namespace``.
        address: ``HOST:PORT`` where the worker takes requests over Dynamo's own TCP plane.
    """
    return {
        "type": "Endpoint",
        "component": component,
        "endpoint": endpoint,
        "namespace": namespace,
        "instance_id": instance_id,
        "transport": {"tcp": f"{address}/{instance_id:x}/{namespace}/{component}/{endpoint}"},
        "request_plane_codec": "msgpack",
    }


def _slots(card: Card, base_url: str | None) -> dict[str, Any]:
    slots: dict[str, Any] = {}
    for slot, role in _ORDER:
        file = card.slot(role)
        if file is None or (kind := _slot_kind(file)) is None:
            if slot in ("model_info", "tokenizer"):
                slots[slot] = None
            continue
        body = _file(file, card, base_url)
        if role is Role.CHAT_TEMPLATE:
            body = {"is_custom": file.name not in _STANDARD_TEMPLATES, "file": body}
        slots[slot] = {kind: body}
    return slots


def _slot_kind(file: CheckedFile) -> str | None:
    """Return Dynamo's word for a typed file, or None where it has none (SentencePiece)."""
    if file.role == Role.TOKENIZER:
        tiktoken = file.name == "tiktoken.model" or file.name.endswith(".tiktoken")
        return "hf_tokenizer_json" if file.name == "tokenizer.json" else "tik_token_model" if tiktoken else None
    if file.role == Role.CHAT_TEMPLATE:
        return "hf_chat_template_json" if file.name.endswith(".json") else "hf_chat_template"
    return _KINDS.get(file.role)


def _extras(card: Card) -> Iterator[CheckedFile]:
    for file in card.files:
        if not (file.typed and _slot_kind(file)) and _reason(file) is None:
            yield file


def _reason(file: CheckedFile) -> str | None:
    if "/" in file.name:
        return "nested"
    kind = kind_of(file.name)
    return None if kind is Kind.METADATA else kind.value


def _file(file: CheckedFile, card: Card, base_url: str | None) -> dict[str, Any]:
    if base_url is not None:
        path: str | None = hosted_url(base_url, card.slug, file.name)
    else:
        path = next((path for uri in file.sources if (path := write_path(uri)) is not None), None)
    if path is None:
        # A bare name: Dynamo tries its own --model-path, then the hub repository in source_path.
        path = f"{card.origin}/{file.name}" if (card.origin or "").startswith("/") else file.name
    return {"path": path, "checksum": file.digest, **({} if file.size is None else {"size": file.size})}


def _source_path(card: Card) -> str | None:
    """Return a directory as it is, a hub repository by its name alone: Dynamo knows no revisions here."""
    if card.origin is None or card.origin.startswith("/"):
        return card.origin
    return card.origin.removeprefix("hf://").partition("@")[0]
