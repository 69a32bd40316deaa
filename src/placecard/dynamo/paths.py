"""What the ``path`` of a file on a Dynamo card says: the file's name, and where its bytes may be had."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from placecard.card import FileUri, HttpUri, HubUri, file_uri, parse_uri
from placecard.errors import CardError, Code

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_HOSTED: Final = "/v1/metadata/"
_BEFORE_FILE: Final = 5  # namespace, component, endpoint, slug, suffix
_PATH_SAFE: Final = "!$&'()*+,/:;=@"


@dataclass(frozen=True)
class Place:
    """A file's name, and its source URI; ``note`` says why there is none."""

    name: str
    source: str | None
    note: str = ""


def read_path(path: str, *, slug: str) -> Place:
    """Return the name and source that ``path`` means; it is a URL if it has a scheme, else a path on the worker's host.

    The name is the last segment, percent-decoded once in URLs. Sub-folders are kept only where Dynamo's metadata URL
    (``/v1/metadata/NAMESPACE/COMPONENT/ENDPOINT/SLUG/SUFFIX/FILE…``) tells where the model directory begins.

    Raises:
        CardError: ``NAME_UNSAFE``, where decoding brings a separator to light.
    """
    if _SCHEME.match(path):
        return Place(_url_name(path, slug=slug), *_accepted(path))
    if _DRIVE.match(path):
        return Place(re.split(r"[\\/]", path)[-1], None, "a Windows path; no host of this fleet can read it")
    name = path.rpartition("/")[2]
    if not path.startswith("/"):
        return Place(name, None, "a relative path; only its worker knows the directory it starts from")
    try:
        return Place(name, file_uri(path))
    except CardError as refused:
        return Place(name, None, refused.detail)


def write_path(uri: str) -> str | None:
    """Return a source URI as Dynamo reads it in ``path``, or None if Dynamo cannot reach that place.

    A revision is left out of ``hf://``: Dynamo takes all before the last ``/`` for the repository's name.
    """
    match parse_uri(uri):
        case FileUri(path=path):
            return str(path)
        case HubUri(repo=repo, path=inside):
            return None if "/" in inside else f"hf://{repo}/{quote(inside, safe=_PATH_SAFE)}"
        case HttpUri(url=url):
            return url


def hosted_url(base_url: str, slug: str, name: str) -> str:
    """Return the address of a file on a Placecard publisher."""
    return f"{base_url.rstrip('/')}{_HOSTED}{quote(slug)}/{quote(name, safe=_PATH_SAFE)}"


def _url_name(url: str, *, slug: str) -> str:
    path = re.split(r"[?#]", _SCHEME.sub("", url, count=1), maxsplit=1)[0]
    segments = path.split("/")[1:]
    name = segments[-1:]
    inside = segments[2:] if "/" + "/".join(segments[:2]) + "/" == _HOSTED else []
    if url.lower().startswith("http") and len(inside) > _BEFORE_FILE and inside[3] == slug:
        name = inside[_BEFORE_FILE:]
    decoded = [unquote(segment, errors="surrogateescape") for segment in name]
    if any("/" in segment or "\\" in segment for segment in decoded):
        raise CardError(Code.NAME_UNSAFE, "hides a separator behind percent-encoding", subject=ascii(url[:120]))
    return "/".join(decoded)


def _accepted(uri: str) -> tuple[str | None, str]:
    try:
        parse_uri(uri)
    except CardError as refused:
        return None, refused.detail
    return uri, ""
