"""Opening the processor, which joins a tokenizer and an image processor, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from placecard.admission.child.libraries import missing_library
from placecard.admission.child.outcomes import RejectedError, Skipped
from placecard.admission.families import PROCESSOR_ARGUMENTS

_IMAGE_SIDE: Final = 224


def open_processor(directory: Path, named: str | None, options: dict[str, Any]) -> str:
    """Open the processor; let one that computes with an argument of its own file take a small image.

    Args:
        directory: Where its files are.
        named: The class that a file names, if one does.
        options: For ``from_pretrained``.

    Raises:
        Skipped: transformers has none for the model, or what is missing here is a library or code, which front ends do
            not need: they count with the image processor alone.
    """
    from PIL import Image
    from transformers import AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
    from transformers.processing_utils import ProcessorMixin

    if named is not None and named not in PROCESSOR_MAPPING_NAMES.values():
        raise Skipped(f"transformers does not know {ascii(named)[:60]}")
    try:
        processor = AutoProcessor.from_pretrained(str(directory), **options)
    except Exception as error:
        if library := missing_library(error):
            raise Skipped(
                f"not opened: {library} is not installed, which its parts for video or tensors need"
            ) from None
        if "trust_remote_code" in str(error):
            raise Skipped("not opened: it asks for code of the directory, which is never run") from None
        raise
    kind = type(processor).__name__
    if not isinstance(processor, ProcessorMixin):
        raise Skipped("transformers has no processor class for the model")
    argument = PROCESSOR_ARGUMENTS.get(kind)
    if argument is None:
        return kind
    if getattr(processor, argument, None) is None:
        raise RejectedError(f"{kind} has no {argument}: processor_config.json does not say it, or is missing")
    token = getattr(processor, "image_token", None)
    try:
        image = Image.new("RGB", (_IMAGE_SIDE, _IMAGE_SIDE))
        made = processor(images=image, text=f"{token if isinstance(token, str) else ''} a", return_tensors="np")
    except ImportError as error:
        return f"{kind}, not run: {missing_library(error) or error} is not installed"
    return f"{kind}: {made['input_ids'].shape[-1]} tokens for {_IMAGE_SIDE}x{_IMAGE_SIDE}"
