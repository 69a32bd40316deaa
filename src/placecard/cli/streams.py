"""The process's standard streams and signals, so that neither a full disk nor a signal ends in a traceback."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TextIO

_OUTPUT: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF, errno.EAGAIN)


def open_missing() -> None:
    """Open what the caller left closed of the three standard streams, on nothing.

    Otherwise the next file that is opened takes its number, and gets what is meant for a screen.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def escape_what_cannot_be_said() -> None:
    """Show a character that the terminal's encoding lacks as its escape; names and paths may hold any."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> bool:
    """Write out what is buffered; False if a stream does not take it, which is said on the other one if it can be.

    What a stream did not take is dropped, so that the interpreter does not try again when it exits.
    """
    errors = [error for stream in (sys.stdout, sys.stderr) if (error := _why_unwritable(stream)) is not None]
    for error in errors:
        say_unwritable(error)
    return not errors


def is_of_output(error: Exception) -> bool:
    """Whether ``error`` came from writing an answer: all other files have names, or errors of their own."""
    return isinstance(error, OSError) and error.filename is None and error.errno in _OUTPUT


def say_unwritable(error: Exception) -> None:
    """Say on standard error that output failed, if it can be said; a reader who has just gone is told nothing."""
    if isinstance(error, BrokenPipeError):
        return
    try:
        sys.stderr.write(f"placecard: output cannot be written: {getattr(error, 'strerror', None) or error}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _drop(sys.stderr)


@contextmanager
def terminable() -> Iterator[list[int]]:
    """Let SIGTERM end the work as SIGINT does, with everything tidied up; yields a list that names it if it came.

    A command that handles SIGTERM by itself is free to.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield came
        return

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, end)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _why_unwritable(stream: TextIO) -> Exception | None:
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        _drop(stream)
        return error
    return None


def _drop(stream: TextIO) -> None:
    """Let what is buffered go nowhere."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return  # a stream without a descriptor, or one that is closed: the interpreter leaves it alone as well
