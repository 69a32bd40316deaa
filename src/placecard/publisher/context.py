"""The context length that a model's own configuration states."""

from __future__ import annotations

import math
from typing import Any, Final

from placecard.admission import Configs
from placecard.errors import CardError, Code

_GREATEST: Final = 2**31 - 1
_MEND: Final = "Correct the value in the model directory, or state it with --context-length."


def context_length(configs: Configs) -> int | None:
    """Return the tokens a request may hold; None where no file says, or says that there is no bound.

    The first that is there counts: ``max_position_embeddings`` of ``config.json``, of its ``text_config``, then
    ``model_max_length`` of ``tokenizer_config.json``. Zero counts as absent.

    Raises:
        CardError: ``CARD_RANGE``; the value is there and is no number.

    Source: NVIDIA Dynamo, model card: context length from config.json, text_config, tokenizer_config.json.
    """
    config = configs.object("config.json")
    text = config.get("text_config")
    places = (
        ("config.json: $.max_position_embeddings", config, "max_position_embeddings"),
        ("config.json: $.text_config.max_position_embeddings", text, "max_position_embeddings"),
        ("tokenizer_config.json: $.model_max_length", configs.object("tokenizer_config.json"), "model_max_length"),
    )
    for where, holder, key in places:
        if isinstance(holder, dict) and key in holder and (value := _length(holder[key], where)):
            return value if value <= _GREATEST else None
    return None


def _length(value: Any, where: str) -> int:
    """Return ``value`` as a whole number; anything without a bound becomes a number over the greatest."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise CardError(Code.CARD_RANGE, f"{ascii(value)[:60]} is no length", subject=where, mend=_MEND)
    return _GREATEST + 1 if value > _GREATEST else int(value)
