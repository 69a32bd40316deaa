"""Where untrusted bytes come from: :class:`LocalSource`, :class:`HttpSource` and :class:`HubSource`.

Also :func:`walk`, which lists a model directory, and :class:`CommitVerifier`, which proves a file by the commit it is
from. Importing this package imports neither aiohttp nor the hub's client; each is loaded when its source is first used.
"""

from placecard.source.addresses import DEFAULT_RANGES, Network, why_forbidden
from placecard.source.base import Source, TransferError
from placecard.source.http import HttpSource
from placecard.source.hub import HubSource
from placecard.source.hub_cache import HubSnapshot, default_hub_cache
from placecard.source.listing import Entry, Reason, Walk, identity_of, walk
from placecard.source.local import LocalSource
from placecard.source.proof import CommitVerifier, HubFile, cached_file, commit_matches

__all__ = [
    "DEFAULT_RANGES",
    "CommitVerifier",
    "Entry",
    "HttpSource",
    "HubFile",
    "HubSnapshot",
    "HubSource",
    "LocalSource",
    "Network",
    "Reason",
    "Source",
    "TransferError",
    "Walk",
    "cached_file",
    "commit_matches",
    "default_hub_cache",
    "identity_of",
    "walk",
    "why_forbidden",
]
