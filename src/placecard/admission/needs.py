"""What each consumer must find in a directory, by the configuration and by what the publisher's consumers opened."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from placecard.admission.consumers import (
    IMAGE_PROCESSOR_FILES,
    MISTRAL_TOKENIZER_FILES,
    TOKENIZER_FILES,
    Consumer,
    has_tokenizer,
)
from placecard.admission.families import (
    NO_FILE_TOKENIZERS,
    PROCESSOR_ARGUMENTS,
    TOKENIZER_OF_TYPE,
    VOCABULARY_OF_TOKENIZER,
)
from placecard.admission.modalities import asks_for_processor, processor_class, takes_audio, takes_images
from placecard.card import check_name
from placecard.errors import CardError


@dataclass(frozen=True)
class Need:
    """What a consumer must have: one of ``any_of``, each a set of names that belong together, the likeliest first.

    ``mend`` is what to do where that is not simply to put the file there.
    """

    consumer: str
    any_of: tuple[tuple[str, ...], ...]
    why: str
    mend: str = ""


@dataclass(frozen=True)
class Unmet:
    """A need that no file meets: ``missing`` is the file that would meet it best."""

    consumer: str
    missing: str
    why: str
    mend: str


_TOKENIZER_SIGNS: Final = frozenset({"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
# Modules of sentence-transformers that keep no configuration of their own in 2.x and later directories.
_BARE_MODULES: Final = frozenset({"Normalize", "Transformer"})
# What sentence-transformers writes beside modules.json, as sentence-transformers/all-MiniLM-L6-v2 has it.
_POOLING_SIGNS: Final = frozenset({"config_sentence_transformers.json", "sentence_bert_config.json"})
_MODULE_FOLDER: Final = re.compile(r"\d+_[A-Z][A-Za-z]*/config\.json")
# Keys of params.json in Mistral's own form. Source: mistral-inference, args.py: TransformerArgs.
_MISTRAL_KEYS: Final = frozenset({"dim", "n_layers"})
# A processor is made of these; what they opened is told of them.
_PARTS_OF_PROCESSOR: Final = frozenset({Consumer.TOKENIZER.value, Consumer.IMAGE_PROCESSOR.value})


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
    by_rule = [
        *_config(configs, held),
        *_tokenizer(configs, held, consumers),
        *_image_processor(configs),
        *_processor(configs),
        *_pooling(configs, held),
    ]
    covered = {(need.consumer, name) for need in by_rule for files in need.any_of for name in files if name in held}
    recorded = [
        Need(consumer, ((name,),), f"the {spoken(consumer)} at the publisher opened it")
        for name in sorted(consumers)
        for consumer in consumers[name]
        if (consumer, name) not in covered and not _told_of_part(consumer, consumers[name])
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
            advice = need.mend or mend(missing, hints)
            found.setdefault((need.consumer, missing), Unmet(need.consumer, missing, need.why, advice))
    return tuple(found.values())


def mend(missing: str, hints: Mapping[str, str] | None = None) -> str:
    """Return what to do about a missing file."""
    hint = (hints or {}).get(missing)
    return f"Put {missing} into the worker's model directory and publish again" + (f"; {hint}." if hint else ".")


def spoken(consumer: str) -> str:
    """Return ``consumer`` as it stands in a sentence."""
    return consumer.replace("_", " ")


def nests_image_processor(configs: Mapping[str, Any]) -> bool | None:
    """Whether ``processor_config.json`` holds the image processor's part; None if the file was not read."""
    value = configs.get("processor_config.json")
    return None if value is None else isinstance(value, dict) and isinstance(value.get("image_processor"), dict)


