"""What a bundle may claim. Its blobs prove themselves; that its entries are those of its card is decided here.

A bundle is written by anybody. What its card lists by digest is ADVERTISED; all else was merely seen, whatever the
bundle says: a commit cannot be shown by a file, and the operator who vouched for an overlay is not here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from placecard.card import Card, CheckedFile, Kind, LeftOut, Role, kind_of, name_key
from placecard.card.model import bad_string
from placecard.errors import CardError, Code
from placecard.store.manifest import Entry, Origin, Proof

_MODEL_INFO = ("config.json", "params.json")
_MAX_URI = 4096


def told(entries: Iterable[Entry], card: Card) -> tuple[Entry, ...]:
    """Return ``entries`` in the words of ``card``, which may give the same files other roles than an older one did."""
    return tuple(
        msgspec.structs.replace(entry, role=file.role, consumers=file.consumers)
        if (file := card.file(entry.name)) is not None and _is(entry, file)
        else entry
        for entry in entries
    )


def missing(entries: Iterable[Entry], left_out: Iterable[LeftOut], card: Card) -> tuple[CheckedFile, ...]:
    """Return the metadata files of ``card`` that are neither entries nor listed as left out."""
    there = {entry.name for entry in entries} | {each.name for each in left_out}
    return tuple(
        file
        for file in card.files
        if file.understood and kind_of(file.name) is Kind.METADATA and file.name not in there
    )


def vouched(
    entries: Iterable[Entry], left_out: Iterable[LeftOut], card: Card, *, allow_code: Collection[str] = ()
) -> tuple[Entry, ...]:
    """Return ``entries`` with the proofs that ``card`` gives them; raise unless they are what the card says.

    Args:
        allow_code: Digests of files on the card that may come in although they are code, weights or hidden.

    Raises:
        CardError: ``CARD_NAME_CONFLICT`` for an entry that is not the card's file of that name, ``NAME_UNSAFE`` for
            one that may not come in, ``CARD_INCOMPLETE`` when a file that must be there is not.
    """
    entries, left_out = tuple(entries), tuple(left_out)
    listed = {name_key(file.name): file for file in card.files}
    judged = tuple(_judged(entry, listed.get(name_key(entry.name)), allow_code) for entry in entries)
    names = {entry.name for entry in entries}
    needed = [file.name for file in card.files if file.typed and kind_of(file.name) is Kind.METADATA]
    absent = [name for name in needed if name not in names]
    absent += [file.name for file in missing(entries, left_out, card)]
    if absent:
        raise CardError(Code.CARD_INCOMPLETE, "stands on the card, and is not there", subject=ascii(absent[0]))
    if not names.intersection(_MODEL_INFO):
        raise CardError(Code.CARD_INCOMPLETE, "holds no config.json", subject="entries")
    return judged


def _judged(entry: Entry, file: CheckedFile | None, allow_code: Collection[str]) -> Entry:
    shown = ascii(entry.name)
    own = file is not None and _is(entry, file)
    if (kind := kind_of(entry.name)) is not Kind.METADATA and not (own and entry.digest in allow_code):
        raise CardError(
            Code.NAME_UNSAFE,
            f"is {kind.value}: taken from a bundle only if its card lists it and --allow-code names its digest",
            subject=shown,
        )
    if own and file is not None:
        if entry.role != file.role:
            raise CardError(Code.CARD_NAME_CONFLICT, f"fills {entry.role!a}, on the card {file.role!a}", subject=shown)
        proof = Proof.ADVERTISED if entry.proof is Proof.ADVERTISED else Proof.OBSERVED
        return _plain(entry, proof, file.role, file.consumers)
    if entry.origin is not Origin.OVERLAY:
        if file is not None:
            raise CardError(Code.CARD_NAME_CONFLICT, "is not the file that the card lists", subject=shown)
        if entry.proof is Proof.ADVERTISED:
            raise CardError(
                Code.CARD_NAME_CONFLICT, "is called advertised, and the card does not list it", subject=shown
            )
    return _plain(entry, Proof.OBSERVED, Role.EXTRA.value, ())


def _is(entry: Entry, file: CheckedFile) -> bool:
    return entry.name == file.name and entry.digest == file.digest and file.size in (None, entry.size)


def _plain(entry: Entry, proof: Proof, role: str, consumers: tuple[str, ...]) -> Entry:
    uri = "" if bad_string(entry.uri, limit=_MAX_URI) else entry.uri
    return msgspec.structs.replace(entry, proof=proof, role=role, consumers=consumers, uri=uri)
