"""Source URIs: one strict grammar for the three places a file can come from.

::

    hf://REPO[@REVISION]/PATH      REPO is NAME or ORG/NAME; a pinned revision is 40 hex digits
                                   without a revision the last / ends the repository
    file:///ABSOLUTE/PATH
    http(s)://HOST[:PORT]/PATH

Whatever does not match whole is refused: no user info, query, fragment, backslash, control or non-ASCII character
outside percent-encoding, no empty or dotted path part, encoded or not. URIs are compared and shown as written.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import quote, unquote_to_bytes

import msgspec

from placecard.errors import CardError, Code

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
# Source: huggingface_hub, hf_file_system.py, SPECIAL_REFS_REVISION_REGEX: the revisions that hold a separator.
_HF = re.compile(
    r"hf://(?P<repo>[^@#?]+?)(?:@(?P<revision>refs/(?:convert|pr)/[^@#?/]+|(?!refs/)[^@#?/]+))?/(?P<path>[^@#?]+)"
)
_HTTP = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[1-9][0-9]{0,4}))?(?P<path>/[^?#]*)"
)
_HOST = re.compile(r"(?=.{1,253}$)(?!.*\.\.)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
# Source: WHATWG URL, "ends in a number": what resolvers may read as an IPv4 address in an odd form.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")
# Source: huggingface_hub, utils/_validators.py, validate_repo_id: 96 characters of [A-Za-z0-9_.-], no `--` nor `..`.
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_HIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_HIDDEN_TWICE = re.compile(r"%(?:2[eEfF]|5[cC]|[01][0-9a-fA-F])")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_REVISION = re.compile(r"(?:refs/(?:convert|pr)/)?(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class HubUri(msgspec.Struct, frozen=True):
    """A file of a hub repository; ``revision`` is None where the card pins none."""

    repo: str
    revision: str | None
    path: str

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which cannot move."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision is not None else ""
        return f"hf://{self.repo}{at}/{quote(self.path)}"


class FileUri(msgspec.Struct, frozen=True):
    """An absolute path on some host; it need not exist on this one."""

    path: PurePosixPath

    def __str__(self) -> str:
        return "file://" + quote(str(self.path))


class HttpUri(msgspec.Struct, frozen=True):
    """An address of a worker or mirror; ``url`` is the text as written."""

    scheme: str
    host: str
    port: int
    url: str

    @property
    def origin(self) -> str:
        """``scheme://host:port``: what a credential is bound to."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.url


Uri = HubUri | FileUri | HttpUri


@lru_cache(maxsize=2048)  # a card's URIs are read at every step of a resolve
def parse_uri(text: str) -> Uri:
    """Return the parts of a source URI.

    Raises:
        CardError: ``URI_FORBIDDEN``, or ``PATH_ESCAPE`` where its path climbs, encoded or not.
    """
    if len(text) > 4096 or not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise _forbidden(text, "is too long or holds a space, control, non-ASCII character or backslash")
    if text.startswith("file://"):
        return _parse_file(text)
    if text.startswith("hf://"):
        return parse_hub(text)
    if text.startswith(("http://", "https://")):
        return _parse_http(text)
    raise _forbidden(text, "does not start with hf://, file:// or http(s)://")


def file_uri(path: PurePosixPath | str) -> str:
    """Return the ``file://`` URI of an absolute path.

    Raises:
        CardError: ``URI_FORBIDDEN`` or ``PATH_ESCAPE``: no reader would accept the URI of such a path.
    """
    try:
        text = str(FileUri(PurePosixPath(path)))
    except UnicodeEncodeError:
        raise _forbidden(str(path), "is no path in UTF-8") from None
    parse_uri(text)
    return text


def is_commit(revision: str) -> bool:
    """Whether ``revision`` is a full commit id: 40 lowercase hexadecimal digits."""
    return _COMMIT.fullmatch(revision) is not None


def check_repo(repo: str, *, subject: str) -> None:
    """Raise unless ``repo`` is ``NAME`` or ``ORG/NAME`` as the hub allows them.

    Raises:
        CardError: ``URI_FORBIDDEN``.
    """
    parts = repo.split("/")
    ok = len(parts) <= 2 and len(repo) <= 96 and all(_REPO_PART.fullmatch(part) for part in parts)
    if not ok or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise _forbidden(subject, "does not name a hub repository (NAME or ORG/NAME)")


