"""What every source of bytes has in common. A source is asked for one URI and yields untrusted bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from placecard.card import Uri
from placecard.errors import Code, SourceError


class Source(Protocol):
    """A place where bytes may be had."""

    def open(self, uri: Uri) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Return a context whose value yields the file's bytes as they arrive, in chunks of at most 1 MiB.

        Nothing is retried and nothing is verified here; leaving the context early gives everything back.

        Raises:
            SourceError: On entry or while iterating; ``transient`` tells whether asking again can help.
        """
        ...


class TransferError(SourceError):
    """A failure whose own facts say more than its code: whether asking again can help, and how long to wait first.

    Args:
        transient: Whether asking the same place again can help; overrides what the code says in general.
        retry_after_s: Seconds that the place asked to be left alone, bounded; None if it did not say.
    """

    def __init__(
        self, code: Code, detail: str, *, subject: str = "", transient: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, detail, subject=subject)
        self._transient = transient
        self.retry_after_s = retry_after_s

    @property
    def transient(self) -> bool:
        """Whether asking the same place again can help."""
        return self._transient
