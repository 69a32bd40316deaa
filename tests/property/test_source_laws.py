"""Laws of the sources: whatever the bytes, the directory, the links or the address."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from placecard.card import HttpUri, check_name, parse_uri
from placecard.errors import CardError, SourceError
from placecard.source import DEFAULT_RANGES, CommitVerifier, HubFile, LocalSource, identity_of, walk, why_forbidden
from placecard.source.hub_client import MAX_RETRY_AFTER_S, retry_after_s
from placecard.source.pace import Pace
from placecard.source.proof import etag_matches
from tests.simulator.faulty import FaultyServer, Reply, Then
from tests.unit.source.tools import read, source_with

SECRET = b"secret of the host"
DISK = settings(max_examples=60, deadline=None)

names = st.sampled_from(["a", "b", "c", "config.json", "w.safetensors", ".hidden", "nul", "x\ny"])
targets = st.lists(st.sampled_from(["..", ".", "a", "b", "c", "config.json", "secret", "outside"]), max_size=6)
trees = st.recursive(
    st.one_of(
        st.binary(max_size=8),
        st.tuples(st.booleans(), targets),  # a link: absolute from the sandbox or relative
    ),
    lambda children: st.dictionaries(names, children, max_size=4),
    max_leaves=12,
)


@contextmanager
def sandbox(tree: dict[str, object]) -> Iterator[Path]:
    """Yield a root that holds ``tree``; next to it, outside, lies the secret."""
    with tempfile.TemporaryDirectory() as text:
        top = Path(text).resolve()
        (top / "outside").mkdir()
        (top / "outside" / "secret").write_bytes(SECRET)
        (top / "secret").write_bytes(SECRET)
        (top / "root").mkdir()
        _build(top / "root", tree, top)
        yield top / "root"


def _build(folder: Path, tree: dict[str, object], top: Path) -> None:
    for name, item in tree.items():
        path = folder / name
        match item:
            case dict():
                path.mkdir()
                _build(path, item, top)
            case bytes():
                path.write_bytes(item)
            case (bool() as absolute, [*parts]):
                path.symlink_to("/".join([*([str(top), "root"] if absolute else []), *map(str, parts)]) or ".")


@DISK
@given(tree=st.dictionaries(names, trees, max_size=5), asked=targets)
def test_nothing_outside_the_root_is_ever_read(tree: dict[str, object], asked: list[str]) -> None:
    """Whatever links a root holds and whatever is asked for, the bytes come from beneath it."""
    with sandbox(tree) as root:
        source = LocalSource([root])
        wanted = [root.joinpath(*asked), *(path for path in root.rglob("*"))]
        for path in wanted:
            try:
                fd = source.open_fd(path)
            except SourceError:
                continue
            with os.fdopen(fd, "rb") as file:
                data = file.read()
            real = Path(os.path.realpath(path))
            assert real.is_relative_to(root) and real.read_bytes() == data != SECRET


@DISK
@given(tree=st.dictionaries(names, trees, max_size=5))
def test_whatever_can_be_read_without_leaving_is_read(tree: dict[str, object]) -> None:
    """A regular file beneath the root opens: safety is not bought with refusals."""
    with sandbox(tree) as root:
        source = LocalSource([root])
        for folder, _, files in os.walk(root):
            for name in files:
                path = Path(folder) / name
                if not path.is_symlink():
                    os.close(source.open_fd(path))


@DISK
@given(tree=st.dictionaries(names, trees, max_size=5), max_files=st.integers(0, 6))
def test_a_walk_ends_with_safe_names_and_files_inside(tree: dict[str, object], max_files: int) -> None:
    with sandbox(tree) as root:
        found = walk(root, max_files=max_files)
        assert found == walk(root, max_files=max_files), "the same directory gives the same walk"
        assert found.problem is None
        seen = [entry.name for entry in found.files]
        assert len(seen) == len(set(seen))
        assert len([name for name in seen if not name.endswith(".safetensors")]) <= max_files
        for entry in found.files:
            check_name(entry.name)
            assert entry.real.is_relative_to(root) and not entry.real.is_symlink()
            assert Path(os.path.realpath(root / entry.name)) == entry.real
            assert entry.size == entry.real.stat().st_size
            assert entry.real.read_bytes() != SECRET


@DISK
@given(tree=st.dictionaries(names, trees, max_size=5))
def test_a_walk_accounts_for_every_entry_at_the_top(tree: dict[str, object]) -> None:
    with sandbox(tree) as root:
        found = walk(root, max_files=1000)
        named = {entry.name.split("/")[0] for entry in found.files}
        named |= {each.name.split("/")[0] for each in found.left_out}
        for path in root.iterdir():
            shown = path.name.replace("\n", "\\n")
            inside = Path(os.path.realpath(path)).is_relative_to(root)
            assert shown in named or (path.is_dir() and inside), "silently missing"


@DISK
@given(tree=st.dictionaries(names, trees, max_size=5), data=st.data())
def test_a_listed_file_is_itself_or_not_read_whatever_was_swapped_since(
    tree: dict[str, object], data: st.DataObject
) -> None:
    """A place that becomes a link after the walk, however high up, leads nowhere."""
    with sandbox(tree) as root:
        source = LocalSource([root, *(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())])
        found = source.walk(root, max_files=100)
        places = [root, *sorted(root.rglob("*"))]
        place = data.draw(st.sampled_from(places))
        outside = root.parent / "outside"
        for path in places:  # the same names are all there outside, too
            if path.is_file() and not path.is_symlink():
                copy = outside / path.relative_to(place if path.is_relative_to(place) and path != place else root)
                with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):  # two want one name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(SECRET)
        place.rename(root.parent / "moved")
        place.symlink_to(outside / "secret" if (root.parent / "moved").is_file() else outside)
        for entry in found.files:
            try:
                fd = source.reopen(entry)
            except SourceError:
                continue
            with os.fdopen(fd, "rb") as file:
                assert identity_of(os.fstat(fd)) == entry.identity and file.read() != SECRET
        swapped = source.walk(place, max_files=100)
        assert not any(entry.real.is_relative_to(outside) for entry in swapped.files)


@given(address=st.one_of(st.ip_addresses(), st.integers(0, 2**128 - 1).map(IPv6Address)))
def test_an_allowed_address_is_in_a_range_and_plain(address: IPv4Address | IPv6Address) -> None:
    if why_forbidden(str(address), DEFAULT_RANGES) is not None:
        return
    assert any(address in network for network in DEFAULT_RANGES)
    assert not address.is_multicast and not address.is_link_local and not address.is_unspecified
    assert isinstance(address, IPv4Address) or (address.ipv4_mapped or address.sixtofour or address.teredo) is None


@given(inner=st.ip_addresses(v=4))
def test_no_translated_form_of_any_address_is_allowed(inner: IPv4Address) -> None:
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    number = int(inner)
    for base in ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"):
        outer = IPv6Address(int(IPv6Address(base)) + number)
        assert why_forbidden(str(outer), everything) is not None or outer == IPv6Address("::1")
    assert why_forbidden(str(IPv6Address((0x2002 << 112) + (number << 80))), everything) is not None


@given(text=st.text(max_size=30))
def test_any_text_is_judged_without_an_exception(text: str) -> None:
    verdict = why_forbidden(text, DEFAULT_RANGES)
    assert verdict is not None or ip_address(text) is not None


@given(host=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), tail=st.text(max_size=8))
def test_a_uri_that_parses_shows_its_host_as_written(host: str, tail: str) -> None:
    text = f"http://{host}/{tail}"
    try:
        uri = parse_uri(text)
    except CardError:
        return
    assert isinstance(uri, HttpUri)
    assert uri.url == text and text.startswith((f"http://{uri.host}", f"http://[{uri.host}]"))


@settings(max_examples=25, deadline=None)
@given(
    body=st.binary(max_size=300),
    cut=st.none() | st.integers(0, 300),
    then=st.sampled_from([Then.CLOSE, Then.RESET]),
    chunked=st.sampled_from([0, 1, 7, 64]),
    length=st.none() | st.sampled_from(["", "0", "5", "300", "-1", "x"]),
)
async def test_http_bytes_are_a_prefix_of_the_file_or_an_error(
    body: bytes, cut: int | None, then: Then, chunked: int, length: str | None
) -> None:
    """A broken answer never gives other bytes than the server meant to send, in another order."""
    reply = Reply(body, cut_at=cut, then=then, chunked=chunked, length=length)
    async with FaultyServer() as server, source_with() as source:
        try:
            received = await read(source, server.serve("/x", reply))
        except SourceError:
            return
        assert body.startswith(received)


@settings(max_examples=40, deadline=None)
@given(head=st.binary(max_size=200))
async def test_any_bytes_for_an_answer_end_in_bytes_or_a_source_error(head: bytes) -> None:
    for raw in (head, b"HTTP/1.1 200 OK\r\n" + head, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + head):
        async with FaultyServer() as server, source_with(rate_window_s=0.5) as source:
            try:
                await read(source, server.serve("/x", Reply(raw=raw, then=Then.CLOSE)))
            except SourceError as error:
                assert len(str(error)) < 500


@given(data=st.binary(max_size=200), other=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_proof_by_commit_is_sound_and_blind_to_cuts(data: bytes, other: bytes, cuts: list[int]) -> None:
    git_sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    large = HubFile("f", len(data), "0" * 40, hashlib.sha256(data).hexdigest())
    for file in (HubFile("f", len(data), git_sha1), large):
        for sent in (data, other):
            edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
            verifier = CommitVerifier(file)
            for start, end in pairwise(edges):
                verifier.feed(sent[start:end])
            assert verifier.matches() is (sent == data)
    assert etag_matches(git_sha1, len(data), [data]) is True
    assert etag_matches(git_sha1, len(other), [other]) is (other == data)


@given(
    waits=st.lists(st.tuples(st.floats(0, 20), st.integers(0, 1 << 20)), max_size=60),
    floor=st.floats(1, 1e6),
    window=st.floats(0.1, 20),
    total=st.floats(0.1, 100),
)
def test_pace_ends_a_transfer_in_time_and_never_a_fast_one(
    waits: list[tuple[float, int]], floor: float, window: float, total: float
) -> None:
    pace = Pace(floor, window, total)
    waited = 0.0
    for seconds, received in waits:
        step = min(seconds, pace.patience_s())
        waited += step
        enough = received >= floor * window
        verdict = pace.waited(step, received)
        assert 0 <= pace.patience_s() <= window
        if verdict is not None:
            assert waited >= total - 1e-6 or not enough
            return
        assert waited < total


@given(header=st.text(max_size=20) | st.integers().map(str))
def test_a_wait_that_a_hub_asks_for_is_bounded(header: str) -> None:
    assert 1.0 <= retry_after_s(header) <= MAX_RETRY_AFTER_S


@given(path=st.text(min_size=1, max_size=40))
def test_no_path_raises_anything_but_a_source_error(path: str) -> None:
    source = LocalSource([Path("/nonexistent/root")])
    try:
        os.close(source.open_fd(Path("/nonexistent/root") / path.lstrip("/")))
    except SourceError:
        return
    raise AssertionError("a file that cannot be was opened")
