"""Discovery URLs: which registry, where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecard.discovery import (
    DiscoveryUrl,
    FileRegistry,
    MemoryHub,
    MemoryRegistry,
    Scheme,
    default_discovery_dir,
    open_registry,
    parse_discovery,
)
from placecard.errors import UsageError


@pytest.mark.parametrize(
    ("url", "scheme", "directory"),
    [
        ("file:///run/placecard", Scheme.FILE, "/run/placecard"),
        ("file:///run/placecard/", Scheme.FILE, "/run/placecard"),
        ("file:///a%20b/%C3%BC", Scheme.FILE, "/a b/ü"),
        ("file:///a b/ü", Scheme.FILE, "/a b/ü"),
        ("dynamo+file:///var/kv", Scheme.DYNAMO_FILE, "/var/kv"),
        ("memory:", Scheme.MEMORY, None),
    ],
)
def test_a_url_is_read(url: str, scheme: Scheme, directory: str | None) -> None:
    assert parse_discovery(url) == DiscoveryUrl(scheme, None if directory is None else Path(directory))


@pytest.mark.parametrize(
    "url",
    [
        "", "file", "file:", "file:/x", "file://", "file:///", "file://///", "file://host/x", "file://x", "file:x", "FILE:///x",
        "/run/placecard", "./x", "memory", "memory://", "memory:x", " memory:", "http://x", "redis://x", ":", "://",
        "file:///a/../b", "file:///%2e%2e/b", "file:///a%00", "file:///a\n", "file:///%ff", "file:///a?x", "file:///a#x",
        "dynamo+file:", "dynamo+memory:", "x" * 9999,
    ],
)  # fmt: skip
def test_what_is_no_discovery_url_is_refused_with_a_mend(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_discovery(url)
    assert "--discovery" in caught.value.mend
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("url", ["etcd://h:2379/p", "kubernetes://ns", "kubernetes:", "dynamo+etcd://h:2379", "etcd:"])
def test_registries_of_later_releases_say_so(url: str) -> None:
    with pytest.raises(UsageError, match="not in this release"):
        parse_discovery(url)


@given(st.text(max_size=60) | st.text(max_size=40).map("file:///".__add__))
def test_a_url_that_is_read_is_written_and_read_the_same(text: str) -> None:
    try:
        url = parse_discovery(text)
    except UsageError:
        return
    assert parse_discovery(str(url)) == url
    assert url.directory is None or url.directory.is_absolute()


def test_the_default_directory_is_the_users_own() -> None:
    tmp = Path("/tmp")
    assert default_discovery_dir({"XDG_RUNTIME_DIR": "/run/user/7"}, tmp, 7) == Path("/run/user/7/placecard")
    for env in ({}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "run"}):
        assert default_discovery_dir(env, tmp, 7) == Path("/tmp/placecard-7")


def test_registries_are_opened(tmp_path: Path) -> None:
    opened = open_registry(DiscoveryUrl(Scheme.FILE, tmp_path), ttl_s=3)
    assert isinstance(opened, FileRegistry)
    assert opened.ttl_s == 3
    hub = MemoryHub(ttl_s=4)
    assert isinstance(open_registry(DiscoveryUrl(Scheme.MEMORY), hub=hub), MemoryRegistry)
    assert open_registry(DiscoveryUrl(Scheme.MEMORY), hub=hub).ttl_s == 4
    assert open_registry(DiscoveryUrl(Scheme.MEMORY)).ttl_s == 10


def test_dynamos_registry_is_opened_elsewhere() -> None:
    with pytest.raises(UsageError, match="Placecard's own"):
        open_registry(DiscoveryUrl(Scheme.DYNAMO_FILE, Path("/x")))
