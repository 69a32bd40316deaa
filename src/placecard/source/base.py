"""What every source of bytes has in common. A source is asked for one URI and yields untrusted bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from placecard.card import Uri


class Source(Protocol):
    """A place where bytes may be had."""

    def open(self, uri: Uri) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Return a context whose value yields the file's bytes as they arrive, in chunks of at most 1 MiB.

        Nothing is retried and nothing is verified here; leaving the context early gives everything back.

        Raises:
            SourceError: On entry or while iterating; ``transient`` tells whether asking again can help.
        """
        ...
