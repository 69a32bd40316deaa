"""Finding what a name means: a card's file, the workers of a registry, or what the store resolved before."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from placecard.card import HttpUri, card_from_json, content_digest, parse_uri
from placecard.cli.registries import registry_of
from placecard.discovery import NO_WORKER, Record
from placecard.errors import Code, DiscoveryError
from placecard.store import Store
from placecard.telemetry import Fallback, Observe

_POLL_S = 0.2
_WITH_DIGEST = re.compile(r"(?P<name>.+)@(?:blake3:)?(?P<prefix>[0-9a-f]{6,64})")


@dataclass(frozen=True)
class Found:
    """The record to resolve, and everything the registry holds, for the peers."""

    record: Record
    everyone: tuple[Record, ...]

    @property
    def origins(self) -> set[str]:
        """Who may be asked over HTTP: workers that registered, and whom a card names that the operator handed over.

        A worker of another system registers no address; where its own card says it hosts its files is its address.
        """
        urls = []
        for record in (self.record, *self.everyone):
            if record.address is not None:
                urls.append(f"{record.address}/v1")
            elif record.instance == NO_WORKER or not record.complete or "dynamo" in record.card.unknown:
                urls += [text for file in record.card.files for text in file.sources]
        return {uri.origin for uri in map(parse_uri, urls) if isinstance(uri, HttpUri)}

    @property
    def token_origins(self) -> set[str]:
        """Who may be shown the workers' token: those that registered an address, and nobody whom a card merely
        names."""
        urls = (f"{record.address}/v1" for record in self.everyone if record.address is not None)
        return {uri.origin for uri in map(parse_uri, urls) if isinstance(uri, HttpUri)}


async def find(model: str, url: str, wait_s: float, store: Store, observe: Observe) -> Found:
    """Return what ``model`` means.

    A card's file stands for one record. Where no worker advertises the model, the card of the store's own copy does,
    so that an imported or once resolved model can be had again without any network; that is stated as a fallback.

    Raises:
        DiscoveryError: Neither a worker within ``wait_s`` seconds nor the store has it.
        CardError: The file is no card.
    """
    if model.endswith(".json"):
        from placecard.cli.card import read_card_file

        return Found(read_card_file(Path(model)), ())
    deadline = time.monotonic() + wait_s
    async with registry_of(url, observe) as registry:
        while True:
            everyone = await registry.list()
            try:
                return Found(choose(everyone, model, url)[0], everyone)
            except DiscoveryError as error:
                if error.code is not Code.MODEL_UNKNOWN:
                    raise
                if time.monotonic() >= deadline:
                    own = _of_store(model, store)
                    if own is None:
                        raise
                    observe(
                        Fallback("card_of_the_store", f"no worker advertises {model} now; its card is the store's own")
                    )
                    return Found(own, everyone)
            await anyio.sleep(_POLL_S)


def choose(records: tuple[Record, ...], wanted: str, where: str) -> tuple[Record, ...]:
    """Return the records that serve ``wanted``: a name, else an alias, with ``@DIGEST`` where workers differ in
    content.

    Names come before aliases: nobody takes another model's name by calling it an alias of their own.

    Raises:
        DiscoveryError: ``MODEL_UNKNOWN``, or ``NAME_TAKEN`` when several contents answer to the name.
    """
    name, prefix = wanted, ""
    if (match := _WITH_DIGEST.fullmatch(wanted)) and all(wanted != record.card.name for record in records):
        name, prefix = match["name"], match["prefix"]
    named = [record for record in records if name == record.card.name]
    named = named or [record for record in records if name in record.card.serving.aliases]
    contents: dict[str, list[Record]] = {}
    for record in named:
        digest = content_digest(record.card)
        if digest.startswith("blake3:" + prefix):
            contents.setdefault(digest, []).append(record)
    if not contents:
        known = ", ".join(sorted({r.card.name for r in records})[:8]) or "none"
        detail = f"no worker in {where} advertises it; advertised: {known}"
        raise DiscoveryError(Code.MODEL_UNKNOWN, detail, subject=wanted)
    if len(contents) > 1:
        shown = "; ".join(f"{name}@{digest[7:19]} ({_workers(found)})" for digest, found in sorted(contents.items()))
        raise DiscoveryError(Code.NAME_TAKEN, f"workers differ in content: {shown}", subject=wanted)
    return tuple(next(iter(contents.values())))


def _workers(records: list[Record]) -> str:
    return f"{len(records)} worker" + ("s" if len(records) > 1 else "")


def _of_store(model: str, store: Store) -> Record | None:
    """Return the card of the store's current generation as a record without a worker."""
    snapshot = store.current(model)
    return None if snapshot is None else Record(NO_WORKER, card_from_json(snapshot.card))
