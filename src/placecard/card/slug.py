"""Slugs: a model name as it stands in URLs and directory names."""

from __future__ import annotations

import re

_OTHER = re.compile(r"[^a-z0-9_-]")


def slugify(name: str) -> str:
    """Return the slug of ``name``: lower case, everything but ``a-z 0-9 - _`` becomes ``_``, no leading ``_``.

    Different names can share a slug, and a name of foreign letters alone has an empty one; nothing may rely on a slug
    alone.

    Source: NVIDIA Dynamo, ``Slug::from_string``; vector ``Qwen/Qwen3-0.6B`` → ``qwen_qwen3-0_6b``.
    """
    return _OTHER.sub("_", name.lower()).lstrip("_")
