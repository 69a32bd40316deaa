"""Every error that Placecard raises on purpose, grouped by who can act.

::

    PlacecardError
    ├── UsageError          the command line or a setting is wrong     the operator, now; exit code 2
    ├── CardError           the card is wrong                          its publisher; never retried
    ├── SourceError         the bytes did not arrive                   retry if transient, then the next source
    ├── VerificationError   the wrong bytes arrived                    the next source, at once
    ├── StoreError          the local disk must be mended              the operator of this host
    ├── AdmissionError      the files cannot be opened by a consumer   the model's author or the publisher
    └── DiscoveryError      the registry cannot be read or written     the operator of the registry

A branch says who acts; a :class:`Code` says what happened. Codes are stable: they are the ``code`` of every JSON answer,
the label of every counter, and the heading of one paragraph in ``docs/errors.md``. :data:`MEANINGS` holds, for each code,
its branch, what it means, and what to do about it, so that no message leaves the reader without a next step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Code(StrEnum):
    """What went wrong: one stable name for each kind of failure."""

    # usage
    USAGE = "USAGE"
    # card
    CARD_MALFORMED = "CARD_MALFORMED"
    CARD_DUPLICATE_KEY = "CARD_DUPLICATE_KEY"
    CARD_BAD_NUMBER = "CARD_BAD_NUMBER"
    CARD_TOO_DEEP = "CARD_TOO_DEEP"
    CARD_TOO_LARGE = "CARD_TOO_LARGE"
    CARD_BAD_STRING = "CARD_BAD_STRING"
    CARD_VERSION_UNSUPPORTED = "CARD_VERSION_UNSUPPORTED"
    CARD_INCOMPLETE = "CARD_INCOMPLETE"
    CARD_SCHEMA = "CARD_SCHEMA"
    CARD_NAME_CONFLICT = "CARD_NAME_CONFLICT"
    CARD_RANGE = "CARD_RANGE"
    CARD_POLICY_IGNORED = "CARD_POLICY_IGNORED"
    SLOT_TYPE_MISMATCH = "SLOT_TYPE_MISMATCH"
    SLOT_EMPTY = "SLOT_EMPTY"
    DIGEST_SYNTAX = "DIGEST_SYNTAX"
    NAME_UNSAFE = "NAME_UNSAFE"
    NAME_RESERVED = "NAME_RESERVED"
    NAME_TOO_LONG = "NAME_TOO_LONG"
    NAME_COLLISION = "NAME_COLLISION"
    URI_FORBIDDEN = "URI_FORBIDDEN"
    REVISION_NOT_PINNED = "REVISION_NOT_PINNED"
    # source
    NOT_FOUND = "NOT_FOUND"
    PATH_FORBIDDEN = "PATH_FORBIDDEN"
    PATH_ESCAPE = "PATH_ESCAPE"
    NOT_REGULAR = "NOT_REGULAR"
    UNREADABLE = "UNREADABLE"
    DESTINATION_FORBIDDEN = "DESTINATION_FORBIDDEN"
    REDIRECT_FORBIDDEN = "REDIRECT_FORBIDDEN"
    ENCODING_FORBIDDEN = "ENCODING_FORBIDDEN"
    PROTOCOL_ERROR = "PROTOCOL_ERROR"
    HTTP_STATUS = "HTTP_STATUS"
    UNAUTHORIZED = "UNAUTHORIZED"
    CONNECT_FAILED = "CONNECT_FAILED"
    TLS_ERROR = "TLS_ERROR"
    SLOW_SOURCE = "SLOW_SOURCE"
    TRUNCATED = "TRUNCATED"
    HUB_OFFLINE = "HUB_OFFLINE"
    HUB_AUTH = "HUB_AUTH"
    HUB_GATED = "HUB_GATED"
    HUB_NOT_FOUND = "HUB_NOT_FOUND"
    HUB_REVISION_GONE = "HUB_REVISION_GONE"
    HUB_RATE_LIMITED = "HUB_RATE_LIMITED"
    HUB_ERROR = "HUB_ERROR"
    NO_CANDIDATE = "NO_CANDIDATE"
    # verification
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    SIZE_EXCEEDED = "SIZE_EXCEEDED"
    SIZE_CAP = "SIZE_CAP"
    SIZE_MISMATCH = "SIZE_MISMATCH"
    # store
    STORE_FULL = "STORE_FULL"
    STORE_QUOTA = "STORE_QUOTA"
    STORE_READ_ONLY = "STORE_READ_ONLY"
    STORE_DENIED = "STORE_DENIED"
    STORE_LOOP = "STORE_LOOP"
    STORE_NEWER = "STORE_NEWER"
    STORE_CORRUPT = "STORE_CORRUPT"
    STORE_IO = "STORE_IO"
    STORE_MISSING = "STORE_MISSING"
    BUNDLE_MALFORMED = "BUNDLE_MALFORMED"
    # admission and completeness
    HARVEST_TRUNCATED = "HARVEST_TRUNCATED"
    SIBLING_UNREADABLE = "SIBLING_UNREADABLE"
    FILE_UNAVAILABLE = "FILE_UNAVAILABLE"
    FILE_LEFT_OUT = "FILE_LEFT_OUT"
    REQUIRED_FILE_MISSING = "REQUIRED_FILE_MISSING"
    CONSUMER_FAILED = "CONSUMER_FAILED"
    CONSUMER_PANICKED = "CONSUMER_PANICKED"
    LOAD_TEST_UNAVAILABLE = "LOAD_TEST_UNAVAILABLE"
    LOAD_TEST_LIMIT = "LOAD_TEST_LIMIT"
    CODE_BEARING_CONFIG = "CODE_BEARING_CONFIG"
    UNPROVEN_FILE = "UNPROVEN_FILE"
    # discovery
    DISCOVERY_UNAVAILABLE = "DISCOVERY_UNAVAILABLE"
    DISCOVERY_FORBIDDEN = "DISCOVERY_FORBIDDEN"
    RECORD_MALFORMED = "RECORD_MALFORMED"
    MODEL_UNKNOWN = "MODEL_UNKNOWN"
    NAME_TAKEN = "NAME_TAKEN"
    ADVERTISE_UNREACHABLE = "ADVERTISE_UNREACHABLE"
    INTERNAL = "INTERNAL"


class PlacecardError(Exception):
    """Base of every error raised on purpose.

    Args:
        code: What happened.
        detail: What was seen, in one sentence, with the values that matter.
        subject: The thing that is wrong: a file name, a URI, a path, a JSON location. Empty when the detail names it.
        mend: What to do; the code's own advice in :data:`MEANINGS` where omitted.
    """

    def __init__(self, code: Code, detail: str, *, subject: str = "", mend: str | None = None) -> None:
        super().__init__(f"{subject}: {detail}" if subject else detail)
        self.code = code
        self.detail = detail
        self.subject = subject
        self.mend = MEANINGS[code].mend if mend is None else mend

    @property
    def transient(self) -> bool:
        """Whether asking the same place again can help."""
        return MEANINGS[self.code].transient

    def as_json(self) -> dict[str, str]:
        """Return the error as the object that every ``--json`` answer carries."""
        return {"code": self.code.value, "subject": self.subject, "message": str(self), "mend": self.mend}


class UsageError(PlacecardError):
    """The command line or a setting is wrong."""


class CardError(PlacecardError):
    """The card is wrong; only its publisher can mend it."""


class SourceError(PlacecardError):
    """The bytes did not arrive."""


class VerificationError(PlacecardError):
    """Bytes arrived, and they are not the ones that were asked for."""


class StoreError(PlacecardError):
    """The local store cannot do its work."""


class AdmissionError(PlacecardError):
    """The files are all there and proven, and still a consumer cannot use them."""


class DiscoveryError(PlacecardError):
    """The registry cannot be read or written, or does not know the name."""


class CardDefectsError(CardError):
    """All defects of one card at once; ``defects`` lists them, the first gives the code."""

    def __init__(self, defects: Iterable[CardError]) -> None:
        self.defects = tuple(defects)
        first = self.defects[0]
        more = f" (and {len(self.defects) - 1} more defects)" if len(self.defects) > 1 else ""
        super().__init__(first.code, first.detail + more, subject=first.subject, mend=first.mend)


def flatten(error: BaseException) -> Iterator[PlacecardError]:
    """Yield every :class:`PlacecardError` inside ``error``: itself, a card's defects, or the members of a group."""
    if isinstance(error, CardDefectsError):
        yield from error.defects
    elif isinstance(error, PlacecardError):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from flatten(member)


