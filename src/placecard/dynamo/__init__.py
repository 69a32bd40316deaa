"""NVIDIA Dynamo's cards and its file discovery: :func:`card_from_dynamo`, :func:`card_to_dynamo`, :func:`mdcsum` and
:class:`DynamoFileRegistry`.
"""

from placecard.dynamo.mdcsum import mdcsum
from placecard.dynamo.publish import card_to_dynamo, left_out_for_dynamo
from placecard.dynamo.record import Worker, decode_model_record, encode_model_record
from placecard.dynamo.registry import DynamoFileRegistry
from placecard.dynamo.wire import DynamoInfo, card_from_dynamo

__all__ = [
    "DynamoFileRegistry",
    "DynamoInfo",
    "Worker",
    "card_from_dynamo",
    "card_to_dynamo",
    "decode_model_record",
    "encode_model_record",
    "left_out_for_dynamo",
    "mdcsum",
]
