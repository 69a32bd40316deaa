"""Source URIs: rows 22, 23, 25 and 26 of the bad-input table."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from placecard.card import FileUri, HttpUri, HubUri, Uri, file_uri, is_commit, lint, parse_repo, parse_uri
from placecard.errors import Code
from tests.unit.card.cards import card_json, codes, decoded, file_json, refusals

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        (f"hf://acme/river@{COMMIT}/config.json", HubUri("acme/river", COMMIT, "config.json")),
        (f"hf://acme/river@{COMMIT}/1_Pooling/config.json", HubUri("acme/river", COMMIT, "1_Pooling/config.json")),
        (f"hf://gpt2@{COMMIT}/a%20b%40c.json", HubUri("gpt2", COMMIT, "a b@c.json")),
        ("hf://acme/river/config.json", HubUri("acme/river", None, "config.json")),
        ("hf://gpt2/config.json", HubUri("gpt2", None, "config.json")),
        ("hf://acme/river@main/config.json", HubUri("acme/river", "main", "config.json")),
        ("hf://acme/river@refs/pr/1/config.json", HubUri("acme/river", "refs/pr/1", "config.json")),
        ("file:///models/river/config.json", FileUri(PurePosixPath("/models/river/config.json"))),
        ("file:///a%20b/%C3%A9.json", FileUri(PurePosixPath("/a b/é.json"))),
        ("http://10.0.0.7:9090/v1/x", HttpUri("http", "10.0.0.7", 9090, "http://10.0.0.7:9090/v1/x")),
        ("https://w.example/x", HttpUri("https", "w.example", 443, "https://w.example/x")),
        ("http://worker_1-a/x", HttpUri("http", "worker_1-a", 80, "http://worker_1-a/x")),
        ("http://[fd00::7]:65535/x", HttpUri("http", "fd00::7", 65535, "http://[fd00::7]:65535/x")),
    ],
)
def test_the_parts_of_a_uri(text: str, uri: Uri) -> None:
    assert parse_uri(text) == uri
    assert parse_uri(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    ["", "ftp://h/x", "gopher://h/x", "javascript:alert(1)", "data:text/plain,x", "HTTP://h/x", "HF://a/b", "File:///x",
     "hf:/x", "hf:a/b", "file:x", "file:/x", "http:/h/x", "http:h/x", "//h/x", "config.json", "/etc/passwd", "://x",
     " http://h/x", "http://h/x ", "http://h/x\n", "http://h/\nx", "http://h/\tx", "ht\ntp://h/x", "\x00http://h/x",
     "http://h", "http://", "https:///x", "file://", "file:///", "hf://", "hf:///x", "C:\\models\\x", "c:/models/x",
     "http://h/" + "x" * 4096, "unix:///run/x", "s3://bucket/x"],
)  # fmt: skip
def test_row22_no_uri_of_the_grammar(text: str) -> None:
    assert refusals(lambda: parse_uri(text)) == [Code.URI_FORBIDDEN]


@pytest.mark.parametrize("text", ["ftp://h/x", "", "http://h/\nx"])
def test_row22_no_uri_of_the_grammar_on_a_card(text: str) -> None:
    assert codes(card_json(file_json("a.json", sources=[text]))) == [Code.URI_FORBIDDEN]


@pytest.mark.parametrize(
    "text",
    ["http://user@h/x", "http://user:pw@h/x", "http://h@evil/x", "http://h/x#f", "http://h/x?q=1", "http://h?x", "http://h#x",
     "http://h:0/x", "http://h:65536/x", "http://h:080/x", "http://h:/x", "http://h:-1/x", "http://h:8e1/x",
     "http://h:99999999999/x", "http://höst/x", "http://①②⑦.0.0.1/x", "http://xn--\u200b/x", "http://h%00/x",
     "http://h%2eexample/x", "http://h\\@evil/x", "http://h/a\\b", "http://h/a%5cb", "http:\\\\h\\x", "file:///a\\b",
     "http://./x", "http://../x", "http://a..b/x", "http://a./x", "http://.a/x", "http://-a/x", "http://a-/x",
     "http://" + "a" * 254 + "/x", "http://[::1/x", "http://::1/x", "http://[::1]x/x", "http://[]/x", "http://[fe80::1%25lo]/x",
     "http://[fe80::1%lo]/x", "http://[::ffff:1.2.3.4.5]/x", "http://[1.2.3.4]/x", "http://[v1.a]/x",
     "http://h/a;b\x7f", "file:///x?y", "file:///x#y", "hf://a/b@main/x?download=true", "hf://a/b@main/x#y"],
)  # fmt: skip
def test_row23_parts_that_no_source_needs(text: str) -> None:
    assert refusals(lambda: parse_uri(text)) == [Code.URI_FORBIDDEN]


@pytest.mark.parametrize(
    "host",
    ["127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.0x1", "127.0.0.01", "127.0.0.1.",
     "256.1.1.1", "1.2.3.4.5", "0x", "a.0x7f", "example.1", "0"],
)  # fmt: skip
def test_row23_an_address_in_a_form_that_only_resolvers_read(host: str) -> None:
    assert refusals(lambda: parse_uri(f"http://{host}/x")) == [Code.URI_FORBIDDEN]


@pytest.mark.parametrize("text", ["file://host/x", "file://localhost/x", "file:////x", "file:///x/", "file:///x//y"])
def test_a_file_uri_names_no_host_and_no_empty_part(text: str) -> None:
    assert refusals(lambda: parse_uri(text)) == [Code.URI_FORBIDDEN]


@pytest.mark.parametrize(
    "text",
    ["file:///root/../etc/passwd", "file:///..", "file:///a/%2e%2e/b", "file:///a/.%2E/b", "file:///a/..%2fb",
     "file:///a/%252e%252e/b", "file:///a/%2e%252e/b", "file:///a%252f..%252fb", "http://h/a/../b", "http://h/%2e%2e",
     "hf://a/b@main/../x", f"hf://a/b@{COMMIT}/x/%2e%2e/y"],
)  # fmt: skip
def test_row25_a_path_that_climbs(text: str) -> None:
    assert refusals(lambda: parse_uri(text)) == [Code.PATH_ESCAPE]
    assert codes(card_json(file_json("a.json", sources=[text]))) == [Code.PATH_ESCAPE]


@pytest.mark.parametrize(
    "path",
    ["a/./b", "a/%2e/b", "a%2fb", "a%2Fb", "a%5cb", "a%255cb", "a%252fb", "a%00b", "a%2500b", "a%0ab", "a%250ab",
     "a%1fb", "a%", "a%2", "a%zz", "a%ff", "a%c3", "%ed%a0%80", "a%7fb"],
)  # fmt: skip
def test_row25_a_path_that_hides_something(path: str) -> None:
    for text in (f"file:///{path}", f"http://h/{path}", f"hf://a/b@main/{path}"):
        assert refusals(lambda text=text: parse_uri(text)) == [Code.URI_FORBIDDEN]  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    ["hf://a", "hf://a/", "hf://a/b@/x", "hf://a/b@main", "hf://a/b@main/", "hf://@main/x", "hf://a/b/c/d",
     "hf://a/b/c@main/x", "hf://a/b@../x", "hf://a/b@./x", "hf://a/b@-x/x", "hf://a/b@a..b/x", "hf://a/b@a@b/x",
     "hf://a/b@" + "r" * 129 + "/x", "hf://" + "r" * 97 + "/x", "hf://" + "r" * 300 + "/b@main/x", "hf://a--b/x",
     "hf://a..b/x", "hf://.a/x", "hf://a./x", "hf://-a/x", "hf://a/b.git/x", "hf://a b/x", "hf://a/b%40main/x",
     "hf://a/b@refs/pr/1", "hf://a/b@refs/pr/../x"],
)  # fmt: skip
def test_row26_no_file_of_a_hub_repository(text: str) -> None:
    assert refusals(lambda: parse_uri(text)) == [Code.URI_FORBIDDEN]


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", COMMIT[:7], COMMIT.upper(), COMMIT + "0"])
def test_row26_a_revision_that_can_move(revision: str) -> None:
    uri = parse_uri(f"hf://acme/river@{revision}/config.json")
    assert isinstance(uri, HubUri)
    assert (uri.revision, uri.pinned) == (revision, False)
    card = decoded(file_json("tokenizer.json", sources=[str(uri)]))
    assert Code.REVISION_NOT_PINNED in [note.code for note in lint(card)]


def test_row26_a_commit_is_pinned_and_none_is_not() -> None:
    pinned, older = parse_uri(f"hf://a/b@{COMMIT}/x"), parse_uri("hf://a/b/x")
    assert isinstance(pinned, HubUri)
    assert isinstance(older, HubUri)
    assert (pinned.pinned, older.pinned) == (True, False)
    assert is_commit(COMMIT)
    assert not is_commit(COMMIT + "\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"hf://acme/river@{COMMIT}", ("acme/river", COMMIT)),
        ("hf://gpt2", ("gpt2", None)),
        ("hf://models/acme/river@main", ("acme/river", "main")),
        ("acme/river@refs/pr/2", ("acme/river", "refs/pr/2")),
    ],
)
def test_a_whole_repository(text: str, expected: tuple[str, str | None]) -> None:
    assert parse_repo(text) == expected


@pytest.mark.parametrize(
    "text", ["", "hf://", "hf://a/b/c", "hf://a@", "hf://a@b@c", "hf://a@x/y", "hf://a/../b", "hf://a@.."]
)
def test_no_repository(text: str) -> None:
    assert refusals(lambda: parse_repo(text)) == [Code.URI_FORBIDDEN]


def test_a_path_becomes_a_uri_and_comes_back() -> None:
    path = PurePosixPath("/models/große Fluß/a#b?c@d%.json")
    assert parse_uri(file_uri(path)) == FileUri(path)


@pytest.mark.parametrize("path", ["relative", "/", "/a/../b", "/a\\b", "/a\nb", "/\udcff", "/a%2e"])
def test_a_path_that_no_reader_would_accept(path: str) -> None:
    assert refusals(lambda: file_uri(path))[0] in (Code.URI_FORBIDDEN, Code.PATH_ESCAPE)


def test_a_long_uri_is_cut_in_the_message() -> None:
    with pytest.raises(Exception, match="too long") as caught:
        parse_uri("http://h/" + "x" * 100_000)
    assert len(str(caught.value)) < 300
