"""One model record of a Dynamo registry, read into ours and written from it.

A record that we write holds our own card too, in ``user_data``, which Dynamo carries and never hashes: other Placecard
front ends get nested files, pinned sources and consumers, of which Dynamo's card knows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict

from blake3 import blake3

from placecard.card import MAX_CARD_BYTES, Card, HttpUri, decode_card, parse_uri, read_json, slugify, to_json
from placecard.discovery import Record
from placecard.discovery.record import check_instance
from placecard.dynamo.publish import card_to_dynamo, instance_record, left_out_for_dynamo, model_record
from placecard.dynamo.wire import DynamoInfo, read_card
from placecard.errors import Code, DiscoveryError, PlacecardError

MAX_RECORD_BYTES: Final = 3 * MAX_CARD_BYTES  # a Dynamo card and ours
_OURS: Final = "placecard"  # key of user_data


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
        raise _malformed("is absent", "$.card_json")
    card, info = read_card(raw)
    if None in (info.namespace, info.component, info.endpoint, info.instance_id):
        raise _malformed("does not name its worker", "$")
    if _key_of(info) != key:
        raise _malformed(f"stands under {key[:200]!a}", _key_of(info)[:200])
    user_data = info.raw.get("user_data")
    if isinstance(user_data, Mapping) and _OURS in user_data:
        try:
            return _ours(user_data[_OURS], card, info), info
        except PlacecardError as error:  # of a newer release, or of somebody else: Dynamo's own part still holds
            info = replace(info, notes=(*info.notes, f"not read as a card of Placecard: {error}"))
    return Record(_derived(info), card, address=None, complete=info.lists_extra_files), info


def encode_model_record(record: Record, worker: Worker) -> Written:
    """Return what to write so that a stock front end finds ``record``. What is returned can be read back.

    Raises:
        PlacecardError: The card cannot be said in Dynamo's words, or the instance or address is none.
    """
    instance_id = dynamo_instance_id(record.instance)
    lora = record.card.serving.lora
    suffix = slugify(lora.name) if lora is not None else None
    at: _At = {"namespace": worker.namespace, "component": worker.component, "endpoint": worker.endpoint}
    ours = {
        "instance": record.instance,
        "address": record.address,
        "complete": record.complete,
        "card": to_json(record.card),
    }
    card = card_to_dynamo(
        record.card,
        base_url=record.address,
        **at,
        model_type=worker.model_type,
        model_input=worker.model_input,
        user_data={_OURS: ours},
    )
    model = _dump(model_record(card, **at, instance_id=instance_id, suffix=suffix))
    instance_key = f"{worker.namespace}/{worker.component}/{worker.endpoint}/{instance_id:x}"
    model_key = instance_key if suffix is None else f"{instance_key}/{suffix}"
    decode_model_record(model, key=model_key)
    instance = _dump(instance_record(**at, instance_id=instance_id, address=worker.request_address))
    return Written(model_key=model_key, model=model, instance_key=instance_key, instance=instance)


def dynamo_instance_id(instance: str) -> int:
    """Return the 63-bit number under which Dynamo knows one of our instances.

    Raises:
        DiscoveryError: ``RECORD_MALFORMED``; it is no instance.
    """
    return int(blake3(check_instance(instance).encode()).hexdigest()[:16], 16) >> 1


def _ours(mark: Any, dynamo: Card, info: DynamoInfo) -> Record:
    """Return the record that one of our publishers put into Dynamo's, once both are seen to say the same.

    Raises:
        PlacecardError: They do not, or it is no record.
    """
    where = f"$.user_data.{_OURS}"
    if not isinstance(mark, Mapping) or not isinstance(body := mark.get("card"), dict):
        raise _malformed("is not an object with a card", where)
    instance, complete = check_instance(mark.get("instance")), mark.get("complete")
    if dynamo_instance_id(instance) != info.instance_id:
        raise _malformed("speaks for the instance of another worker", where)
    if not isinstance(complete, bool):
        raise _malformed("is not true or false", f"{where}.complete")
    card = decode_card(_dump(body))
    left_out = {left.name for left in left_out_for_dynamo(card)}
    said = {(file.name, file.digest) for file in card.files if file.name not in left_out}
    if (card.name, said) != (dynamo.name, {(file.name, file.digest) for file in dynamo.files}):
        raise _malformed("is a card of other files than Dynamo's", f"{where}.card")
    return Record(instance, card, address=_address(mark.get("address")), complete=complete)


def _malformed(detail: str, subject: str) -> DiscoveryError:
    return DiscoveryError(Code.RECORD_MALFORMED, detail, subject=subject)


def _address(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.count("/") == 2 and isinstance(parse_uri(f"{value}/v1"), HttpUri):
        return value
    raise _malformed("is not http(s)://HOST[:PORT]", f"$.user_data.{_OURS}.address")


def _key_of(info: DynamoInfo) -> str:
    key = f"{info.namespace}/{info.component}/{info.endpoint}/{info.instance_id or 0:x}"
    return key if info.model_suffix is None else f"{key}/{info.model_suffix}"


def _derived(info: DynamoInfo) -> str:
    """Return an instance id that is the same for every reader; Dynamo draws its own anew at each start of a worker."""
    parts = (info.namespace, info.component, info.endpoint, str(info.instance_id), info.model_suffix)
    return blake3(json.dumps(["dynamo instance", *parts]).encode()).hexdigest()[:32]


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