@dataclass(frozen=True)
class Meaning:
    """What a code means: its branch, one sentence, the mend, and whether the same place may be asked again."""

    branch: type[PlacecardError]
    what: str
    mend: str
    transient: bool = False


_U, _C, _S, _V, _T, _A, _D = (
    UsageError, CardError, SourceError, VerificationError, StoreError, AdmissionError, DiscoveryError,
)  # fmt: skip

MEANINGS: Final[dict[Code, Meaning]] = {
    Code.USAGE: Meaning(_U, "A flag, argument or setting is wrong.", "See `placecard COMMAND --help`."),
    Code.CARD_MALFORMED: Meaning(_C, "The card is not one JSON object in UTF-8.", "Publish the card again; `placecard card lint FILE` shows the place."),
    Code.CARD_DUPLICATE_KEY: Meaning(_C, "A JSON object of the card names a key twice.", "Write each key once."),
    Code.CARD_BAD_NUMBER: Meaning(_C, "A number on the card is not a plain finite one, or stands where another type belongs.", "Write sizes and lengths as plain JSON integers."),
    Code.CARD_TOO_DEEP: Meaning(_C, "The card is nested deeper than 32 levels.", "Flatten the card."),
    Code.CARD_TOO_LARGE: Meaning(_C, "The card or its files exceed a bound: 1 MiB, 1,024 files, or the total budget.", "List fewer files, or raise the budget with --max-card-bytes."),
    Code.CARD_BAD_STRING: Meaning(_C, "A string on the card holds a lone surrogate, NUL, a control or a direction-changing character.", "Remove the character."),
    Code.CARD_VERSION_UNSUPPORTED: Meaning(_C, "The card's schema number is newer than this release reads.", "Upgrade Placecard on this host, or publish with the older release."),
    Code.CARD_INCOMPLETE: Meaning(_C, "A slot that every model needs is absent.", "Publish the card from a directory that holds config.json."),
    Code.CARD_SCHEMA: Meaning(_C, "A key of the card is absent or has the wrong type.", "Compare with `placecard card schema`."),
    Code.CARD_NAME_CONFLICT: Meaning(_C, "Two entries of the card claim one name or one slot with different content.", "Keep one of them."),
    Code.CARD_RANGE: Meaning(_C, "A number on the card is outside its range.", "Correct the value at the publisher."),
    Code.CARD_POLICY_IGNORED: Meaning(_C, "The card carries a fetch policy; policy belongs to the front end, so it was ignored.", "Remove the key from the card, and set the policy with flags on the front end."),
    Code.SLOT_TYPE_MISMATCH: Meaning(_C, "A typed slot carries a file that cannot be of its kind.", "Give the file the role of its name."),
    Code.SLOT_EMPTY: Meaning(_C, "A typed slot names an empty file.", "Publish the card again from a complete directory."),
    Code.DIGEST_SYNTAX: Meaning(_C, "A digest is not `blake3:` and 64 lowercase hexadecimal digits.", "Publish the card again; no digest is written by hand."),
    Code.NAME_UNSAFE: Meaning(_C, "A file name could leave the directory or mislead its reader.", "Rename the file in the model directory."),
    Code.NAME_RESERVED: Meaning(_C, "A file name is a device or a data stream on some operating system.", "Rename the file in the model directory."),
    Code.NAME_TOO_LONG: Meaning(_C, "A file name is longer than file systems take.", "Rename the file in the model directory."),
    Code.NAME_COLLISION: Meaning(_C, "Two file names are equal once case and Unicode form are folded, or one is a folder of the other.", "Rename one of them."),
    Code.URI_FORBIDDEN: Meaning(_C, "A source URI is not one of hf://repo@commit/path, file:///path, http(s)://host/path.", "Publish the card again; if the address was written by hand, use --advertise."),
    Code.REVISION_NOT_PINNED: Meaning(_C, "A hub source names a branch or tag, which can move.", "Publish from a commit: `placecard publish --model hf://REPO@COMMIT`."),
    Code.NOT_FOUND: Meaning(_S, "The source has no such file.", "Check that the file still exists there; publish again if it was removed."),
    Code.PATH_FORBIDDEN: Meaning(_S, "A file:// source lies outside every root the operator allowed.", "Allow its directory with --file-root DIR if it is trusted."),
    Code.PATH_ESCAPE: Meaning(_S, "A path leads out of its root by a link or `..`.", "Replace the link by the file, or allow the real directory with --file-root DIR."),
    Code.NOT_REGULAR: Meaning(_S, "The path is a directory, device, pipe or socket, not a file.", "Point the card at a regular file."),
    Code.UNREADABLE: Meaning(_S, "The file exists and cannot be read.", "Give this user read permission."),
    Code.DESTINATION_FORBIDDEN: Meaning(_S, "The address is outside the ranges this front end may connect to.", "Allow the worker's network with --worker-range CIDR if it is trusted."),
    Code.REDIRECT_FORBIDDEN: Meaning(_S, "The source answered with a redirect, which workers may not.", "Advertise the final address."),
    Code.ENCODING_FORBIDDEN: Meaning(_S, "The source compressed the body though plain bytes were asked for.", "Turn compression off in front of the worker."),
    Code.PROTOCOL_ERROR: Meaning(_S, "The answer is not valid HTTP, or not the answer to what was asked.", "Check what listens on the advertised address.", True),
    Code.HTTP_STATUS: Meaning(_S, "The source answered with an error status.", "See the source's own log.", True),
    Code.UNAUTHORIZED: Meaning(_S, "The source wants a bearer token, or refused the one it got.", "Give the worker's token with --worker-token-file."),
    Code.CONNECT_FAILED: Meaning(_S, "No connection to the source.", "Check that the worker runs and that its --advertise address is reachable from this host.", True),
    Code.TLS_ERROR: Meaning(_S, "The TLS handshake failed; there is no fall back to plain HTTP.", "Mend the certificate, or set SSL_CERT_FILE to the right authority."),
    Code.SLOW_SOURCE: Meaning(_S, "The source was slower than the rate floor or its deadline.", "Check the network path; raise --fetch-timeout if the link is known to be slow.", True),
    Code.TRUNCATED: Meaning(_S, "The source closed before the last byte.", "Retried by itself; check the source if it stays.", True),
    Code.HUB_OFFLINE: Meaning(_S, "The hub cannot be reached, or is turned off here.", "Check HF_ENDPOINT and the network, or resolve from a worker or a bundle (`placecard cache import`).", True),
    Code.HUB_AUTH: Meaning(_S, "The hub did not accept the token.", "Set HF_TOKEN, or run `hf auth login`."),
    Code.HUB_GATED: Meaning(_S, "The repository is gated for this account.", "Accept its terms on the hub with the account of the token."),
    Code.HUB_NOT_FOUND: Meaning(_S, "The hub has no such repository or file.", "Check the name; private repositories look absent without a token."),
    Code.HUB_REVISION_GONE: Meaning(_S, "The hub no longer has that commit.", "Publish again from a commit that exists."),
    Code.HUB_RATE_LIMITED: Meaning(_S, "The hub asks to slow down.", "Wait, or let workers self-host so that the hub is asked once.", True),
    Code.HUB_ERROR: Meaning(_S, "The hub answered with an error.", "Try again later; see the hub's status page.", True),
    Code.NO_CANDIDATE: Meaning(_S, "No place is known that could have the file.", "Let the worker self-host, mount its directory (--file-root), or give --model-path."),
    Code.DIGEST_MISMATCH: Meaning(_V, "The bytes are not those of the digest on the card.", "Restart the publisher if the file was changed on purpose; else find out who altered it."),
    Code.SIZE_EXCEEDED: Meaning(_V, "More bytes arrived than the card says.", "As for a digest mismatch: the file at the source is another one."),
    Code.SIZE_CAP: Meaning(_V, "The file is larger than one metadata file may be.", "Raise --max-file-bytes if the file is really wanted."),
    Code.SIZE_MISMATCH: Meaning(_V, "The file is complete and shorter than the card says.", "As for a digest mismatch: the file at the source is another one."),
    Code.STORE_FULL: Meaning(_T, "No space is left for the store.", "Free space, run `placecard cache gc`, or move the store with --cache-dir.", True),
    Code.STORE_QUOTA: Meaning(_T, "The store's own quota is used up.", "Run `placecard cache gc`, or raise --quota-bytes."),
    Code.STORE_READ_ONLY: Meaning(_T, "The store is on a read-only file system.", "Choose a writable --cache-dir and pass this one as --lower-dir."),
    Code.STORE_DENIED: Meaning(_T, "This user may not write the store, or another user owns it.", "Choose another --cache-dir, or mend the owner."),
    Code.STORE_LOOP: Meaning(_T, "The store's path is a loop of links.", "Choose another --cache-dir."),
    Code.STORE_NEWER: Meaning(_T, "The store was written by a newer release.", "Upgrade Placecard, or choose another --cache-dir."),
    Code.STORE_CORRUPT: Meaning(_T, "A stored file is not what it was when it was sealed.", "It was set aside; resolve again to fetch it anew, and check the disk."),
    Code.STORE_IO: Meaning(_T, "The operating system failed to read or write the store.", "See the system log for the disk.", True),
    Code.STORE_MISSING: Meaning(_T, "The store has no such model or file.", "Run `placecard resolve` first; `placecard cache ls` shows what is there."),
    Code.BUNDLE_MALFORMED: Meaning(_T, "The bundle is not one that `placecard cache export` wrote, or was damaged.", "Export it again; nothing of it was imported."),
    Code.HARVEST_TRUNCATED: Meaning(_A, "A sibling directory holds more than the bounds allow; the rest was not taken.", "Raise --harvest-files or --harvest-bytes, or publish from a clean directory."),
    Code.SIBLING_UNREADABLE: Meaning(_A, "A sibling exists and could not be read.", "Give this user read permission, or let the worker self-host."),
    Code.FILE_UNAVAILABLE: Meaning(_A, "A file that the card advertises could not be had from any source.", "Restart a worker that self-hosts it, or mount its directory."),
    Code.FILE_LEFT_OUT: Meaning(_A, "The model directory has a file that its publisher could not take: a link out of it, unreadable, or no regular file.", "Put the file itself in its place, readable for the publisher's user, and publish again."),
    Code.REQUIRED_FILE_MISSING: Meaning(_A, "A consumer needs a file that neither the card nor any sibling directory has.", "Add the file to the worker's model directory and publish again."),
    Code.CONSUMER_FAILED: Meaning(_A, "A consumer opened the directory and failed.", "Open the directory with the consumer on the worker; mend the file it names, and publish again."),
    Code.CONSUMER_PANICKED: Meaning(_A, "A file made a consumer panic; the model is quarantined, others are not touched.", "Do not trust this model's files; replace the file and publish again."),
    Code.LOAD_TEST_UNAVAILABLE: Meaning(_A, "The directory was not opened by its consumers, because they are not installed here.", "Install them with `pip install 'placecard[load]'`, or say --no-load-test to do without."),
    Code.LOAD_TEST_LIMIT: Meaning(_A, "Opening the directory went over its limit of time or memory.", "Raise --load-timeout if the model is trusted; else treat its files as hostile."),
    Code.CODE_BEARING_CONFIG: Meaning(_A, "A configuration file names code to be imported; no code from a model directory is ever run.", "Use a model whose architecture is part of transformers, or serve it with the engine's own tokenizer."),
    Code.UNPROVEN_FILE: Meaning(_A, "--strict wants every file proven by the card or a commit, and this one was only seen.", "Publish with a release that lists siblings on the card, or leave --strict off."),
    Code.DISCOVERY_UNAVAILABLE: Meaning(_D, "The registry cannot be read or written.", "Check --discovery and its permissions.", True),
    Code.DISCOVERY_FORBIDDEN: Meaning(_D, "The registry refused access, or another user could write to it.", "Choose a directory that only this user or group may write."),
    Code.RECORD_MALFORMED: Meaning(_D, "A record in the registry cannot be read; it was passed over, others were not touched.", "Remove the record, or restart the worker that wrote it."),
    Code.MODEL_UNKNOWN: Meaning(_D, "No worker advertises a model of that name.", "Check the name, start the worker, or --wait for it; --discovery must be the same on both sides."),
    Code.NAME_TAKEN: Meaning(_D, "Workers advertise different content under one name.", "Choose one with NAME@DIGEST; `placecard card diff` shows the difference."),
    Code.ADVERTISE_UNREACHABLE: Meaning(_D, "The advertised address does not answer with this worker's files.", "Pass an address with --advertise HOST:PORT that front ends can reach."),
    Code.INTERNAL: Meaning(PlacecardError, "A defect in Placecard.", "Please report it with the text of the message."),
}  # fmt: skip


def error(code: Code, detail: str, *, subject: str = "", mend: str | None = None) -> PlacecardError:
    """Return the error of ``code``'s own branch."""
    return MEANINGS[code].branch(code, detail, subject=subject, mend=mend)
