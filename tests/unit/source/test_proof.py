"""Proof by commit."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from placecard.source import CommitVerifier, HubFile, commit_matches
from placecard.source.proof import etag_matches

# Source: `printf 'hello\n' | git hash-object --stdin`, and of the empty blob.
HELLO = HubFile("hello", 6, "ce013625030ba8dba906f756967f9e9ca394464a")
EMPTY = HubFile("empty", 0, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
LARGE = HubFile("large", 6, "0" * 40, hashlib.sha256(b"hello\n").hexdigest())


def verdict(file: HubFile, *chunks: bytes) -> bool:
    verifier = CommitVerifier(file)
    for chunk in chunks:
        verifier.feed(chunk)
    return verifier.matches()


@pytest.mark.parametrize("file", [HELLO, LARGE])
def test_the_right_bytes_match_however_they_are_cut(file: HubFile) -> None:
    assert verdict(file, b"hello\n")
    assert verdict(file, b"h", b"", b"ello", b"\n")


def test_the_empty_file_matches() -> None:
    assert verdict(EMPTY)
    assert not verdict(EMPTY, b"x")


@pytest.mark.parametrize("file", [HELLO, LARGE])
@pytest.mark.parametrize("data", [b"", b"hello", b"hello!", b"hello\n\n", b"Hello\n"])
def test_other_bytes_do_not(file: HubFile, data: bytes) -> None:
    assert not verdict(file, data)


def test_a_wrong_size_never_matches() -> None:
    assert not verdict(HubFile("hello", 7, HELLO.git_sha1), b"hello\n")


def test_the_pointer_of_a_large_file_is_not_the_file() -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{LARGE.sha256}\nsize 6\n".encode()
    git_sha1 = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()
    assert not verdict(HubFile("large", 6, git_sha1, LARGE.sha256), pointer)


def test_digests_computed_elsewhere_must_hold_the_one_that_is_pinned() -> None:
    assert commit_matches(HELLO, size=6, git_sha1=HELLO.git_sha1)
    assert commit_matches(LARGE, size=6, sha256=LARGE.sha256)
    assert not commit_matches(HELLO, size=5, git_sha1=HELLO.git_sha1)
    assert not commit_matches(HELLO, size=6)
    assert not commit_matches(LARGE, size=6, git_sha1=LARGE.git_sha1)
    assert not commit_matches(LARGE, size=6, sha256="0" * 64)


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        (HELLO.git_sha1, True),
        (hashlib.sha1(b"hello\n").hexdigest(), True),
        (LARGE.sha256, True),
        ("0" * 40, False),
        ("0" * 64, False),
        ("5d41402abc4b2a76b9719d911017c592", None),
        ("../../x", None),
        ("", None),
    ],
)
def test_an_etag_says_yes_no_or_nothing(etag: str, expected: bool | None) -> None:
    assert etag_matches(etag, 6, [b"hel", b"lo\n"]) is expected


def test_git_agrees(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10
    (tmp_path / "blob").write_bytes(data)
    try:
        run = subprocess.run(
            ["git", "hash-object", "--no-filters", "blob"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("git is not here")
    assert verdict(HubFile("blob", len(data), run.stdout.strip()), data)
