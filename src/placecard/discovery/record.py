"""The envelope of a record: what a registry holds for one worker and one model.

::

    {"schema": 1, "instance": "<32 hex>", "address": "http://HOST:PORT" | null, "complete": true, "card": {…}}

Read as strictly as a card; unknown keys are passed over, so that a newer release can add some.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from placecard.card import MAX_CARD_BYTES, HttpUri, card_from_json, parse_uri, read_json, to_json
from placecard.discovery.base import Record
from placecard.errors import CardError, Code, DiscoveryError

SCHEMA: Final = 1
MAX_RECORD_BYTES: Final = MAX_CARD_BYTES + (
    16 << 10
)  # a card at its bound, and an envelope with keys of newer releases
NO_WORKER: Final = "0" * 32
"""Instance of a record that no worker wrote: a card in a file, or in the store. No registry holds one."""
_INSTANCE = re.compile(r"[0-9a-f]{32}")
_ABSENT: Final = object()


def encode_record(record: Record) -> bytes:
    """Return ``record`` as JSON in UTF-8. What is returned can be read back: it is checked here, not at every reader.

    Raises:
        CardError: The card is larger or deeper than readers accept.
        DiscoveryError: ``RECORD_MALFORMED``; the instance or the address is not what a record may hold.
    """
    body = {
        "schema": SCHEMA,
        "instance": record.instance,
        "address": record.address,
        "complete": record.complete,
        "card": to_json(record.card),
    }
    data = _dump(body)
    decode_record(data)
    return data


def decode_record(data: bytes) -> Record:
    """Return the record that ``data`` states.

    Raises:
        CardError: The bytes are not one JSON object within the bounds, or the card inside breaks rules of the card.
        DiscoveryError: ``RECORD_MALFORMED``; a key of the envelope is absent or wrong.
    """
    raw = read_json(data, max_bytes=MAX_RECORD_BYTES)
    _check_schema(raw.get("schema", _ABSENT))
    instance, address, complete = (raw.get(key, _ABSENT) for key in ("instance", "address", "complete"))
    if not isinstance(complete, bool):
        raise _malformed("$.complete", complete, "true or false")
    card = raw.get("card", _ABSENT)
    if not isinstance(card, dict):
        raise _malformed("$.card", card, "an object")
    return Record(
        instance=check_instance(instance),
        address=_check_address(address),
        complete=complete,
        card=card_from_json(card),
    )


def check_instance(value: object) -> str:
    """Return ``value`` if it is a worker's instance id: 32 lowercase hexadecimal digits, not all of them zero.

    Raises:
        DiscoveryError: ``RECORD_MALFORMED``.
    """
    if not isinstance(value, str) or not _INSTANCE.fullmatch(value) or value == NO_WORKER:
        raise _malformed("$.instance", value, "32 lowercase hexadecimal digits, not all zero")
    return value


def check_place(instance: str, record: Record) -> None:
    """Raise unless ``record`` stands under the name of its own instance: no worker may speak for another.

    Raises:
        DiscoveryError: ``RECORD_MALFORMED``.
    """
    if record.instance != instance:
        raise DiscoveryError(Code.RECORD_MALFORMED, f"stands under {instance}", subject=f"record of {record.instance}")


def _check_address(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.count("/") == 2:
        try:
            uri = parse_uri(f"{value}/v1")
        except CardError as error:
            raise DiscoveryError(Code.RECORD_MALFORMED, error.detail, subject="$.address") from error
        if isinstance(uri, HttpUri):
            return value
    raise _malformed("$.address", value, "null or http(s)://HOST[:PORT]")


def _check_schema(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _malformed("$.schema", value, "a number from 1")
    if value > SCHEMA:
        detail = f"record schema {value}; this release reads up to {SCHEMA}"
        raise CardError(Code.CARD_VERSION_UNSUPPORTED, detail, subject="$.schema")


def _dump(value: Any) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise DiscoveryError(Code.RECORD_MALFORMED, "a string holds a lone surrogate") from None


def _malformed(where: str, value: object, wanted: str) -> DiscoveryError:
    seen = "is absent" if value is _ABSENT else f"is {ascii(value)[:80]}"
    return DiscoveryError(Code.RECORD_MALFORMED, f"{seen}, not {wanted}", subject=where)
