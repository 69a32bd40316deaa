"""Who holds which digest: the addresses of every worker and front end that advertises it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from placecard.card import content_digest, hex_of
from placecard.discovery import Record

MAX_PEERS_TRIED: Final = 8


@dataclass(frozen=True)
class _Content:
    digests: frozenset[str]
    addresses: dict[str, str]  # instance -> address


class Peers:
    """An index over the records of a registry.

    Workers of one model share their content, so a further worker costs one content digest and one dictionary entry,
    whatever the number of files.
    """

    def __init__(self) -> None:
        self._contents: dict[str, _Content] = {}
        self._of_instance: dict[str, str] = {}

    def add(self, record: Record) -> str:
        """Take in ``record``, replacing what its instance said before; return its content digest."""
        self.drop(record.instance)
        content = content_digest(record.card)
        if record.address is not None:
            known = self._contents.get(content)
            if known is None:
                known = self._contents[content] = _Content(frozenset(f.digest for f in record.card.files), {})
            known.addresses[record.instance] = record.address
            self._of_instance[record.instance] = content
        return content

    def drop(self, instance: str) -> None:
        """Forget ``instance``."""
        content = self._of_instance.pop(instance, None)
        if content is not None:
            held = self._contents[content].addresses
            del held[instance]
            if not held:
                del self._contents[content]

    def urls(self, digest: str) -> tuple[str, ...]:
        """Return where ``digest`` may be had: at most eight URLs, a different first one for each digest, to spread
        the load."""
        addresses = sorted({a for c in self._contents.values() if digest in c.digests for a in c.addresses.values()})
        if not addresses:
            return ()
        start = int(hex_of(digest)[:8], 16) % len(addresses)
        chosen = (addresses[start:] + addresses[:start])[:MAX_PEERS_TRIED]
        return tuple(f"{address.rstrip('/')}/v1/blobs/blake3/{hex_of(digest)}" for address in chosen)
