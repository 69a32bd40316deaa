"""Where workers and front ends meet: a :class:`Registry` of :class:`Record`, opened by :func:`open_registry`."""

from placecard.discovery.base import Change, Joined, Left, Record, Registry
from placecard.discovery.bell import Bell
from placecard.discovery.changes import changes
from placecard.discovery.file import FileRegistry
from placecard.discovery.memory import MemoryHub, MemoryRegistry
from placecard.discovery.record import MAX_RECORD_BYTES, NO_WORKER, decode_record, encode_record
from placecard.discovery.url import (
    DEFAULT_TTL_S,
    DiscoveryUrl,
    Scheme,
    default_discovery_dir,
    open_registry,
    parse_discovery,
)

__all__ = [
    "DEFAULT_TTL_S",
    "MAX_RECORD_BYTES",
    "NO_WORKER",
    "Bell",
    "Change",
    "DiscoveryUrl",
    "FileRegistry",
    "Joined",
    "Left",
    "MemoryHub",
    "MemoryRegistry",
    "Record",
    "Registry",
    "Scheme",
    "changes",
    "decode_record",
    "default_discovery_dir",
    "encode_record",
    "open_registry",
    "parse_discovery",
]
