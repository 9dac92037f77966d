"""A text file becomes one document, as it is; or a rejection that says what is wrong with it."""

from pathlib import Path

import pytest

from embed_assets.digests import digest
from embed_assets_tests.sources.reading import document, rejection


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfmark", "mark"),
        (b"\xef\xbb\xbf\xef\xbb\xbftwo marks", "\ufefftwo marks"),
        (b"a\r\nb\rc\n", "a\r\nb\rc\n"),
        (b"nul\0nul", "nul\0nul"),
        ("é \U0001f600 漢字".encode(), "é \U0001f600 漢字"),
        ("e\u0301".encode(), "e\u0301"),
    ],
)
def test_the_text_is_what_the_file_holds(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert document(tmp_path).text == text


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"", "empty document", "0 bytes"),
        (b" \n\t\r\n", "empty document", "5 bytes"),
        ("\u2003\u00a0".encode(), "empty document", ""),
        (b"\xef\xbb\xbf", "empty document", ""),
        (b"caf\xe9 au lait", "not UTF-8", "byte 0xe9 at offset 3"),
        (b"\xef\xbb\xbfcaf\xe9 au lait", "not UTF-8", "byte 0xe9 at offset 6"),
        (b"cut \xe2\x82", "not UTF-8", "byte 0xe2 at offset 4"),
        (b"\xed\xa0\x80", "not UTF-8", "byte 0xed at offset 0"),
        ("text".encode("utf-16"), "not UTF-8", "byte 0xff at offset 0"),
        (b"x" * 2049, "document too large", "2048"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_the_place(
    tmp_path: Path, content: bytes, reason: str, detail: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    rejected = rejection(tmp_path, max_document_bytes=2048)
    assert (rejected.source, rejected.position, rejected.reason) == ("a.txt", 0, reason)
    assert detail in rejected.detail


def test_a_document_of_exactly_the_limit_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * 2048)
    assert len(document(tmp_path, max_document_bytes=2048).text) == 2048


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("guide.md", "# The Guide\n\n# Other\n", "The Guide"),
        ("guide.md", "intro\n\n#\tTabs #\n", "Tabs"),
        ("guide.md", "# About C#\n", "About C#"),
        ("guide.md", "## Only a second level\n", "guide"),
        ("guide.md", "```sh\n# a comment\n```\n# Real\n", "Real"),
        ("guide.md", "#hashtag", "guide"),
        ("guide.md", "#  \n", "guide"),
        ("guide.md", "\r\n# Windows\r\n", "Windows"),
        ("Read Me.v2.txt", "no heading", "Read Me.v2"),
        ("long.md", "# " + "x" * 500, "x" * 200),
    ],
)
def test_the_title_is_the_first_heading_or_the_file_name(
    tmp_path: Path, name: str, text: str, title: str
) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert document(tmp_path).title == title


def test_the_id_depends_on_the_name_and_not_on_the_text(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "a.rst"
    path.write_text("one")
    before = document(tmp_path)
    path.write_text("two")
    assert before.doc_id == document(tmp_path).doc_id == digest("sub/a.rst", 0)
