"""Model files made to harm who opens them. Each was seen to do so with tokenizers 0.23.3 or transformers 5.23."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_VOCAB: Final = {"[UNK]": 0, "a": 1, "b": 2}
_WORDS: Final = {"type": "WordLevel", "vocab": _VOCAB, "unk_token": "[UNK]"}


def tokenizer(model: dict[str, Any] | None = None, **parts: Any) -> str:
    """Return a ``tokenizer.json`` of ``model`` and ``parts``."""
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return json.dumps({"version": "1.0", "added_tokens": [], **empty, "model": model or _WORDS} | parts)


def _bpe(vocab: list[str], merges: list[list[str]], prefix: str) -> dict[str, Any]:
    ids = {token: index for index, token in enumerate(vocab)}
    return {"type": "BPE", "vocab": ids, "merges": merges, "continuing_subword_prefix": prefix}


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def _template(*pieces: dict[str, Any]) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": list(pieces), "pair": [], "special_tokens": {}}


PANICS: Final[dict[str, str]] = {
    "merge shorter than the prefix": tokenizer(_bpe(["a", "b", "ab"], [["a", "b"]], "####")),
    "merge cut inside a character, which aborts": tokenizer(_bpe(["a", "é", "aé"], [["a", "é"]], "#")),
    "character map of no length": tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": ""}),
    "character map too short": tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "character map that points outside": tokenizer(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8A"}
    ),
    "template with an unknown special token": tokenizer(
        post_processor=_template({"SpecialToken": {"id": "[CLS]", "type_id": 0}})
    ),
    "merge of an empty token": tokenizer(_bpe(["a", ""], [["", "a"]], "zz")),
    "normalizer that backtracks without end": tokenizer(
        normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}
    ),
    "template with a second sequence": tokenizer(post_processor=_template({"Sequence": {"id": "B", "type_id": 0}})),
    "pieces of no length": tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}),
    "expression that backtracks without end": tokenizer(pre_tokenizer=_split("(a+)+$")),
}
"""``tokenizer.json`` files that panic or abort while loading, or at the first text."""

FAILURES: Final[dict[str, str]] = {
    "not JSON": "{",
    "an array": "[]",
    "merge out of the vocabulary": tokenizer({"type": "BPE", "vocab": _VOCAB, "merges": ["a z"]}),
    "expression that does not compile": tokenizer(pre_tokenizer=_split("([")),
    "unigram without its unknown token": tokenizer({"type": "Unigram", "unk_id": 99, "vocab": [["a", -1.0]]}),
    "unknown token that is not in the vocabulary": tokenizer(
        {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}
    ),
}
"""``tokenizer.json`` files that are refused with an ordinary error."""

HUGE_PADDING: Final = tokenizer(
    padding={"strategy": {"Fixed": 4 * 10**11}, "direction": "Right", "pad_to_multiple_of": None}
    | {"pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
)
"""A ``tokenizer.json`` that pads each text to terabytes."""

HUGE_MAP: Final = tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////wAA"})
"""A ``tokenizer.json`` whose character map claims four gigabytes and holds two bytes."""

TEMPLATE_INJECTIONS: Final[tuple[str, ...]] = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__['os'].environ }}",
    "{{ namespace.__init__.__globals__.os.system('id') }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__code__.co_consts }}",
    "{{ strftime_now.__globals__['sys'].modules }}",
    "{{ tojson.__globals__ }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os }}",
    "{{ (messages|attr('__class__')).__mro__ }}",
    "{{ messages|map(attribute='__class__')|list|first|attr('mro')() }}",
    "{{ '%s'|format.__globals__ }}",
    "{{ ''|attr('format')|attr('__self__')|attr('__class__') .mro() }}",
    "{{ '{0.__class__.__mro__}'.format(messages) .__class__.mro() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.environ }}",
    "{% extends 'config.json' %}",
    "{% set x = get_flashed_messages.__globals__ %}{{ x }}",
    "{{ url_for.__globals__ }}",
    "{{ messages.append(messages) }}",
    "{{ [].__class__.__base__ .__subclasses__()[0].__init__.__globals__ }}",
    "{% for c in ().__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
)
"""Chat templates that reach for what is none of their business; in a sandbox each of them raises or gives nothing."""

ENDLESS_TEMPLATE: Final = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
MEMORY_TEMPLATE: Final = "{% set x = 'a' * 20000000000 %}{{ x|length }}"
LONG_TEMPLATE: Final = "{% for a in range(90000) %}{{ 'a' * 60 }}{% endfor %}"

CANARY: Final = "import pathlib\npathlib.Path({mark!r}).write_text('ran')\nclass C: pass\n"

CODE_CONFIGS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "auto_map of a known type": ("config.json", {"auto_map": {"AutoConfig": "canary.C"}}),
    "auto_map of an unknown type": ("config.json", {"model_type": "canary", "auto_map": {"AutoConfig": "canary.C"}}),
    "auto_map of another repository": (
        "config.json",
        {"model_type": "canary", "auto_map": {"AutoConfig": "evil/x--canary.C", "AutoTokenizer": ["canary.C", None]}},
    ),
    "auto_map of a tokenizer": (
        "tokenizer_config.json",
        {"tokenizer_class": "CanaryTokenizer", "auto_map": {"AutoTokenizer": ["canary.C", "canary.C"]}},
    ),
    "tokenizer class by path": ("tokenizer_config.json", {"tokenizer_class": "../canary.C"}),
    "tokenizer class by module": ("tokenizer_config.json", {"tokenizer_class": "canary.C"}),
    "auto_map of an image processor": (
        "preprocessor_config.json",
        {"image_processor_type": "Canary", "auto_map": {"AutoImageProcessor": "canary.C"}},
    ),
    "image processor by path": ("preprocessor_config.json", {"image_processor_type": "/tmp/canary.C"}),
    "attention of a kernel repository": ("config.json", {"_attn_implementation_internal": "evil/kernel"}),
    "attention hidden in a part": ("config.json", {"vision_config": {"_attn_implementation_internal": "evil/kernel"}}),
    "experts of a kernel repository": ("config.json", {"_experts_implementation_internal": "evil/kernel"}),
    "attention by its plain key": ("config.json", {"attn_implementation": "evil/kernel"}),
    "custom pipeline": ("config.json", {"custom_pipelines": {"canary": {"impl": "canary.C", "pt": ["C"]}}}),
    "trust in itself": ("config.json", {"trust_remote_code": True, "auto_map": {"AutoConfig": "canary.C"}}),
    "custom generation": ("generation_config.json", {"custom_generate": "evil/x", "trust_remote_code": True}),
}
"""Configuration files (name, keys to add) that select code from the directory or from elsewhere."""


def edit(path: Path, **keys: Any) -> None:
    """Set ``keys`` in the JSON object at ``path``, which is made where it is absent."""
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(value | keys))


def write_canaries(directory: Path, mark: Path) -> None:
    """Write modules into ``directory`` that would leave ``mark`` when imported or run."""
    for name in (
        "canary.py",
        "canary/__init__.py",
        "tokenizers.py",
        "jinja2.py",
        "sitecustomize.py",
        "configuration_x.py",
    ):
        path = directory / name
        if not (path.suffix and path.parent.with_suffix(".py").exists() and path.name == "__init__.py"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(CANARY.format(mark=str(mark)))
