"""A local hub, good enough for the real ``huggingface_hub`` client and for other downloaders that speak its protocol.

::

    ROOT/ORG/NAME/...            one repository at revision ``main``
    ROOT/ORG/NAME@REVISION/...   another revision of it: a branch or tag

    with LocalHub(root) as hub:
        hub.url                                     # HF_ENDPOINT
        hub.fail("config.json", Fault(status=429, headers={"Retry-After": "3600"}))
        hub.requests                                # every request, in order

    python -m tests.simulator.hub --root ROOT [--port N] [--latency-ms N] [--token T] [--gated ORG/NAME]

It answers HEAD and GET with Range, ETag, X-Repo-Commit and X-Linked-*; model info, trees, refs, commits and paths-info.
A commit is the sha1 over the names and git ids of a revision's files, so it changes with the content and only with it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

# Source: the default .gitattributes of a new repository on the hub, cut to what model directories hold.
LFS_SUFFIXES: Final = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".model", ".npz", ".ckpt"}
)
LFS_MIN_BYTES: Final = 10 << 20
POINTER_BYTES: Final = 134
_DATE: Final = "2026-01-01T00:00:00.000Z"


class Damage(StrEnum):
    """What can be wrong with an answer that carries a file."""

    TRUNCATE = "truncate"  # the full Content-Length, half the bytes, then closed
    CORRUPT = "corrupt"  # one bit flipped
    DROP = "drop"  # closed without an answer
    RESET = "reset"  # half the bytes, then a TCP reset
    STALL = "stall"  # half the bytes, then nothing until the hub is stopped
    POINTER = "pointer"  # the text of the large-file pointer instead of the bytes
    HTML = "html"  # somebody's log-in page


@dataclass(frozen=True)
class Fault:
    """One wrong answer.

    Args:
        status: Answer with this status and no file; 0 for none.
        error_code: ``X-Error-Code`` of that answer, by which the client tells errors apart.
        headers: Further headers of that answer.
        damage: Or answer with the file, damaged.
        method: Only to this method; empty for any.
    """

    status: int = 0
    error_code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    damage: Damage | None = None
    method: str = ""


@dataclass(frozen=True)
class Request:
    """A request as it came; ``path`` is decoded."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class RepoFile:
    """One file of a revision; ``sha256`` is set where the hub would keep it in large-file storage."""

    name: str
    path: Path
    size: int
    git_sha1: str
    sha256: str | None

    @property
    def etag(self) -> str:
        """What the hub sends as its ETag."""
        return self.sha256 or self.git_sha1

    def entry(self) -> dict[str, Any]:
        """Return the file as a tree lists it."""
        body: dict[str, Any] = {"type": "file", "oid": self.git_sha1, "size": self.size, "path": self.name}
        if self.sha256:
            body["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return body

    def sibling(self, *, with_blobs: bool) -> dict[str, Any]:
        """Return the file as model info lists it."""
        body: dict[str, Any] = {"rfilename": self.name}
        if with_blobs:
            body |= {"size": self.size, "blobId": self.git_sha1}
            if self.sha256:
                body["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return body


@dataclass(frozen=True)
class Revision:
    """The files of a repository at one commit."""

    commit: str
    files: Mapping[str, RepoFile]


def read_revision(directory: Path) -> Revision:
    """Return what ``directory`` is as a revision."""
    files: dict[str, RepoFile] = {}
    tree = hashlib.sha1(usedforsecurity=False)
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        name, data = path.relative_to(directory).as_posix(), path.read_bytes()
        git_sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        large = path.suffix in LFS_SUFFIXES or len(data) >= LFS_MIN_BYTES
        files[name] = RepoFile(name, path, len(data), git_sha1, hashlib.sha256(data).hexdigest() if large else None)
        tree.update(f"{name}\0{git_sha1}\n".encode())
    return Revision(tree.hexdigest(), files)


class LocalHub:
    """Serves the repositories below ``root`` on a thread of its own.

    Args:
        root: See the module. Files may change while it serves; a commit that is gone from disk is gone from the hub.
        host: Address to listen on.
        port: 0 for any.
        latency_s: Wait before each answer.
        token: If set, every request must carry it.
        gated: Repositories that answer 403 GatedRepo.
        renamed: Old name to new name; the old one answers 307 to the new one.
    """

    def __init__(
        self,
        root: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency_s: float = 0.0,
        token: str | None = None,
        gated: Sequence[str] = (),
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root.resolve()
        self.latency_s = latency_s
        self.token = token
        self.gated = set(gated)
        self.renamed = dict(renamed or {})
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._faults: list[tuple[str, Fault, int]] = []
        self._read: dict[Path, tuple[tuple[int, ...], Revision]] = {}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server((host, port), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="local-hub", daemon=True
        )

    @property
    def url(self) -> str:
        """The endpoint, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve_forever(self) -> None:
        """Serve on the calling thread until interrupted."""
        self._server.serve_forever(poll_interval=0.2)

    def fail(self, suffix: str, fault: Fault, *, times: int = 1_000_000) -> None:
        """Give ``fault`` as the next ``times`` answers to paths that end in ``suffix``."""
        with self._lock:
            self._faults.append((suffix, fault, times))

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def commit(self, repo: str, revision: str = "main") -> str:
        """Return the commit that ``revision`` names now."""
        found = self.revision(repo, revision)
        if found is None:
            raise KeyError(f"{repo}@{revision}")
        return found.commit

    def revision(self, repo: str, revision: str) -> Revision | None:
        """Return a revision by branch, tag or commit."""
        base = self.root / repo
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            folders = [base, *sorted(base.parent.glob(base.name + "@*"))]
            revisions = (self._revision(folder) for folder in folders)
            return next((each for each in revisions if each is not None and each.commit == revision), None)
        main = revision in ("main", "HEAD", "refs/heads/main")
        return self._revision(base if main else base.with_name(f"{base.name}@{revision}"))

    def answered(self, method: str = "", suffix: str = "") -> int:
        """Return how many requests of ``method`` to paths that end in ``suffix`` came so far."""
        return sum(1 for each in self.requests if (not method or each.method == method) and each.path.endswith(suffix))

    def take_fault(self, method: str, path: str) -> Fault:
        """Return the fault that is next for this request; one that does nothing if there is none."""
        with self._lock:
            for index, (suffix, fault, times) in enumerate(self._faults):
                if times > 0 and path.endswith(suffix) and fault.method in ("", method):
                    self._faults[index] = (suffix, fault, times - 1)
                    return fault
        return Fault()

    def _revision(self, folder: Path) -> Revision | None:
        if not folder.is_dir() or not folder.resolve().is_relative_to(self.root):
            return None
        stats = [path.stat() for path in (folder, *sorted(folder.rglob("*")))]
        key = tuple(number for status in stats for number in (status.st_mtime_ns, status.st_size, status.st_ino))
        with self._lock:
            known = self._read.get(folder)
        if known is None or known[0] != key:
            known = key, read_revision(folder)
            with self._lock:
                self._read[folder] = known
        return known[1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no news."""


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[LocalHub]
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Requests are kept in ``LocalHub.requests``."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.hub
        payload = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        hub.requests.append(Request(self.command, path, dict(self.headers.items())))
        if hub.latency_s:
            time.sleep(hub.latency_s)
        fault = hub.take_fault(self.command, path)
        if fault.damage is Damage.DROP:
            self._hang_up()
        elif fault.status:
            self._refuse(fault.status, fault.error_code, "injected", fault.headers)
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif path == "/api/whoami-v2":
            self._json({"type": "user", "name": "local", "auth": {"type": "access_token"}})
        elif match := re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|refs|paths-info|commits)(?:/(.+))?)?", path
        ):
            self._api(match[1], match[2] or "", match[3] or "", query, payload)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/(?:resolve|raw)/(refs/[^/]+/[^/]+|[^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3], fault)
        else:
            self._refuse(404, "EntryNotFound", f"no route {path}")

    def _revision(self, repo: str, revision: str) -> Revision | None:
        """Return the revision, or answer with why there is none."""
        hub = self.hub
        if new := hub.renamed.get(repo):
            self._send(307, b"", {"Location": self.path.replace(repo, new, 1)})
        elif repo in hub.gated:
            self._refuse(403, "GatedRepo", f"Access to model {repo} is restricted")
        elif (found := hub.revision(repo, revision)) is not None:
            return found
        elif hub.revision(repo, "main") is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        else:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _api(self, repo: str, kind: str, rest: str, query: dict[str, list[str]], payload: bytes) -> None:
        revision, below = unquote(rest) or "main", ""
        if kind == "tree" and "/" in rest and not rest.startswith("refs/"):
            revision, below = rest.split("/", 1)
        found = self._revision(repo, revision)
        if found is None:
            return
        match kind:
            case "tree":
                recursive = query.get("recursive", ["false"])[0].lower() in ("1", "true")
                self._json(_tree(found, below.rstrip("/"), recursive=recursive))
            case "refs":
                branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": found.commit}
                self._json({"branches": [branch], "converts": [], "tags": [], "pullRequests": []})
            case "commits":
                author = {"user": "local"}
                self._json([{"id": found.commit, "title": "", "message": "", "authors": [author], "date": _DATE}])
            case "paths-info":
                text = payload.decode()
                paths = json.loads(text).get("paths", []) if text[:1] == "{" else parse_qs(text).get("paths", [])
                self._json([found.files[name].entry() for name in paths if name in found.files])
            case _:
                self._json(_info(repo, found, with_blobs="blobs" in query))

    def _file(self, repo: str, revision: str, name: str, fault: Fault) -> None:
        found = self._revision(repo, revision)
        if found is None:
            return
        file = found.files.get(name)
        commit = {"X-Repo-Commit": found.commit}
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found", commit)
            return
        headers = {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        headers |= commit
        if file.sha256:
            headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": headers["ETag"]}
        if self.headers.get("If-None-Match") == headers["ETag"]:
            self._send(304, b"", headers)
            return
        start, end = 0, file.size - 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and self.command != "HEAD":
            start, end = int(wanted[1]), min(int(wanted[2] or end), end)
            if start >= file.size:
                self._send(416, b"", {"Content-Range": f"bytes */{file.size}"})
                return
            headers["Content-Range"] = f"bytes {start}-{end}/{file.size}"
        data = b"" if self.command == "HEAD" else file.path.read_bytes()[start : end + 1]
        self._send_file(206 if "Content-Range" in headers else 200, headers, data, end - start + 1, file, fault)

    def _send_file(
        self, status: int, headers: dict[str, str], data: bytes, length: int, file: RepoFile, fault: Fault
    ) -> None:
        match fault.damage:
            case Damage.CORRUPT if data:
                data = bytes([data[0] ^ 1]) + data[1:]
            case Damage.POINTER:
                data = b"version https://git-lfs.github.com/spec/v1\n"
                data += f"oid sha256:{file.etag}\nsize {file.size}\n".encode()
                length = len(data)
            case Damage.HTML:
                data = b"<!DOCTYPE html><html><title>Sign in</title></html>"
                length = len(data)
            case Damage.TRUNCATE | Damage.RESET | Damage.STALL:
                data = data[: len(data) // 2]
        self._send(status, data, headers, length=length)
        if fault.damage is Damage.RESET:
            self.wfile.flush()
            time.sleep(0.02)  # let what was written arrive, else the reset overtakes it
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault.damage is Damage.STALL:
            self.wfile.flush()
            self.hub.stopping.wait()
        if fault.damage in (Damage.TRUNCATE, Damage.RESET, Damage.STALL):
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        if not self.wfile.closed:
            self.wfile.flush()
        self.connection.close()

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Message": message, "Content-Type": "application/json", **(headers or {})}
        if code:
            told["X-Error-Code"] = code
        self._send(status, json.dumps({"error": message}).encode(), told)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _info(repo: str, revision: Revision, *, with_blobs: bool) -> dict[str, Any]:
    return {
        "_id": "0" * 24,
        "id": repo,
        "modelId": repo,
        "author": repo.split("/", maxsplit=1)[0],
        "sha": revision.commit,
        "lastModified": _DATE,
        "createdAt": _DATE,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [file.sibling(with_blobs=with_blobs) for file in revision.files.values()],
        "usedStorage": sum(file.size for file in revision.files.values()),
    }


def _tree(revision: Revision, below: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Return the files and folders below the folder ``below`` (the top if empty)."""
    prefix = below + "/" if below else ""
    folders: set[str] = set()
    entries: list[dict[str, Any]] = []
    for name, file in revision.files.items():
        if not name.startswith(prefix):
            continue
        parents = name.removeprefix(prefix).split("/")[:-1]
        deep = len(parents) if recursive else min(1, len(parents))
        folders |= {prefix + "/".join(parents[: depth + 1]) for depth in range(deep)}
        if recursive or not parents:
            entries.append(file.entry())
    ids = ((name, hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()) for name in sorted(folders))
    return [{"type": "directory", "oid": oid, "size": 0, "path": name} for name, oid in ids] + entries


def main() -> None:
    """Serve until interrupted; prints ``HUB http://...`` once it listens."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--token")
    parser.add_argument("--gated", action="append", default=[])
    options = parser.parse_args()
    hub = LocalHub(
        options.root,
        host=options.host,
        port=options.port,
        latency_s=options.latency_ms / 1000,
        token=options.token,
        gated=options.gated,
    )
    print("HUB", hub.url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        hub.serve_forever()


if __name__ == "__main__":
    main()
