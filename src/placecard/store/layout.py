"""Where things stand in the store, and how a directory becomes one.

::

    ROOT/                                 0700
      CACHEDIR.TAG  placecard-store.json  what this is, which layout, whether links work
      blobs-v1/HEX                        proven bytes, 0444; the name is the blake3 digest
      seals-v1/HEX[@LAYER]                what stat() said when the bytes were proven
      models-v1/SLUG--HASH/
          current -> generations/ID/model switched by rename
          generations/ID/manifest.json    never changed
          generations/ID/model/…          relative links into blobs-v1, or copies
          state-KEY.json                  small caches of callers; state-card-ID.json: the newest card of a generation
      ingest/OWNER-N                      everything unfinished, by owner
      leases/OWNER                        who is alive and what they use
      trash/NAME.N  bad/HEX.N             on the way out; set aside

Buckets carry their version in the name, so that two releases can share a root.
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Final

from blake3 import blake3

from placecard.card import slugify
from placecard.errors import Code, StoreError
from placecard.store.disk import Disk, store_error, translated
from placecard.telemetry import Observe, ignore

LAYOUT: Final = 1
MARKER: Final = "placecard-store.json"
BLOBS, SEALS, MODELS = "blobs-v1", "seals-v1", "models-v1"
INGEST, LEASES, TRASH, BAD = "ingest", "leases", "trash", "bad"
_DIRECTORIES: Final = (BLOBS, SEALS, MODELS, INGEST, LEASES, TRASH, BAD)
HEX: Final = re.compile(r"[0-9a-f]{64}")
GENERATION: Final = re.compile(r"[0-9a-f]{32}")
MODEL_KEY: Final = re.compile(r"[a-z0-9_-]{0,96}--[0-9a-f]{12}")
STATE_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# Source: Cache Directory Tagging Specification (bford.info/cachedir).
_CACHEDIR_TAG: Final = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# Made by Placecard; may be removed when unused.\n"
)
_NO_LINKS: Final = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def model_key(model: str) -> str:
    """Return the directory name of a model: its slug for people, and 48 bits of its name's hash, as slugs collide."""
    return f"{slugify(model)[:96]}--{blake3(model.encode()).hexdigest()[:12]}"


def open_root(root: Path, observe: Observe) -> Disk:
    """Return the root as a :class:`Disk`; its path is followed once, and made where it is missing.

    Raises:
        StoreError: ``STORE_LOOP``, ``STORE_DENIED``, ``STORE_READ_ONLY`` …
    """
    with translated(root):
        made = False
        try:
            root.stat()
        except FileNotFoundError:
            made = _make_private(Path(os.path.realpath(root)))
        real = Path(os.path.realpath(root))
        disk = Disk(real, observe)
        if made:
            _sync_parent(disk)
        found = os.fstat(disk.fd)
    if found.st_uid != os.geteuid():
        mend = "Choose another --cache-dir, and pass this one as --lower-dir to read from it."
        detail = f"belongs to user {found.st_uid}, and this is user {os.geteuid()}"
        raise StoreError(Code.STORE_DENIED, detail, subject=str(real), mend=mend)
    if found.st_mode & 0o002:
        mend = f"Run `chmod 0700 {real}`, or use a directory inside it: --cache-dir {real}/placecard"
        detail = f"may be written by every user (mode {found.st_mode & 0o7777:04o})"
        raise StoreError(Code.STORE_DENIED, detail, subject=str(real), mend=mend)
    return disk


def _make_private(path: Path) -> bool:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        path.mkdir(0o700)
    except FileExistsError:  # another process was first
        return False
    path.chmod(0o700)  # whatever the umask was
    return True


def _sync_parent(disk: Disk) -> None:
    try:
        parent = Disk(disk.root.parent, ignore)
        parent.sync_dir(".")
        parent.close()
    except OSError as error:
        disk.state("no_directory_sync", f"{disk.root.parent}: {error.strerror}")


def read_marker(disk: Disk) -> tuple[int, bool] | None:
    """Return the layout number and whether links work; None if there is no store. Unreadable text counts as newer."""
    try:
        text = disk.read(MARKER, 4096)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise store_error(error, disk.root) from error
    if not text:
        return None
    try:
        marker = json.loads(text)
        return int(marker["layout"]), bool(marker["links"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return LAYOUT + 1, True


def prepare(disk: Disk, owner: str) -> bool:
    """Make what is missing of the layout; returns whether links work. Harmless when repeated or raced."""
    made = [name for name in _DIRECTORIES if disk.mkdir(name)]
    marker = read_marker(disk)
    if marker is None:
        links = _probe_links(disk, f"{INGEST}/{owner}-links")
        _write(disk, "CACHEDIR.TAG", _CACHEDIR_TAG, f"{INGEST}/{owner}-tag")
        text = json.dumps({"layout": LAYOUT, "links": links}).encode()
        _write(disk, MARKER, text, f"{INGEST}/{owner}-marker")
        disk.sync_dir(".")
    else:
        links = marker[1]
        if made:
            disk.sync_dir(".")
    return links


def ensure(disk: Disk, owner: str) -> None:
    """Bring the layout back if somebody removed it while we run."""
    if disk.exists(INGEST):
        return
    if os.fstat(disk.fd).st_nlink == 0:
        _make_private(disk.root)
        disk.reopen()
    disk.state("store_removed", f"{disk.root} was removed while in use; it was made again")
    prepare(disk, owner)


def _write(disk: Disk, path: str, data: bytes, temporary: str) -> None:
    try:
        disk.write_file(temporary, data)
        disk.rename(temporary, path)
    finally:
        disk.discard(temporary)


def _probe_links(disk: Disk, path: str) -> bool:
    try:
        disk.symlink("../target", path)
        works = disk.readlink(path) == "../target"
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    disk.unlink(path)
    return works
