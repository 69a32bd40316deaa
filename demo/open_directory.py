"""Open a resolved directory as a front end would: offline, with the real transformers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

from rich.console import Console
from transformers import AutoImageProcessor, AutoTokenizer

directory = Path(sys.argv[1])
console = Console(highlight=False, soft_wrap=True)
tokenizer = AutoTokenizer.from_pretrained(directory)
console.print(f"  [green]✓[/] AutoTokenizer: {len(tokenizer('A place card for every guest.')['input_ids'])} tokens")
if tokenizer.chat_template:
    content = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    console.print(
        f"  [green]✓[/] chat template: {chat.count('<|image_pad|>')} image placeholder in {len(chat)} characters"
    )
if (directory / "preprocessor_config.json").exists():
    processor = AutoImageProcessor.from_pretrained(directory)
    tokens = processor.get_number_of_image_patches(1125, 1999, {}) // processor.merge_size**2
    console.print(f"  [green]✓[/] AutoImageProcessor: an image of 1999x1125 pixels costs {tokens} tokens")
if (directory / "1_Pooling" / "config.json").exists():
    console.print("  [green]✓[/] nested file: 1_Pooling/config.json")
