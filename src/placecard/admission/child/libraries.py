"""Which library is missing, where a consumer fails for want of one: that is no fault of the model's files."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# Name in a message, in lower case, to the module and to what is installed. Source: transformers 5.23,
# utils/import_utils.py: BACKENDS_MAPPING.
_LIBRARIES: Final[dict[str, tuple[str, str]]] = {
    "pytorch": ("torch", "torch"),
    "torch": ("torch", "torch"),
    "torchvision": ("torchvision", "torchvision"),
    "timm": ("timm", "timm"),
    "sentencepiece": ("sentencepiece", "sentencepiece"),
    "tiktoken": ("tiktoken", "tiktoken"),
    "protobuf": ("google.protobuf", "protobuf"),
    "pillow": ("PIL", "pillow"),
    "scipy": ("scipy", "scipy"),
    "opencv": ("cv2", "opencv-python-headless"),
}
# Source: transformers 5.23, utils/import_utils.py, models/auto/image_processing_auto.py, convert_slow_tokenizer.py.
_SAYINGS: Final = (
    re.compile(r"requires? (?:the )?`?([A-Za-z]+)`?"),
    re.compile(r"[Mm]issing optional dependencies: `?([A-Za-z]+)`?"),
    re.compile(r"`([A-Za-z]+)` is required"),
)
_PIECES: Final = ("sentencepiece", "protobuf")


def missing_library(error: Exception) -> str:
    """Return what must be installed before ``error`` can be about the model; empty if it is about the model now."""
    if isinstance(error, ImportError) and error.name and not _is_installed(error.name):
        module = error.name.partition(".")[0]
        return next((name for held, name in _LIBRARIES.values() if held == module), module)
    text = " ".join(str(error).split())
    for saying in _SAYINGS:
        for match in saying.finditer(text):
            module, name = _LIBRARIES.get(match[1].lower(), ("", ""))
            if module and not _is_installed(module):
                return name
    return ""


def missing_for_tokenizer(directory: Path, names: Collection[str]) -> str:
    """Return the library and the file that wants it, for a tokenizer that is no ``tokenizer.json``; empty if none is.

    Without the right library, transformers takes the one kind of file for the other, and tells of that.
    """
    for name in sorted(names):
        for library in _wanted_by(directory, name) if "/" not in name else ():
            if not _is_installed(_LIBRARIES[library][0]):
                return f"{library} is not installed, and {name} cannot be read without it (`pip install {library}`)"
    return ""


def _wanted_by(directory: Path, name: str) -> Collection[str]:
    if name.endswith(".tiktoken"):
        return ("tiktoken",)
    if not name.endswith(".model") and ".model.v" not in name:
        return ()
    with (directory / name).open("rb") as file:
        first = file.read(1)
    # Field 1 of a protocol buffer, with a length; the other kind is lines of base64.
    return _PIECES if first == b"\n" else ("tiktoken",)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
