"""TLS to workers: a handshake succeeds as it should, or nothing is sent at all."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc
import pytest

from placecard.errors import Code
from tests.simulator.faulty import BODY, FaultyServer, Reply, Then
from tests.unit.source.tools import failure, read, source_with

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by the openssl command")

_CONFIG = """
[ca]
default_ca = local
[local]
dir = {dir}
database = {dir}/index.txt
serial = {dir}/serial
new_certs_dir = {dir}
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class Authority:
    """A certificate authority of this test run."""

    folder: Path

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def server(self, name: str, host: str, start: str, end: str) -> ssl.SSLContext:
        """Return a server's context with a certificate for ``host``; dates as YYYYMMDDHHMMSSZ."""
        folder = self.folder
        (folder / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        _openssl(
            folder, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        _openssl(
            folder, "ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key",
            "-startdate", start, "-enddate", end, "-extfile", f"{name}.ext",
            "-in", f"{name}.csr", "-out", f"{name}.pem",
        )  # fmt: skip
        return self.self_signed(name)

    def self_signed(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    (folder / "ca.cnf").write_text(_CONFIG.format(dir=folder))
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    _openssl(
        folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=authority", "-addext", "keyUsage=critical,keyCertSign", "-keyout", "ca.key", "-out", "ca.pem",
    )  # fmt: skip
    return Authority(folder)


@asynccontextmanager
async def _listening(handle: Callable[[anyio.abc.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Yield the port on which ``handle`` gets every connection."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


GOOD = ("IP:127.0.0.1", "20200101000000Z", "20450101000000Z")
BAD = {
    "expired": ("IP:127.0.0.1", "20200101000000Z", "20210101000000Z"),
    "not-yet": ("IP:127.0.0.1", "20440101000000Z", "20450101000000Z"),
    "wrong-name": ("DNS:worker.example,IP:127.0.0.9", "20200101000000Z", "20450101000000Z"),
}


async def test_a_trusted_certificate_is_accepted(authority: Authority) -> None:
    async with (
        FaultyServer(tls=authority.server("good", *GOOD)) as server,
        source_with(tls=authority.trust()) as source,
    ):
        url = server.serve("/x", Reply(BODY))
        assert url.startswith("https://")
        assert await read(source, url) == BODY
        assert await read(source, url) == BODY
        assert server.connections == 1


@pytest.mark.parametrize("name", sorted(BAD))
async def test_row47_a_bad_certificate_is_a_tls_error(authority: Authority, name: str) -> None:
    async with (
        FaultyServer(tls=authority.server(name, *BAD[name])) as server,
        source_with(tls=authority.trust()) as source,
    ):
        error = await failure(source, server.serve("/x", Reply(BODY)))
        assert error.code is Code.TLS_ERROR and not error.transient
        assert server.requests == []


async def test_row47_an_unknown_authority_is_a_tls_error(authority: Authority) -> None:
    async with FaultyServer(tls=authority.server("unknown", *GOOD)) as server, source_with(token="s3cret") as source:
        assert (await failure(source, server.serve("/x", Reply(BODY)))).code is Code.TLS_ERROR
        assert server.requests == [], "nothing was sent, the token least of all"


async def test_row47_plain_http_behind_https_is_a_tls_error_without_fallback() -> None:
    received: list[bytes] = []

    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            received.append(await stream.receive())
            await stream.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with _listening(refuse) as port, source_with(token="s3cret") as source:
        assert (await failure(source, f"https://127.0.0.1:{port}/x")).code is Code.TLS_ERROR
    assert len(received) == 1 and b"s3cret" not in received[0]


async def test_row47_tls_1_0_is_a_tls_error(authority: Authority) -> None:
    context = authority.server("old", *GOOD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the point is that it is deprecated
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with FaultyServer(tls=context) as server, source_with(tls=authority.trust()) as source:
        assert (await failure(source, server.serve("/x", Reply(BODY)))).code is Code.TLS_ERROR


async def test_row47_a_handshake_that_never_ends_is_given_up() -> None:
    async def keep_silent(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    async with _listening(keep_silent) as port, source_with(connect_timeout_s=0.2) as source:
        with anyio.fail_after(5):
            error = await failure(source, f"https://127.0.0.1:{port}/x")
    assert error.code is Code.CONNECT_FAILED and error.transient


async def test_row47_a_connection_cut_inside_tls_is_truncated(authority: Authority) -> None:
    context = authority.server("cut", *GOOD)
    async with FaultyServer(tls=context) as server, source_with(tls=authority.trust()) as source:
        url = server.serve("/x", Reply(BODY, cut_at=100, then=Then.RESET))
        assert (await failure(source, url)).code is Code.TRUNCATED
