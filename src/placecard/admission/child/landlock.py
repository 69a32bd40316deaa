"""Landlock: from here on this process reads only what is listed, writes nothing, runs no program, dials no TCP address.

Source: Linux, Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h (ABI 1 to 6).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_READ_FILE, _READ_DIR, _REFER, _TRUNCATE = 1 << 2, 1 << 3, 1 << 13, 1 << 14
_ALL_OF_ABI_1: Final = (1 << 13) - 1  # execute, write, read, and making or removing of any kind
_NET_BIND_AND_CONNECT: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11  # of processes outside
_NO_NEW_PRIVS: Final = 38


def confine(readable: Iterable[Path]) -> None:
    """Confine this process and its descendants to reading beneath ``readable``; there is no way back.

    Raises:
        OSError: The kernel does not have it, or a rule was refused.
    """
    if sys.platform != "linux":
        raise OSError("not Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    abi = _call(libc, _CREATE_RULESET, None, 0, _VERSION)
    files = _ALL_OF_ABI_1 | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)
    words = [
        files,
        *([_NET_BIND_AND_CONNECT] if abi >= 4 else []),
        *([_ABSTRACT_SOCKETS_AND_SIGNALS] if abi >= 6 else []),
    ]
    attributes = struct.pack(f"={len(words)}Q", *words)
    ruleset = _call(libc, _CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        for path in readable:
            _allow(libc, ruleset, path)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        _call(libc, _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        access = _READ_FILE | (_READ_DIR if path.is_dir() else 0)
        rule = struct.pack("=Qi", access, descriptor)
        _call(libc, _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(descriptor)


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
