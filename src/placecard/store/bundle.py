"""Bundles: one model as one uncompressed tar stream, for a host without network.

``placecard.json`` comes first, then ``blobs/<hex>`` once each, in order. The same model gives the same bytes. Reading
extracts nothing: a header must be, byte for byte, the one that we would have written for the member that is due.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from placecard.card import Card, LeftOut, card_from_json, decode_card, read_json
from placecard.card.digest import PREFIX
from placecard.errors import CardError, Code, StoreError, VerificationError
from placecard.store.disk import CHUNK_BYTES
from placecard.store.manifest import Blob, Entry, Snapshot, blobs_of, checked
from placecard.store.verify import Verifier
from placecard.store.vouch import missing, told, vouched

FORMAT: Final = 1
INDEX: Final = "placecard.json"
MAX_INDEX_BYTES: Final = 8 << 20
MAX_BUNDLE_BYTES: Final = 16 << 30
_BLOCK: Final = 512
_SIZE: Final = re.compile(rb"([0-7]{11})\0")


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """``placecard.json``: all of a manifest but its sequence, which belongs to one store."""

    format: int
    model: str
    card: dict[str, Any]
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class ExportReport:
    """What was written: distinct blobs, and the bytes of the whole bundle."""

    model: str
    files: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dict(vars(self))


class Taking(Protocol):
    """What a member of the bundle is written to: :class:`~placecard.store.Ingest`."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes."""

    def commit(self) -> Blob:
        """Take them for good."""


def header(name: str, size: int) -> bytes:
    """Return the tar header of a member: a regular file, 0444, of nobody, without a time.

    Source: POSIX.1-2017, pax, "ustar Interchange Format".
    """
    fields = (
        name.encode().ljust(100, b"\0"), b"0000444\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % 0,
        b" " * 8, b"0", b"\0" * 100, b"ustar\0", b"00", b"\0" * 32, b"\0" * 32, b"\0" * 8, b"\0" * 8,
        b"\0" * 155, b"\0" * 12,
    )  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def write_bundle(snapshot: Snapshot, open_blob: Callable[[str], BinaryIO], target: BinaryIO) -> ExportReport:
    """Write the model of ``snapshot`` to ``target``; what was written counts only if no error is raised.

    Raises:
        StoreError: ``STORE_CORRUPT`` when its files are not those of its card, or a blob changes while it is read.
        OSError: ``target`` or the disk failed.
    """
    index = _index(snapshot)
    text = msgspec.json.encode(index)
    written = _write_member(target, INDEX, len(text), iter([text]))
    blobs = sorted(blobs_of(index.entries).items())
    for name, size in blobs:
        with open_blob(name) as source:
            written += _write_member(target, f"blobs/{name}", size, _proven(source, name, size))
    written += target.write(b"\0" * 2 * _BLOCK)
    return ExportReport(index.model, len(blobs), written)


def _index(snapshot: Snapshot) -> Index:
    """Return what the bundle of ``snapshot`` says: its files as its newest card has them, and nothing unsaid."""
    manifest = snapshot.manifest
    try:
        card = card_from_json(snapshot.card)
        entries, left_out = told(manifest.entries, card), list(manifest.left_out)
        left_out += [LeftOut(file.name, "not in the store") for file in missing(entries, left_out, card)]
        vouched(entries, left_out, card, allow_code={file.digest for file in card.files})  # a reader will ask the same
    except CardError as error:
        mend = "Resolve the model again, without overlays of code or hidden files, and export it then."
        raise StoreError(
            Code.STORE_CORRUPT, f"cannot be exported: {error}", subject=manifest.model, mend=mend
        ) from error
    return Index(
        format=FORMAT, model=manifest.model, card=snapshot.card, entries=entries, left_out=tuple(left_out)
    )  # fmt: skip


def _write_member(target: BinaryIO, name: str, size: int, chunks: Iterator[bytes]) -> int:
    target.write(header(name, size))
    for chunk in chunks:
        target.write(chunk)
    target.write(b"\0" * _padding(size))
    return _BLOCK + size + _padding(size)


