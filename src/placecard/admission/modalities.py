"""What a model takes beside text, and which parts its configuration says that it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from placecard.admission.families import (
    FOREIGN_IMAGE_TYPES,
    IMAGE_PROCESSOR_TYPES,
    NO_FILE_TYPES,
    PROCESSOR_OF_TYPE,
)

# Keys with the id of a token that stands for an image. Source: transformers 5.23, qwen2_vl, llava, gemma3, idefics3;
# InternVL's repository (img_context_token_id).
_TOKEN_KEYS: Final = ("image_token_id", "image_token_index", "img_context_token_id")
# Keys whose object describes what sees. Source: the configurations of Phi-3 vision (img_processor), Qwen-VL (visual),
# Chameleon and Emu3 (vq_config), Ovis (visual_tokenizer_config), FLAVA (image_config), Phi-4 multimodal.
_OBJECT_KEYS: Final = ("img_processor", "visual", "vq_config", "visual_tokenizer_config", "image_config")
_OBJECT_KEYS_BELOW: Final = {"embd_layer": "image_embd_layer"}
# Keys whose text names what sees. Source: the configurations of LLaVA's own repository and of Molmo's.
_TEXT_KEYS: Final = ("mm_vision_tower", "vision_tower", "vision_backbone")
_VISION_WORDS: Final = ("_vl", "vlm", "llava", "idefics", "paligemma", "mllama", "internvl", "pixtral", "vision")
_GENERATES: Final = ("ForConditionalGeneration", "ForVision2Seq", "ChatModel")
# Classes that `auto_map` names for what takes images. Source: transformers 5.23, models/auto.
_AUTO_CLASSES: Final = ("AutoImageProcessor", "AutoProcessor")
# Where a file says which processor class joins its parts, in the order in which AutoProcessor looks.
# Source: transformers 5.23, models/auto/processing_auto.py.
_NAMES_PROCESSOR: Final = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "config.json")
_MAX_PARTS: Final = 64
_MAX_DEPTH: Final = 4


def takes_images(config: Mapping[str, Any]) -> str | None:
    """Say which key of ``config.json``, or of a part of it, shows that the model takes images; None if none does."""
    for path, part in _parts(config):
        if sign := _image_sign(part):
            return f"{path}{sign}"
    return None


def takes_audio(config: Mapping[str, Any]) -> str | None:
    """Say which key of ``config.json``, or of a part of it, shows that the model takes audio; None if none does."""
    found = (f"{path}audio_config" for path, part in _parts(config) if isinstance(part.get("audio_config"), dict))
    return next(found, None)


def asks_for_processor(configs: Mapping[str, Any]) -> str | None:
    """Say which file names code of the directory for an image processor or processor; None if none does."""
    for name in _NAMES_PROCESSOR:
        auto_map = _object(_object(configs, name), "auto_map")
        for key in _AUTO_CLASSES:
            if auto_map.get(key):
                return f"auto_map of {name} names an {key}"
    return None


def processor_class(configs: Mapping[str, Any]) -> str | None:
    """Return the class of the processor, as a file or the model type says; None where nothing says."""
    for name in _NAMES_PROCESSOR:
        value = _object(configs, name).get("processor_class")
        if isinstance(value, str) and value:
            return value
    model_type = _object(configs, "config.json").get("model_type")
    return PROCESSOR_OF_TYPE.get(model_type) if isinstance(model_type, str) else None


def _image_sign(part: Mapping[str, Any]) -> str | None:
    for key, value in part.items():
        if key.startswith("vision_") and (isinstance(value, dict) or _is_number(value)):
            return key
        if (key in _TOKEN_KEYS and _is_number(value)) or (key in _OBJECT_KEYS and isinstance(value, dict)):
            return key
        if key in _TEXT_KEYS and isinstance(value, str) and value:
            return key
        below = _OBJECT_KEYS_BELOW.get(key)
        if below is not None and isinstance(value, dict) and isinstance(value.get(below), dict):
            return f"{key}.{below}"
    return _sign_of_type(part)


def _sign_of_type(part: Mapping[str, Any]) -> str | None:
    model_type = part.get("model_type")
    if not isinstance(model_type, str):
        return None
    known = (IMAGE_PROCESSOR_TYPES | FOREIGN_IMAGE_TYPES) - NO_FILE_TYPES
    architectures = part.get("architectures")
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    by_words = any(word in model_type for word in _VISION_WORDS) and any(name.endswith(_GENERATES) for name in names)
    return f"model_type {model_type}" if model_type in known or by_words else None


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path and object of the configuration and of its parts, outermost first, within bounds."""
    level: list[tuple[str, Mapping[str, Any]]] = [("", config)]
    for _ in range(_MAX_DEPTH):
        yield from level
        below: Iterator[tuple[str, Mapping[str, Any]]] = (
            (f"{path}{key}.", value)
            for path, part in level
            for key, value in part.items()
            if isinstance(value, dict) and (key.endswith("_config") or key in ("encoder", "decoder"))
        )
        level = list(islice(below, _MAX_PARTS))


def _object(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
