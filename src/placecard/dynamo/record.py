"""One model record of a Dynamo registry, read into ours and written from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from blake3 import blake3

from placecard.card import MAX_CARD_BYTES, HttpUri, parse_uri, read_json, slugify
from placecard.discovery import Record
from placecard.discovery.record import check_instance
from placecard.dynamo.publish import card_to_dynamo, instance_record, left_out_for_dynamo, model_record
from placecard.dynamo.wire import DynamoInfo, card_from_dynamo
from placecard.errors import Code, DiscoveryError, PlacecardError

MAX_RECORD_BYTES: Final = MAX_CARD_BYTES + (16 << 10)
_OURS: Final = "placecard"  # key of user_data, which Dynamo carries and never hashes


class _At(TypedDict):
    namespace: str
    component: str
    endpoint: str


@dataclass(frozen=True)
class Worker:
    """Where Dynamo looks for the workers that a registry writes.

    Args:
        request_address: ``HOST:PORT`` of Dynamo's own TCP request plane. Dynamo lists no model without one; a Placecard
            publisher takes no requests there, so it must be the address of something that does, or requests fail.
        model_type: What the workers answer, in Dynamo's words.
    """

    namespace: str = "dynamo"
    component: str = "backend"
    endpoint: str = "generate"
    request_address: str = "127.0.0.1:9"
    model_type: str = "Chat | Completions"
    model_input: str = "Tokens"


@dataclass(frozen=True)
class Written:
    """Keys and values of one record: the model's, and its worker's."""

    model_key: str
    model: bytes
    instance_key: str
    instance: bytes


def decode_model_record(data: bytes, *, key: str) -> tuple[Record, DynamoInfo]:
    """Return our record of Dynamo's, which must stand under its own key.

    Raises:
        PlacecardError: It cannot be used: ``CARD_…``, ``NAME_…``, ``DIGEST_SYNTAX`` or ``RECORD_MALFORMED``.
    """
    raw = read_json(data, max_bytes=MAX_RECORD_BYTES)
    if "card_json" not in raw:
        raise DiscoveryError(Code.RECORD_MALFORMED, "is absent", subject="$.card_json")
    card, info = card_from_dynamo(raw)
    if None in (info.namespace, info.component, info.endpoint, info.instance_id):
        raise DiscoveryError(Code.RECORD_MALFORMED, "does not name its worker", subject="$")
    if _key_of(info) != key:
        raise DiscoveryError(Code.RECORD_MALFORMED, f"stands under {key[:200]!a}", subject=_key_of(info)[:200])
    ours = _ours(info)
    if ours is None:
        return Record(_derived(info), card, address=None, complete=info.lists_extra_files), info
    instance, address, complete = ours
    return Record(instance, card, address=address, complete=complete), info


def encode_model_record(record: Record, worker: Worker) -> Written:
    """Return what to write so that a stock front end finds ``record``.

    Raises:
        PlacecardError: The card cannot be said in Dynamo's words, or what was written could not be read back.
    """
    instance_id = dynamo_instance_id(record.instance)
    lora = record.card.serving.lora
    suffix = slugify(lora.name) if lora is not None else None
    at: _At = {"namespace": worker.namespace, "component": worker.component, "endpoint": worker.endpoint}
    nested = any(left.reason == "nested" for left in left_out_for_dynamo(record.card))
    ours = {"instance": record.instance, "address": record.address, "complete": record.complete and not nested}
    card = card_to_dynamo(
        record.card,
        base_url=record.address,
        **at,
        model_type=worker.model_type,
        model_input=worker.model_input,
        user_data={_OURS: ours},
    )
    instance_key = f"{worker.namespace}/{worker.component}/{worker.endpoint}/{instance_id:x}"
    written = Written(
        model_key=instance_key if suffix is None else f"{instance_key}/{suffix}",
        model=_dump(model_record(card, **at, instance_id=instance_id, suffix=suffix)),
        instance_key=instance_key,
        instance=_dump(instance_record(**at, instance_id=instance_id, address=worker.request_address)),
    )
    decode_model_record(written.model, key=written.model_key)
    return written


def dynamo_instance_id(instance: str) -> int:
    """Return the 63-bit number under which Dynamo knows one of our instances."""
    return int(check_instance(instance)[:16], 16) >> 1


def stated(record: Record, info: DynamoInfo) -> Iterator[str]:
    """Yield what of a record was passed over, for people."""
    for note in info.notes[:8]:
        yield f"{record.card.name}: {note}"


def _ours(info: DynamoInfo) -> tuple[str, str | None, bool] | None:
    """Return instance, address and completeness where one of our publishers wrote the record, and nobody else did."""
    data = info.raw.get("user_data")
    mark = data.get(_OURS) if isinstance(data, Mapping) else None
    if not isinstance(mark, Mapping):
        return None
    try:
        instance, address = check_instance(mark.get("instance")), _address(mark.get("address"))
    except PlacecardError:
        return None
    if dynamo_instance_id(instance) != info.instance_id or not isinstance(mark.get("complete"), bool):
        return None
    return instance, address, mark["complete"]


def _address(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.count("/") == 2 and isinstance(parse_uri(f"{value}/v1"), HttpUri):
        return value
    raise DiscoveryError(Code.RECORD_MALFORMED, "is not http(s)://HOST[:PORT]", subject="$.user_data.placecard.address")


def _key_of(info: DynamoInfo) -> str:
    key = f"{info.namespace}/{info.component}/{info.endpoint}/{info.instance_id or 0:x}"
    return key if info.model_suffix is None else f"{key}/{info.model_suffix}"


def _derived(info: DynamoInfo) -> str:
    """Return an instance id that is the same for every reader; Dynamo draws its own anew at each start of a worker."""
    parts = (info.namespace, info.component, info.endpoint, str(info.instance_id), info.model_suffix)
    return blake3(json.dumps(["dynamo instance", *parts]).encode()).hexdigest()[:32]


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
