"""The vocabulary: :class:`Card` and :class:`CheckedFile`, their digests, names and URIs.

:func:`decode_card` reads a card from bytes and reports every defect; :func:`encode_card` writes it.
"""

from placecard.card.diff import Difference, diff
from placecard.card.digest import check_digest, digest_of, digest_stream, hex_of
from placecard.card.filenames import Kind, Role, assign_slots, check_name, collisions, kind_of, name_key
from placecard.card.identity import content_digest, serving_digest
from placecard.card.lint import lint
from placecard.card.model import MAX_CARD_BYTES, MAX_FILES, Card, CheckedFile, LeftOut, Lora, Serving
from placecard.card.schema import card_schema, card_schema_text
from placecard.card.slug import slugify
from placecard.card.uri import FileUri, HttpUri, HubUri, Uri, file_uri, is_commit, parse_repo, parse_uri
from placecard.card.wire import card_from_json, decode_card, encode_card, read_json, to_json

__all__ = [
    "MAX_CARD_BYTES",
    "MAX_FILES",
    "Card",
    "CheckedFile",
    "Difference",
    "FileUri",
    "HttpUri",
    "HubUri",
    "Kind",
    "LeftOut",
    "Lora",
    "Role",
    "Serving",
    "Uri",
    "assign_slots",
    "card_from_json",
    "card_schema",
    "card_schema_text",
    "check_digest",
    "check_name",
    "collisions",
    "content_digest",
    "decode_card",
    "diff",
    "digest_of",
    "digest_stream",
    "encode_card",
    "file_uri",
    "hex_of",
    "is_commit",
    "kind_of",
    "lint",
    "name_key",
    "parse_repo",
    "parse_uri",
    "read_json",
    "serving_digest",
    "slugify",
    "to_json",
]
