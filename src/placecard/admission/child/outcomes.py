"""How a consumer's work ends, other than well: there was nothing to open, or what was opened is of no use."""

from __future__ import annotations


class Skipped(Exception):  # noqa: N818 - an outcome, not an error
    """There is nothing for this consumer to open, or its library is not installed (``unavailable``)."""

    def __init__(self, why: str, *, unavailable: bool = False) -> None:
        super().__init__(why)
        self.unavailable = unavailable


class RejectedError(Exception):
    """The consumer opened its files and what it made of them is unusable."""