def _proven(source: BinaryIO, name: str, size: int) -> Iterator[bytes]:
    verifier = Verifier(digest=PREFIX + name, size=size, limit_bytes=size, subject=name)
    try:
        while chunk := source.read(CHUNK_BYTES):
            verifier.feed(chunk)
            yield chunk
        verifier.finish()
    except VerificationError as error:
        raise StoreError(Code.STORE_CORRUPT, f"changed while it was read: {error.detail}", subject=name) from error


def read_index(source: BinaryIO, *, allow_code: Collection[str] = ()) -> tuple[Index, Card, tuple[Entry, ...]]:
    """Read the first member and return what it promises, as far as its card bears it out.

    Args:
        allow_code: Digests of files on the card that may come in although they are no metadata.

    Raises:
        StoreError: ``BUNDLE_MALFORMED``.
    """
    block = _exactly(source, _BLOCK, "its first header")
    match = _SIZE.fullmatch(block, 124, 136)
    size = int(match[1], 8) if match else -1
    if block != header(INDEX, max(size, 0)) or not 0 < size <= MAX_INDEX_BYTES:
        raise malformed(f"does not begin with {INDEX}")
    text = _exactly(source, size, INDEX)
    _padding_of(source, size)
    try:
        index = msgspec.convert(read_json(text, max_bytes=MAX_INDEX_BYTES), Index)
        card = decode_card(msgspec.json.encode(index.card))
        entries = checked(vouched(checked(index.entries), index.left_out, card, allow_code=allow_code))
    except (CardError, msgspec.ValidationError) as error:
        raise malformed(f"{INDEX}: {error}") from error
    if index.format != FORMAT:
        raise malformed(f"is of format {index.format}; this release reads {FORMAT}")
    if index.model != card.name:
        raise malformed(f"calls the model {index.model!a}, and the card calls it {card.name!a}")
    if len({(entry.digest, entry.size) for entry in entries}) != len(blobs_of(entries)):
        raise malformed("gives one digest two sizes")
    if sum(blobs_of(entries).values()) > MAX_BUNDLE_BYTES:
        raise malformed(f"promises more than {MAX_BUNDLE_BYTES} bytes")
    return index, card, entries


def read_blob(source: BinaryIO, name: str, size: int, into: Taking) -> None:
    """Read the member that is due into ``into``, which proves it.

    Raises:
        StoreError: ``BUNDLE_MALFORMED``.
    """
    if _exactly(source, _BLOCK, f"the header of blobs/{name}") != header(f"blobs/{name}", size):
        raise malformed(f"has another member where blobs/{name} of {size} bytes is due")
    left = size
    while left:
        chunk = source.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise malformed(f"ends in the middle of blobs/{name}")
        left -= len(chunk)
        into.write(chunk)
    _padding_of(source, size)
    try:
        into.commit()
    except VerificationError as error:
        raise malformed(f"blobs/{name}: {error.detail}") from error


def read_end(source: BinaryIO) -> None:
    """Read the end of the bundle, and nothing after it.

    Raises:
        StoreError: ``BUNDLE_MALFORMED``.
    """
    if _exactly(source, 2 * _BLOCK, "its end") != b"\0" * 2 * _BLOCK or source.read(1):
        raise malformed("goes on after its last member")


def malformed(detail: str) -> StoreError:
    """Return the error of a bundle that cannot be read."""
    return StoreError(Code.BUNDLE_MALFORMED, detail, subject="bundle")


def _exactly(source: BinaryIO, size: int, what: str) -> bytes:
    data = b""
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    if len(data) != size:
        raise malformed(f"ends before {what} is complete")
    return data


def _padding(size: int) -> int:
    return -size % _BLOCK


def _padding_of(source: BinaryIO, size: int) -> None:
    if _exactly(source, _padding(size), "a member").strip(b"\0"):
        raise malformed("holds bytes where there is padding")
