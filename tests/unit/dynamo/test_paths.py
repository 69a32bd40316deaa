"""What a file's path means: its name, and the one place where it may be had."""

from __future__ import annotations

import pytest

from placecard.dynamo.paths import hosted_url, read_path, write_path
from placecard.errors import CardError, Code

META = "http://10.0.0.1:9090/v1/metadata"


@pytest.mark.parametrize(
    ("path", "name", "source"),
    [
        ("/m/config.json", "config.json", "file:///m/config.json"),
        ("/m m/ü%20.json", "ü%20.json", "file:///m%20m/%C3%BC%2520.json"),
        ("file:///m/a%20b.json", "a b.json", "file:///m/a%20b.json"),
        ("hf://acme/river/config.json", "config.json", "hf://acme/river/config.json"),
        ("hf://gpt2/config.json", "config.json", "hf://gpt2/config.json"),
        (f"{META}/river/config.json", "config.json", f"{META}/river/config.json"),
        (f"{META}/river/_base/config.json", "config.json", f"{META}/river/_base/config.json"),
        (f"{META}/n/c/e/river/_base/a/b%20c.json", "a/b c.json", f"{META}/n/c/e/river/_base/a/b%20c.json"),
        (f"{META}/n/c/e/other/_base/a/b.json", "b.json", f"{META}/n/c/e/other/_base/a/b.json"),
        ("https://[fd00::1]:9/x/config.json", "config.json", "https://[fd00::1]:9/x/config.json"),
    ],
)
def test_a_path_names_a_file_and_a_source(path: str, name: str, source: str) -> None:
    place = read_path(path, slug="river")
    assert (place.name, place.source, place.note) == (name, source, "")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("config.json", "config.json"),
        ("models/river/config.json", "config.json"),
        (r"C:\models\river\config.json", "config.json"),
        ("s3://bucket/config.json", "config.json"),
        ("ngc://org/config.json", "config.json"),
        ("/m/../../etc/config.json", "config.json"),
        ("file://host/m/config.json", "config.json"),
        ("file:///m/../config.json", "config.json"),
        ("hf:///tmp/model/config.json", "config.json"),
        ("hf://a/b/c/config.json", "config.json"),
        ("http://user:secret@10.0.0.1/config.json", "config.json"),
        ("http://10.0.0.1/config.json?token=1", "config.json"),
        ("http://10.0.0.1:99999/config.json", "config.json"),
        ("http://0x7f.1/config.json", "config.json"),
        (f"{META}/river/a b.json", "a b.json"),
        (f"{META}/n/c/e/river/_base/../../config.json", "../../config.json"),
    ],
)
def test_a_path_that_our_grammar_refuses_has_no_source_and_a_note(path: str, name: str) -> None:
    place = read_path(path, slug="river")
    assert (place.name, place.source) == (name, None)
    assert place.note


@pytest.mark.parametrize("path", [f"{META}/river/..%2Fconfig.json", f"{META}/river/a%5Cb", "file:///m/%2e%2e%2Fpasswd"])
def test_a_hidden_separator_is_refused(path: str) -> None:
    with pytest.raises(CardError) as caught:
        read_path(path, slug="river")
    assert caught.value.code is Code.NAME_UNSAFE


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///m/a%20b.json", "/m/a b.json"),
        (
            "hf://acme/river@0123456789abcdef0123456789abcdef01234567/a b.json".replace(" ", "%20"),
            "hf://acme/river/a%20b.json",
        ),
        ("http://h:1/v1/blobs/blake3/00", "http://h:1/v1/blobs/blake3/00"),
        ("hf://acme/river@main/1_Pooling/config.json", None),
    ],
)
def test_a_source_is_written_as_dynamo_reads_it(uri: str, path: str | None) -> None:
    assert write_path(uri) == path


def test_a_hosted_address_reads_back_as_the_name_it_was_made_of() -> None:
    url = hosted_url("http://10.0.0.1:80/", "river", "a b&河#?.json")
    assert url == "http://10.0.0.1:80/v1/metadata/river/a%20b&%E6%B2%B3%23%3F.json"
    assert read_path(url, slug="river").name == "a b&河#?.json"
