"""Dynamo's file key-value store: one file per key, a lease by modification time.

Source: the files that ai-dynamo 1.6.1 writes with ``DYN_DISCOVERY_BACKEND=file``: ``ROOT/BUCKET/KEY``, all of the key
but letters and digits percent-encoded; a file that nobody touched for ten seconds is gone, and whoever sees it may
remove it.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from placecard.errors import Code, DiscoveryError

MODELS: Final = "v1/mdc"
INSTANCES: Final = "v1/instances"
TTL_S: Final = 10.0
MAX_ENTRIES: Final = 65536
_TEMPORARY: Final = ".tmp_"
_KEPT = re.compile(r"[A-Za-z0-9]")


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a file from the next without reading it."""

    inode: int
    size: int
    modified_ns: int

    @property
    def touched_s(self) -> float:
        """When the lease was last renewed, in seconds of Unix time."""
        return self.modified_ns / 1e9


def encode_key(key: str) -> str:
    """Return the file name of ``key``; vector ``a-b/c`` → ``a%2Db%2Fc``."""
    return "".join(c if _KEPT.fullmatch(c) else "".join(f"%{byte:02X}" for byte in c.encode()) for c in key)


def decode_key(name: str) -> str:
    """Return the key that a file name stands for."""
    return unquote(name, errors="replace")


class FileKv:
    """The files below one root. All methods block, and raise ``DiscoveryError`` when the root cannot be used."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check(self) -> None:
        """Raise unless the root is absent or a directory that strangers cannot write."""
        try:
            mode = self.root.stat().st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unusable(self.root, error) from error
        if not stat.S_ISDIR(mode):
            raise DiscoveryError(Code.DISCOVERY_UNAVAILABLE, "is not a directory", subject=str(self.root))
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise DiscoveryError(Code.DISCOVERY_FORBIDDEN, "every user may write it", subject=str(self.root))

    def scan(self, bucket: str) -> dict[str, Stamp]:
        """Return the regular files of ``bucket`` by file name, live or not; a bucket nobody wrote yet is empty."""
        found: dict[str, Stamp] = {}
        try:
            with os.scandir(self.root / bucket) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found[entry.name] = Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
                    if len(found) > MAX_ENTRIES:
                        detail = f"holds more than {MAX_ENTRIES} records"
                        raise DiscoveryError(Code.DISCOVERY_UNAVAILABLE, detail, subject=str(self.root / bucket))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise _unusable(self.root / bucket, error) from error
        return found

    def read(self, bucket: str, name: str, *, max_bytes: int) -> bytes:
        """Return the content of one file, ``max_bytes`` + 1 at most.

        Raises:
            OSError: The file cannot be read, or has vanished.
        """
        descriptor = os.open(self.root / bucket / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(max_bytes + 1)

    def write(self, bucket: str, key: str, value: bytes) -> None:
        """Put ``value`` under ``key`` with a fresh lease, whole or not at all."""
        directory = self.root / bucket
        temporary = directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(value)
                temporary.replace(directory / encode_key(key))
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(directory, error) from error

    def touch(self, bucket: str, key: str) -> bool:
        """Renew the lease of ``key``; False if its file is gone."""
        try:
            os.utime(self.root / bucket / encode_key(key))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unusable(self.root / bucket, error) from error
        return True

    def remove(self, bucket: str, key: str) -> None:
        """Remove ``key``; removing what is not there is no error."""
        try:
            (self.root / bucket / encode_key(key)).unlink(missing_ok=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _unusable(self.root / bucket, error) from error


def _unusable(path: Path, error: OSError) -> DiscoveryError:
    return DiscoveryError(Code.DISCOVERY_UNAVAILABLE, error.strerror or str(error), subject=str(path))
