"""Opening a directory: each consumer opens what it would open in a front end, and does one small piece of its work.

Nothing here trusts the directory. What goes wrong is raised; the caller reports it and goes on to the next consumer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from placecard.admission.child.libraries import missing_for_tokenizer
from placecard.admission.child.outcomes import RejectedError, Skipped
from placecard.admission.child.processing import open_processor
from placecard.admission.configs import Configs, parse_config
from placecard.admission.consumers import CHAT_TEMPLATE_FILES, Consumer, has_tokenizer
from placecard.admission.modalities import processor_class
from placecard.admission.needs import module_configs, nests_image_processor, wild_modules

PROBE: Final = "Hello, world! 123 \u00e9\u4e16\u754c\U0001f642 " + "a" * 48 + "!\n\n\tfoo_bar(baz);"
MAX_RENDERED_BYTES: Final = 2 << 20
MAX_TEMPLATE_BYTES: Final = 1 << 20
_IMAGE_SIDE: Final = 224
_INT64: Final = range(-(2**63), 2**63)
_OPTIONS: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
_CHATS: Final[tuple[list[dict[str, Any]], ...]] = (
    [{"role": "user", "content": "Hello"}],
    [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
)


@dataclass
class Opening:
    """One directory being opened.

    Args:
        directory: Where the files are.
        names: Every file beneath it.
        configs: Its parsed configuration files.
        transformers: Whether transformers can be imported here.
        tokenizer: What the tokenizer consumer made, for the chat template.
        image_opened: Whether the image processor opened, without which there is no processor to open.
    """

    directory: Path
    names: frozenset[str]
    configs: Configs
    transformers: bool
    tokenizer: Any = field(default=None)
    image_opened: bool = False

    def config(self) -> str:
        """Open the configuration; a model type that transformers does not know is read as plain JSON."""
        if "config.json" not in self.names:
            raise Skipped("no config.json")
        config = self._parsed("config.json")
        if not isinstance(config, dict):
            raise RejectedError("config.json is not a JSON object")
        if not self.transformers:
            return "read as plain JSON: transformers is not installed"
        from transformers import AutoConfig
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        model_type = config.get("model_type")
        if model_type not in CONFIG_MAPPING_NAMES:
            return f"read as plain JSON: transformers does not know model_type {ascii(model_type)[:60]}"
        return type(AutoConfig.from_pretrained(str(self.directory), **_OPTIONS)).__name__

    def generation_config(self) -> str:
        """Open the generation defaults."""
        if "generation_config.json" not in self.names:
            raise Skipped("no generation_config.json")
        values = self._parsed("generation_config.json")
        if not isinstance(values, dict):
            raise RejectedError("generation_config.json is not a JSON object")
        for key, value in values.items():
            if isinstance(value, int) and value not in _INT64:
                raise RejectedError(f"{key} is {str(value)[:24]}, which does not fit 64 bits")
            if isinstance(value, float) and not math.isfinite(value):
                raise RejectedError(f"{key} is {value}")
        if not self.transformers:
            return "read as plain JSON: transformers is not installed"
        from transformers import GenerationConfig

        GenerationConfig.from_pretrained(str(self.directory), local_files_only=True)
        return "GenerationConfig"

    def pooling(self) -> str:
        """Read the configuration of each sentence-transformers module."""
        if "modules.json" not in self.names:
            raise Skipped("no modules.json")
        modules = self._parsed("modules.json")
        if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
            raise RejectedError("modules.json is not a list of modules")
        if wild := wild_modules(self.configs.parsed):
            raise RejectedError(f"modules.json names a path that is not within the directory: {wild[0]}")
        for name in (expected := module_configs(self.configs.parsed)):
            if name not in self.names:
                raise RejectedError(f"{name} is missing, which modules.json names")
            if not isinstance(self._parsed(name), dict):
                raise RejectedError(f"{name} is not a JSON object")
        return f"{len(modules)} modules, {len(expected)} with a configuration"

    def tokenize(self) -> str:
        """Open the tokenizer, encode the probe text, and decode it again.

        ``tokenizer.json`` is opened as it stands too: transformers rebuilds some tokenizers from parts of it, and then
        never meets the parts that would panic in whoever opens the file itself.
        """
        if not has_tokenizer(self.names):
            raise Skipped("no tokenizer file")
        told = _probe(self._plain_tokenizer()) if "tokenizer.json" in self.names else ""
        if self.transformers:
            tokenizer = self._auto_tokenizer()
            told, self.tokenizer = _probe(tokenizer), tokenizer
        if not told:
            raise Skipped("transformers is not installed, and there is no tokenizer.json", unavailable=True)
        return told

    def image_processor(self) -> str:
        """Open the image processor without torch, and let it take one small image."""
        if "preprocessor_config.json" not in self.names and not nests_image_processor(self.configs.parsed):
            raise Skipped("no preprocessor_config.json, and no processor_config.json with an image_processor part")
        if not self.transformers:
            raise Skipped("transformers is not installed", unavailable=True)
        own = self.configs.object("preprocessor_config.json")
        audio = "feature_extractor_type" in own and "image_processor_type" not in own and "image_mean" not in own
        if audio and not nests_image_processor(self.configs.parsed):
            raise Skipped("preprocessor_config.json is of audio")
        try:
            from PIL import Image
            from transformers import AutoImageProcessor
        except ImportError as error:
            raise Skipped(f"{error.name} is not installed", unavailable=True) from None
        processor = AutoImageProcessor.from_pretrained(str(self.directory), **_OPTIONS)
        _check_bounds(processor)
        tokens = _patches(processor)
        made, lacking = None, ""
        try:
            made = processor(images=Image.new("RGB", (_IMAGE_SIDE, _IMAGE_SIDE)), return_tensors="np")
        except ImportError as error:
            lacking = f"{error.name or error} is not installed"
        self.image_opened = True
        if made is None:
            return f"{type(processor).__name__}, not run: {lacking}; {tokens}"
        shape = tuple(getattr(made.get("pixel_values"), "shape", ()))
        return f"{type(processor).__name__}: pixel_values {shape}; {tokens}"

    def processor(self) -> str:
        """Open what joins tokenizer and image processor; whatever either of them lacks is told of that one alone."""
        if self.tokenizer is None or not self.image_opened:
            raise Skipped("no tokenizer and image processor to join")
        return open_processor(self.directory, processor_class(self.configs.parsed), _OPTIONS)

    def chat_template(self) -> str:
        """Render a chat of one message in transformers' sandbox."""
        name, template = self._template()
        if len(template.encode()) > MAX_TEMPLATE_BYTES:
            raise RejectedError(f"{name} is larger than {MAX_TEMPLATE_BYTES} bytes")
        if not self.transformers:
            raise Skipped("transformers is not installed", unavailable=True)
        from transformers.utils.chat_template_utils import render_jinja_template

        failures = []
        special = _special_tokens(self.tokenizer)
        for chat in _CHATS:
            try:
                rendered, _ = render_jinja_template(
                    [chat], chat_template=template, add_generation_prompt=True, **special
                )
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - a template may raise anything; all forms are tried, the first is told
                failures.append(error)
                continue
            if len(text := rendered[0]) > MAX_RENDERED_BYTES:
                raise RejectedError(f"{name} renders one word as {len(text)} characters")
            return f"{name}: {len(text)} characters"
        raise failures[0]

    def consumers(self) -> Mapping[Consumer, Callable[[], str]]:
        """Return what each consumer does, in the order of :class:`Consumer`."""
        return {
            Consumer.CONFIG: self.config,
            Consumer.GENERATION_CONFIG: self.generation_config,
            Consumer.POOLING: self.pooling,
            Consumer.TOKENIZER: self.tokenize,
            Consumer.IMAGE_PROCESSOR: self.image_processor,
            Consumer.PROCESSOR: self.processor,
            Consumer.CHAT_TEMPLATE: self.chat_template,
        }

    def _auto_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(str(self.directory), **_OPTIONS)
        except Exception as error:
            plain = "tokenizer.json" in self.names
            if not plain and (missing := missing_for_tokenizer(self.directory, self.names)):
                raise Skipped(missing, unavailable=True) from error
            raise

    def _plain_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.directory / "tokenizer.json"))

    def _template(self) -> tuple[str, str]:
        """Return the file and text of the chat template, in the order of precedence of the front end."""
        for name in CHAT_TEMPLATE_FILES:
            if name not in self.names:
                continue
            if name.endswith(".jinja"):
                with (self.directory / name).open(encoding="utf-8") as file:
                    return name, file.read(MAX_TEMPLATE_BYTES + 1)
            return name, _default(self._parsed(name), name)
        if self.configs.object("tokenizer_config.json").get("chat_template") is None:
            raise Skipped("no chat template")
        name = "tokenizer_config.json"
        return f"chat_template in {name}", _default(self._parsed(name), name)

    def _parsed(self, name: str) -> Any:
        """Return the parsed file, read again, so that a trace sees it opened by its consumer."""
        return parse_config((self.directory / name).read_bytes(), name=name)


