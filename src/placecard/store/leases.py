"""Leases: who is alive, and which blobs and generations they use.

A lease is a file named after its owner: kernel boot, process namespace, process id, start time, and 64 random bits. It
is locked while the owner lives, and lists what the owner pinned. Locks and process ids are evidence for cleaning up,
and never a condition of correctness: whoever finds a blob gone fetches it again.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import secrets
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from blake3 import blake3

from placecard.card import check_digest, hex_of
from placecard.store.disk import Disk, translated
from placecard.store.layout import INGEST, LEASES, MODELS

# A lease of another host is believed for this long after its file was last written; nothing else can be asked there.
FOREIGN_LEASE_S: Final = 7 * 86400.0
_OWNER = re.compile(r"(?P<boot>[0-9a-f]{8})\.(?P<space>[0-9a-f]{8})\.(?P<pid>\d+)\.(?P<start>\d+)\.[0-9a-f]{16}")
_MAX_LEASE_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class Here:
    """This process's place: hashes of the kernel's boot and of the process namespace, and the start time of any pid."""

    boot: str
    space: str
    start_of: Callable[[int], int | None]


@dataclass
class Pins:
    """What live leases use: blob hex digits and ``KEY/ID`` of generations."""

    blobs: set[str] = field(default_factory=set)
    generations: set[str] = field(default_factory=set)


def here() -> Here:
    """Return where this process runs. Without ``/proc`` the host name stands in, and any running pid will do."""
    boot = _text("/proc/sys/kernel/random/boot_id") or os.uname().nodename
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = os.uname().nodename
    return Here(_short(boot), _short(space), _start_of)


def is_alive(owner: str, at: Here, *, locked: bool | None, age_s: float) -> bool:
    """Decide whether ``owner`` may still be at work; in doubt it is.

    Args:
        locked: Whether its lease file is locked; None if that cannot be known here.
        age_s: Seconds since anything of it was last written, by the file system's own clock.
    """
    match = _OWNER.fullmatch(owner)
    if match is None:
        return True
    if (match["boot"], match["space"]) == (at.boot, at.space):
        return at.start_of(int(match["pid"])) == int(match["start"])
    if locked:
        return True
    if match["boot"] == at.boot and locked is False:  # one kernel sees all of its own locks, whatever the container
        return False
    return age_s < FOREIGN_LEASE_S


class Lease:
    """A promise to other processes: what is pinned here stays. Use with ``with``; ends with the process."""

    def __init__(self, disk: Disk, owner: str | None) -> None:
        self._disk = disk
        self._pinned: set[str] = set()
        self._fd = -1
        self.owner = owner
        if owner is None:
            return
        name = f"{LEASES}/{owner}"
        self._fd = disk.append(name)
        self._end = weakref.finalize(self, _end, disk, self._fd, name, os.getpid())
        _lock(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def pin(self, *digests: str) -> None:
        """Keep these blobs from garbage collection, whether or not they are there yet. Pin first, then look.

        Raises:
            CardError: ``DIGEST_SYNTAX``.
            StoreError: The lease file cannot be written.
        """
        for digest in digests:
            check_digest(digest, subject="pin")
        self._write([f"blob {hex_of(digest)}\n" for digest in digests])

    def pin_generation(self, path: Path) -> None:
        """Keep the generation that holds ``path`` (a snapshot's directory) from garbage collection."""
        parts = path.relative_to(self._disk.root / MODELS).parts
        self._write([f"generation {parts[0]}/{parts[2]}\n"])

    def refresh(self) -> None:
        """Tell other hosts that this lease is alive; worth calling once a day."""
        if self._fd >= 0:
            os.utime(self._fd)

    def release(self) -> None:
        """Give everything up; releasing twice is no error."""
        if self._fd >= 0:
            self._end()
            self._fd = -1

    def _write(self, lines: list[str]) -> None:
        fresh = [line for line in lines if line not in self._pinned]
        if fresh and self._fd >= 0:
            with translated(self._disk.root):
                try:
                    self._disk.write(self._fd, "".join(fresh).encode())
                except OSError as error:
                    if error.errno != errno.EROFS:
                        raise
                    _state_read_only(self._disk)
            self._pinned.update(fresh)


class Leases:
    """All leases of one store, and this process's own presence in it."""

    def __init__(self, disk: Disk, *, at: Here | None = None, writable: bool = True) -> None:
        self._disk = disk
        self._at = here() if at is None else at
        self._writable = writable
        self._guard = threading.Lock()
        self._presence: Lease | None = None
        self._presence_pid = 0
        self._counter = itertools.count()

    def new_owner(self) -> str:
        """Return a fresh owner: this process, and 64 random bits."""
        pid = os.getpid()
        return f"{self._at.boot}.{self._at.space}.{pid}.{self._at.start_of(pid) or 0}.{secrets.token_hex(8)}"

    def acquire(self) -> Lease:
        """Return a new lease that pins nothing yet. On a store that cannot be written nothing is collected either."""
        with translated(self._disk.root):
            try:
                return Lease(self._disk, self.new_owner() if self._writable else None)
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
                _state_read_only(self._disk)
                return Lease(self._disk, None)

    def temporary(self) -> str:
        """Return a path in ``ingest/`` that nobody uses, marked as this process's."""
        return f"{INGEST}/{self.presence().owner}-{next(self._counter)}"

    def presence(self) -> Lease:
        """Return the lease that says this process is at work here; a forked child gets its own."""
        with self._guard:
            if self._presence is None or self._presence_pid != os.getpid() or not self._stands(self._presence):
                self._presence, self._presence_pid = Lease(self._disk, self.new_owner()), os.getpid()
            return self._presence

    def pins(self) -> Pins:
        """Return what the live leases use, as of now."""
        pins = Pins()
        for owner in self._disk.names(LEASES):
            if not self.alive(owner):
                continue
            try:
                text = self._disk.read(f"{LEASES}/{owner}", _MAX_LEASE_BYTES).decode(errors="replace")
            except FileNotFoundError:
                continue
            # A line without its end is being written: its pin() has not returned, and its owner has not looked yet.
            for line in text.split("\n")[:-1]:
                kind, _, name = line.partition(" ")
                (pins.blobs if kind == "blob" else pins.generations).add(name)
        return pins

    def alive(self, owner: str, path: str | None = None) -> bool:
        """Whether ``owner``, who wrote ``path``, may still be at work."""
        locked, written = self._evidence(owner)
        if path is not None:
            written = max(written, self._mtime(path))
        return is_alive(owner, self._at, locked=locked, age_s=self._now() - written if written else 0.0)

    def dead(self) -> list[str]:
        """Return the owners of leases that nobody holds any more."""
        return [owner for owner in self._disk.names(LEASES) if not self.alive(owner)]

    def leftovers(self) -> list[str]:
        """Return the paths in ``ingest/`` whose writers are gone; names that are not ours are left alone."""
        paths = []
        for name in self._disk.names(INGEST):
            owner, _, number = name.rpartition("-")
            if number and _OWNER.fullmatch(owner) and not self.alive(owner, f"{INGEST}/{name}"):
                paths.append(f"{INGEST}/{name}")
        return paths

    def _stands(self, lease: Lease) -> bool:
        return self._disk.exists(f"{LEASES}/{lease.owner}")

    def _evidence(self, owner: str) -> tuple[bool | None, float]:
        match = _OWNER.fullmatch(owner)
        if match is None or (match["boot"], match["space"]) == (self._at.boot, self._at.space):
            return None, 0.0  # decided without it
        path = f"{LEASES}/{owner}"
        try:
            fd = self._disk.open(path)
        except OSError:
            return None, 0.0
        try:
            return _is_locked(fd, self._locks_work()), os.fstat(fd).st_mtime
        finally:
            os.close(fd)

    def _locks_work(self) -> bool:
        """Whether a lock held here keeps a second one out; some file systems grant every lock, others none."""
        fd = self._disk.open(f"{LEASES}/{self.presence().owner}")
        try:
            return _is_locked(fd, True) is True
        finally:
            os.close(fd)

    def _now(self) -> float:
        """Return the time as the file system tells it, so that its stamps are compared with its own clock."""
        owner = self.presence()
        owner.refresh()
        return self._mtime(f"{LEASES}/{owner.owner}")

    def _mtime(self, path: str) -> float:
        try:
            return self._disk.stat(path).st_mtime
        except OSError:
            return 0.0


def _state_read_only(disk: Disk) -> None:
    disk.state("lease_not_written", f"{disk.root} turned read-only: nothing is pinned, and nothing can be collected")


def _end(disk: Disk, fd: int, name: str, pid: int) -> None:
    try:
        if os.getpid() == pid:  # a forked child must not end its parent's lease
            disk.unlink(name)
    except OSError as error:
        disk.state("lease_left_behind", f"{disk.root / name}: {error.strerror}")
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks: the owner's name must do
        return False
    return True


def _is_locked(fd: int, trusted: bool) -> bool | None:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return False if trusted else None


def _start_of(pid: int) -> int | None:
    """Return when ``pid`` started, in clock ticks since boot; None if it does not run. Source: proc(5), field 22."""
    if stat := _text(f"/proc/{pid}/stat"):
        return int(stat.rpartition(")")[2].split()[19])
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _short(text: str) -> str:
    return blake3(text.strip().encode()).hexdigest()[:8]