def module_configs(configs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the configuration files of the sentence-transformers modules that ``modules.json`` names."""
    names = []
    for path, kind in _modules(configs):
        if not isinstance(path, str) or not isinstance(kind, str) or not path.strip("/"):
            continue
        name = str(PurePosixPath(path) / "config.json")
        if kind.rpartition(".")[2] not in _BARE_MODULES and _safe(name):
            names.append(name)
    return tuple(names)


def wild_modules(configs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return, as text, the paths in ``modules.json`` that are none, or that lead out of the directory."""
    paths = [path for path, _ in _modules(configs)]
    safe = ["" if path == "" else isinstance(path, str) and _safe(f"{path.rstrip('/')}/x") for path in paths]
    return tuple(ascii(path)[:60] for path, good in zip(paths, safe, strict=True) if good is False)


def _modules(configs: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield path and type of each module."""
    modules = configs.get("modules.json")
    for module in modules[:64] if isinstance(modules, list) else ():
        if isinstance(module, dict):
            yield module.get("path"), module.get("type")


def _config(configs: Mapping[str, Any], names: frozenset[str]) -> Iterator[Need]:
    files, why, advice = (("config.json",), ("params.json",)), "every model has a configuration", ""
    if "adapter_config.json" in names:
        adapter = configs.get("adapter_config.json")
        base = adapter.get("base_model_name_or_path") if isinstance(adapter, dict) else None
        of = f" of {ascii(base)[1:-1][:80]}" if isinstance(base, str) and base else ""
        why = f"this is an adapter{of} (adapter_config.json), not a model"
        advice = f"Publish the base model{of}; the engine loads the adapter."
    elif any(name.lower().endswith(".gguf") for name in names):
        why = "this directory holds GGUF weights, whose configuration is within them"
        advice = (
            "Put config.json and the tokenizer of the model that the GGUF file was made from beside it, and publish."
        )
    yield Need(Consumer.CONFIG, files, why, advice)


def _tokenizer(
    configs: Mapping[str, Any], names: frozenset[str], consumers: Mapping[str, tuple[str, ...]]
) -> Iterator[Need]:
    if _is_mistral(configs, names) and not has_tokenizer(names):
        yield Need(Consumer.TOKENIZER, MISTRAL_TOKENIZER_FILES, "params.json is of a model in Mistral's own form")
        return
    config = configs.get("config.json")
    signs = [*sorted(_TOKENIZER_SIGNS & names)]
    if isinstance(config, dict) and config.get("tokenizer_class"):
        signs.append("tokenizer_class in config.json")
    opened = [name for name in sorted(consumers) if Consumer.TOKENIZER in consumers[name] and name != "config.json"]
    kind = _tokenizer_class(configs)
    if not (signs or opened) or has_tokenizer(names) or (kind in NO_FILE_TOKENIZERS and not opened):
        return
    likeliest = [files for files in TOKENIZER_FILES if set(files) & set(opened)]
    own = VOCABULARY_OF_TOKENIZER.get(kind)
    why = f"a tokenizer is meant: {[*signs, *opened][0]}"
    if own is not None and not likeliest:
        likeliest, why = [(own,)], f"{why}; {kind} reads {own}, or a tokenizer.json"
    yield Need(Consumer.TOKENIZER, tuple(dict.fromkeys((*likeliest, *TOKENIZER_FILES))), why)


def _is_mistral(configs: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether the model is in Mistral's own form: ``params.json``, with or without a ``config.json`` beside it."""
    params = configs.get("params.json")
    own = isinstance(params, dict) and params.keys() >= _MISTRAL_KEYS
    return "params.json" in names and ("config.json" not in names or own)


def _tokenizer_class(configs: Mapping[str, Any]) -> str:
    """Return the class that a file or the model type says; empty where nothing says."""
    for name in ("tokenizer_config.json", "config.json"):
        value = configs.get(name)
        kind = value.get("tokenizer_class") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind:
            return kind
    config = configs.get("config.json")
    model_type = config.get("model_type") if isinstance(config, dict) else None
    return TOKENIZER_OF_TYPE.get(model_type, "") if isinstance(model_type, str) else ""


def _image_processor(configs: Mapping[str, Any]) -> Iterator[Need]:
    if (why := _image_sign(configs)) is None:
        return
    nested = nests_image_processor(configs)
    files = IMAGE_PROCESSOR_FILES if nested is not False else IMAGE_PROCESSOR_FILES[:1]
    yield Need(Consumer.IMAGE_PROCESSOR, tuple((name,) for name in files), why)


def _image_sign(configs: Mapping[str, Any]) -> str | None:
    config = configs.get("config.json")
    if isinstance(config, dict) and (sign := takes_images(config)):
        return f"config.json takes images ({sign})"
    return asks_for_processor(configs)


def _processor(configs: Mapping[str, Any]) -> Iterator[Need]:
    kind = processor_class(configs)
    if kind is not None and (argument := PROCESSOR_ARGUMENTS.get(kind)):
        why = f"{kind} computes with {argument}, which stands nowhere else"
        yield Need(Consumer.PROCESSOR, (("processor_config.json",),), why)
    config = configs.get("config.json")
    sign = takes_audio(config) if isinstance(config, dict) else None
    if sign is not None and _image_sign(configs) is None:
        own = configs.get("processor_config.json")
        nested = own is None or (isinstance(own, dict) and isinstance(own.get("feature_extractor"), dict))
        files = IMAGE_PROCESSOR_FILES if nested else IMAGE_PROCESSOR_FILES[:1]
        yield Need(Consumer.PROCESSOR, tuple((name,) for name in files), f"config.json takes audio ({sign})")


def _pooling(configs: Mapping[str, Any], names: frozenset[str]) -> Iterator[Need]:
    for name in module_configs(configs):
        yield Need(Consumer.POOLING, ((name,),), "modules.json names this module")
    signs = sorted(name for name in names if name in _POOLING_SIGNS or _MODULE_FOLDER.fullmatch(name))
    if signs:
        yield Need(Consumer.POOLING, (("modules.json",),), f"{signs[0]} is of a model of sentence-transformers")


def _told_of_part(consumer: str, all_consumers: Collection[str]) -> bool:
    return consumer == Consumer.PROCESSOR and not _PARTS_OF_PROCESSOR.isdisjoint(all_consumers)


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