def _probe(tokenizer: Any) -> str:
    """Encode the probe text and decode it again; say what came of it."""
    encoded = tokenizer.encode(PROBE)
    ids = getattr(encoded, "ids", encoded)
    if not isinstance(ids, list) or not ids:
        raise RejectedError("the probe text gives no tokens")
    text = tokenizer.decode(ids)
    return f"{type(tokenizer).__name__}: {len(PROBE)} characters, {len(ids)} tokens, {len(text)} characters"


def _default(value: Any, name: str) -> str:
    """Return the default template of a string, or of a list of ``{name, template}``."""
    template = value.get("chat_template") if isinstance(value, dict) else None
    if isinstance(template, list):
        named = {str(each.get("name")): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default", next(iter(named.values()), None))
    elif isinstance(template, dict):
        template = template.get("default", next(iter(template.values()), None))
    if not isinstance(template, str):
        raise RejectedError(f"{name} holds no template text")
    return template


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    tokens = getattr(tokenizer, "special_tokens_map", None)
    plain = json.loads(json.dumps(tokens, default=str)) if isinstance(tokens, dict) else {}
    return {"bos_token": "", "eos_token": ""} | {key: value for key, value in plain.items() if isinstance(value, str)}


def _check_bounds(processor: Any) -> None:
    """Raise where the smallest image is larger than the largest: every image would come out wrong, without an error."""
    size = getattr(processor, "size", None) or {}
    sides = {key: size[key] for key in ("shortest_edge", "longest_edge") if isinstance(size.get(key), int | float)}
    if len(sides) == 2 and sides["shortest_edge"] > sides["longest_edge"]:
        raise RejectedError(f"the least size {sides['shortest_edge']} is over the greatest {sides['longest_edge']}")


def _patches(processor: Any) -> str:
    count = getattr(processor, "get_number_of_image_patches", None)
    if count is None:
        return "no patch count"
    patches = count(_IMAGE_SIDE, _IMAGE_SIDE, {})
    merge = getattr(processor, "merge_size", None)
    tokens = patches // merge**2 if isinstance(merge, int) else patches
    if not isinstance(tokens, int) or tokens <= 0:
        raise RejectedError(f"an image of {_IMAGE_SIDE}x{_IMAGE_SIDE} gives {tokens!r} tokens")
    unit = "tokens" if isinstance(merge, int) else "tiles"
    return f"{tokens} {unit} for {_IMAGE_SIDE}x{_IMAGE_SIDE}"
