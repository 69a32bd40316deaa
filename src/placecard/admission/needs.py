"""What each consumer must find in a directory, by the configuration and by what the publisher's consumers opened."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from placecard.admission.consumers import IMAGE_PROCESSOR_FILES, TOKENIZER_FILES, Consumer, has_tokenizer
from placecard.card import check_name
from placecard.errors import CardError


@dataclass(frozen=True)
class Need:
    """What a consumer must have: one of ``any_of``, each a set of names that belong together."""

    consumer: str
    any_of: tuple[tuple[str, ...], ...]
    why: str


@dataclass(frozen=True)
class Unmet:
    """A need that no file meets: ``missing`` is the file that would meet it best."""

    consumer: str
    missing: str
    why: str
    mend: str


# Keys of a configuration that takes images. Source: transformers 5.23, qwen2_vl, llava, gemma3, internvl, idefics3.
_IMAGE_KEYS: Final = ("image_token_id", "image_token_index", "vision_start_token_id", "img_context_token_id")
_VISION_TYPES: Final = ("_vl", "vlm", "llava", "idefics", "paligemma", "mllama", "internvl", "pixtral", "vision")
_TOKENIZER_SIGNS: Final = frozenset({"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
# Modules of sentence-transformers that keep no configuration of their own in 2.x and later directories.
_BARE_MODULES: Final = frozenset({"Normalize", "Transformer"})


def needs(
    configs: Mapping[str, Any], names: Collection[str], consumers: Mapping[str, tuple[str, ...]]
) -> tuple[Need, ...]:
    """Return what must be in a directory.

    Args:
        configs: Parsed configuration files: name to JSON value.
        names: Every file of the directory, or of the card.
        consumers: File name to the consumers that opened it at the publisher, as cards record it.
    """
    held = frozenset(names)
    by_rule = [*_config(), *_tokenizer(configs, held, consumers), *_image_processor(configs), *_pooling(configs)]
    covered = {(need.consumer, name) for need in by_rule for files in need.any_of for name in files if name in held}
    recorded = [
        Need(consumer, ((name,),), f"the {spoken(consumer)} at the publisher opened it")
        for name in sorted(consumers)
        for consumer in consumers[name]
        if (consumer, name) not in covered
    ]
    return (*by_rule, *recorded)


def unmet(
    needs: Collection[Need], names: Collection[str], *, hints: Mapping[str, str] | None = None
) -> tuple[Unmet, ...]:
    """Return the needs that ``names`` do not meet, one for each consumer and missing file.

    Args:
        needs: As :func:`needs` returns them.
        names: The files that are there.
        hints: File name to a clause that says who has it: ``the hub repository acme/x has it``.
    """
    held = frozenset(names)
    found: dict[tuple[str, str], Unmet] = {}
    for need in needs:
        if any(held.issuperset(files) for files in need.any_of):
            continue
        for missing in _nearest(need, held):
            found.setdefault((need.consumer, missing), Unmet(need.consumer, missing, need.why, mend(missing, hints)))
    return tuple(found.values())


def mend(missing: str, hints: Mapping[str, str] | None = None) -> str:
    """Return what to do about a missing file."""
    hint = (hints or {}).get(missing)
    return f"Put {missing} into the worker's model directory and publish again" + (f"; {hint}." if hint else ".")


def spoken(consumer: str) -> str:
    """Return ``consumer`` as it stands in a sentence."""
    return consumer.replace("_", " ")


def takes_images(config: Mapping[str, Any]) -> str | None:
    """Say which key of ``config.json`` shows that the model takes images; None if none does."""
    if isinstance(config.get("vision_config"), dict):
        return "vision_config"
    for key in _IMAGE_KEYS:
        if isinstance(config.get(key), int):
            return key
    model_type = config.get("model_type")
    if isinstance(model_type, str) and any(word in model_type for word in _VISION_TYPES):
        architectures = config.get("architectures")
        generates = [a for a in architectures if isinstance(a, str)] if isinstance(architectures, list) else []
        if any(a.endswith(("ForConditionalGeneration", "ForVision2Seq", "ChatModel")) for a in generates):
            return f"model_type {model_type}"
    return None


def nests_image_processor(configs: Mapping[str, Any]) -> bool | None:
    """Whether ``processor_config.json`` holds the image processor's part; None if the file was not read."""
    value = configs.get("processor_config.json")
    return None if value is None else isinstance(value, dict) and isinstance(value.get("image_processor"), dict)


def module_configs(configs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the configuration files of the sentence-transformers modules that ``modules.json`` names."""
    modules = configs.get("modules.json")
    names = []
    for module in modules[:64] if isinstance(modules, list) else ():
        path, kind = (module.get("path"), module.get("type")) if isinstance(module, dict) else (None, None)
        if not isinstance(path, str) or not isinstance(kind, str) or not path.strip("/"):
            continue
        name = str(PurePosixPath(path) / "config.json")
        if kind.rpartition(".")[2] not in _BARE_MODULES and _safe(name):
            names.append(name)
    return tuple(names)


def _config() -> Iterator[Need]:
    yield Need(Consumer.CONFIG, (("config.json",), ("params.json",)), "every model has a configuration")


def _tokenizer(
    configs: Mapping[str, Any], names: frozenset[str], consumers: Mapping[str, tuple[str, ...]]
) -> Iterator[Need]:
    config = configs.get("config.json")
    signs = [*sorted(_TOKENIZER_SIGNS & names)]
    if isinstance(config, dict) and config.get("tokenizer_class"):
        signs.append("tokenizer_class in config.json")
    signs += [name for name in sorted(consumers) if Consumer.TOKENIZER in consumers[name] and name != "config.json"]
    if signs and not has_tokenizer(names):
        yield Need(Consumer.TOKENIZER, TOKENIZER_FILES, f"a tokenizer is meant: {signs[0]}")


def _image_processor(configs: Mapping[str, Any]) -> Iterator[Need]:
    config = configs.get("config.json")
    sign = takes_images(config) if isinstance(config, dict) else None
    if sign is None:
        return
    nested = nests_image_processor(configs)
    files = IMAGE_PROCESSOR_FILES if nested is not False else IMAGE_PROCESSOR_FILES[:1]
    yield Need(Consumer.IMAGE_PROCESSOR, tuple((name,) for name in files), f"config.json takes images ({sign})")


def _pooling(configs: Mapping[str, Any]) -> Iterator[Need]:
    for name in module_configs(configs):
        yield Need(Consumer.POOLING, ((name,),), "modules.json names this module")


def _nearest(need: Need, held: frozenset[str]) -> tuple[str, ...]:
    """Return the missing names of the alternative that lacks least; of equals, the first."""
    best = min(need.any_of, key=lambda files: (len(set(files) - held), not set(files) & held))
    return tuple(name for name in best if name not in held)


def _safe(name: str) -> bool:
    try:
        check_name(name)
    except CardError:
        return False
    return True
