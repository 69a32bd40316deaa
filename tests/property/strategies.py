"""Values for the laws: JSON, names, URIs, files and whole cards."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from placecard.card import (
    Card,
    CheckedFile,
    HubUri,
    LeftOut,
    Lora,
    Serving,
    assign_slots,
    check_name,
    collisions,
    digest_of,
    file_uri,
)
from placecard.card.model import bad_string
from placecard.errors import CardError

COMMITS: Final = st.text("0123456789abcdef", min_size=40, max_size=40)
_WORD: Final = st.text("abcXYZ019_-", min_size=1, max_size=8)
_READABLE: Final = st.text(min_size=1, max_size=12).filter(lambda text: bad_string(text) is None)
_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

# Every JSON value that a card may carry under a key nobody knows.
JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value or 0.0)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)


def _passes(name: str) -> bool:
    try:
        check_name(name)
    except CardError:
        return False
    return True


_PART: Final = st.sampled_from(["a", "é", "B b", "ｆ", "1_Pooling", ".x", "说明"]) | st.text(min_size=1, max_size=6)
NAMES: Final = st.lists(_PART, min_size=1, max_size=3).map("/".join).filter(_passes)


def unknown(*known: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return keys that this release does not know, with any value."""
    return st.dictionaries(_TEXT.filter(lambda key: key not in known), JSON, max_size=2)


PATHS: Final = (
    st.lists(_PART.filter(_passes), min_size=1, max_size=3).map("/".join).filter(lambda path: "%" not in path)
)


@st.composite
def uris(draw: st.DrawFn) -> str:
    """Return a URI of the grammar, canonically written."""
    path = draw(PATHS)
    match draw(st.sampled_from(["file", "hub", "http"])):
        case "file":
            return file_uri("/" + path)
        case "hub":
            return str(HubUri(draw(st.sampled_from(["gpt2", "acme/river"])), draw(COMMITS), path))
        case _:
            host = draw(st.sampled_from(["10.0.0.7", "[fd00::7]", "worker-1.example"]))
            return f"http://{host}:{draw(st.integers(1, 65535))}/v1/{draw(_WORD)}"


@st.composite
def files(draw: st.DrawFn, name: str, role: str) -> CheckedFile:
    """Return a file called ``name`` in ``role``."""
    content = draw(st.binary(min_size=0 if role == "extra" else 1, max_size=8))
    return CheckedFile(
        name=name,
        role=role if role != "extra" else draw(st.sampled_from(["extra", "voice_config"])),
        digest=digest_of(content),
        size=draw(st.sampled_from([len(content), None])),
        consumers=tuple(draw(st.lists(st.sampled_from(["config", "tokenizer"]), max_size=2, unique=True))),
        sources=tuple(draw(st.lists(uris(), max_size=2))),
        unknown=draw(unknown("name", "role", "digest", "size", "consumers", "sources")),
    )


@st.composite
def servings(draw: st.DrawFn) -> Serving:
    """Return any way of serving."""
    length = st.none() | st.integers(1, 2**31 - 1)
    word = st.none() | _READABLE
    return Serving(
        aliases=tuple(draw(st.lists(_READABLE, max_size=2))),
        context_length=draw(length),
        kv_block_size=draw(length),
        worker_type=draw(st.sampled_from([None, "aggregated", "prefill", "decode"])),
        tool_parser=draw(word),
        reasoning_parser=draw(word),
        image_options=draw(st.dictionaries(_TEXT, JSON, max_size=2)),
        lora=draw(st.none() | st.builds(Lora, name=_READABLE, max_gpu_lora_count=st.none() | st.integers(0, 9))),
        unknown=draw(unknown(*Serving.__struct_fields__).filter(lambda keys: "unknown" not in keys)),
    )


@st.composite
def cards(draw: st.DrawFn) -> Card:
    """Return any valid card."""
    known = ["tokenizer.json", "chat_template.jinja", "merges.txt", "sub/vocab.json"]
    names = ["config.json"]
    for name in draw(st.lists(st.sampled_from(known) | NAMES, max_size=4)):
        if not list(collisions([*names, name])):
            names.append(name)
    roles = assign_slots(names)
    return Card(
        name=draw(_READABLE),
        origin=draw(st.none() | _READABLE),
        files=tuple(draw(files(name, roles[name].value)) for name in names),
        left_out=tuple(draw(st.lists(st.builds(LeftOut, st.text(max_size=6), st.just("weights")), max_size=2))),
        serving=draw(servings()),
        unknown=draw(unknown(*Card.__struct_fields__)),
    )