def parse_repo(text: str) -> tuple[str, str | None]:
    """Return the repository and revision of ``hf://REPO[@REVISION]`` (a whole repository, no file).

    Raises:
        CardError: ``URI_FORBIDDEN``.
    """
    repo, at, revision = text.removeprefix("hf://").removeprefix("models/").partition("@")
    check_repo(repo, subject=text)
    if at and not _REVISION.fullmatch(revision):
        raise _forbidden(text, "has an empty or unusable revision")
    return repo, revision or None


def parse_hub(text: str) -> HubUri:
    """Return the parts of an ``hf://`` file URI.

    With ``@REVISION`` the path may have sub-folders. Without it, as in older cards, the last ``/`` ends the repository.

    Raises:
        CardError: ``URI_FORBIDDEN`` or ``PATH_ESCAPE``.
    """
    match = _HF.fullmatch(text)
    if match is None:
        raise _forbidden(text, "is not hf://REPO[@REVISION]/PATH")
    repo, revision, path = match["repo"], match["revision"], match["path"]
    if revision is None:
        whole = f"{repo}/{path}"
        repo, _, path = whole.rpartition("/")
    elif not _REVISION.fullmatch(revision):
        raise _forbidden(text, "has an unusable revision")
    check_repo(repo, subject=text)
    return HubUri(repo, revision, _decoded_path(path, text))


def _parse_file(text: str) -> FileUri:
    path = text.removeprefix("file://")
    if not path.startswith("/") or path.startswith("//") or "?" in path or "#" in path:
        raise _forbidden(text, "is not file:///ABSOLUTE/PATH")
    return FileUri(PurePosixPath("/" + _decoded_path(path[1:], text)))


def _parse_http(text: str) -> HttpUri:
    match = _HTTP.fullmatch(text)
    if match is None:
        raise _forbidden(text, "is not http(s)://HOST[:PORT]/PATH")
    port = int(match["port"]) if match["port"] else (443 if match["scheme"] == "https" else 80)
    if port > 65535:
        raise _forbidden(text, "has a port outside 1-65535")
    if (why := _host_defect(match["host"])) is not None:
        raise _forbidden(text, why)
    _decoded_path(match["path"][1:], text)
    return HttpUri(match["scheme"], match["host"].strip("[]"), port, text)


@lru_cache(maxsize=1024)  # all files of a worker come from one host
def _host_defect(host: str) -> str | None:
    """Say what is wrong with the host of a URL; None if nothing is."""
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host.strip("[]"))
        except ValueError:
            return "has a malformed IPv6 address"
    elif not _HOST.fullmatch(host):
        return "has a malformed host name"
    elif _NUMERIC.fullmatch(host):
        try:
            ipaddress.IPv4Address(host)  # refuses 127.1, 0x7f.1, 2130706433
        except ValueError:
            return "has a malformed IPv4 address"
    return None


def _decoded_path(path: str, text: str) -> str:
    """Return ``path`` percent-decoded once; refuse what a second look would read differently."""
    if _PLAIN_PATH.fullmatch(path) and "/." not in path and not path.startswith("."):
        return path
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise _forbidden(text, "has a malformed percent escape")
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise _forbidden(text, "does not decode to UTF-8") from None
    again = unquote_to_bytes(decoded).decode(errors="replace")
    if ".." in decoded.split("/") or ".." in again.split("/"):
        raise CardError(Code.PATH_ESCAPE, "has a `..` in its path", subject=_shown(text))
    if any(part in ("", ".") for part in decoded.split("/")):
        raise _forbidden(text, "has an empty or dotted path part")
    if "%2f" in path.lower() or _HIDDEN.search(decoded) or _HIDDEN_TWICE.search(decoded):
        raise _forbidden(text, "hides a separator, dot or control character behind percent-encoding")
    return decoded


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 120 else text[:117] + "...")


def _forbidden(text: str, why: str) -> CardError:
    return CardError(Code.URI_FORBIDDEN, why, subject=_shown(text))
