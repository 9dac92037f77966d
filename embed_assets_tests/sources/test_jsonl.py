"""JSONL: a document per line, the same whatever the pieces; a bad line costs only itself."""

import gzip
import json
from pathlib import Path

import pytest

from embed_assets.digests import digest
from embed_assets.sources.source import Document, Rejection
from embed_assets_tests.sources.reading import (
    document,
    folder,
    outcomes,
    pieces_of,
    read,
    rejection,
)


def write_lines(path: Path, *lines: str | bytes) -> None:
    path.write_bytes(b"\n".join(li if isinstance(li, bytes) else li.encode() for li in lines))


def test_columns_become_id_title_text_and_attributes(tmp_path: Path) -> None:
    record = {"body": "Text.", "key": 7, "name": "Title", "year": 2024, "tags": ["a", None]}
    write_lines(tmp_path / "a.jsonl", json.dumps(record))
    item = document(tmp_path, text_column="body", id_column="key", title_column="name")
    assert item == Document("7", "a.jsonl", "Title", "Text.", {"year": 2024, "tags": ["a", None]})


def test_without_an_id_column_the_id_comes_from_the_place(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", '{"text": "one"}', '{"text": "two"}')
    ids = [item.doc_id for item in read(tmp_path) if isinstance(item, Document)]
    assert ids == [digest("a.jsonl", 0), digest("a.jsonl", 16)]


@pytest.mark.parametrize("shard_bytes", [1024, 1500, 4096, 1 << 20])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_pieces_together_are_the_whole_file(tmp_path: Path, shard_bytes: int, newline: str) -> None:
    lines = [json.dumps({"text": f"{n} " + "x" * (n * 37 % 400)}) for n in range(100)]
    lines[50] = json.dumps({"text": "longer than a shard " * 400})
    (tmp_path / "a.jsonl").write_bytes(newline.join(lines).encode())
    source = folder(tmp_path)
    pieces = pieces_of(source, shard_bytes)
    size = (tmp_path / "a.jsonl").stat().st_size
    assert [0, *(piece.end for piece in pieces)] == [*(piece.start for piece in pieces), size]
    assert sum(piece.n_bytes for piece in pieces) == size
    assert len(pieces) > 1 or shard_bytes > size
    assert read(tmp_path, shard_bytes) == read(tmp_path)
    assert outcomes(read(tmp_path, shard_bytes)) == [json.loads(line)["text"] for line in lines]


def test_a_cut_that_falls_on_a_line_start_stays_there(tmp_path: Path) -> None:
    line = json.dumps({"text": "x" * 500}).ljust(1023)
    write_lines(tmp_path / "a.jsonl", line, line, line, "")
    pieces = pieces_of(folder(tmp_path), 1024)
    assert [piece.start for piece in pieces] == [0, 1024, 2048]


def test_a_packed_file_is_one_piece(tmp_path: Path) -> None:
    content = b'{"text": "one"}\n' * 1000
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content, compresslevel=0))
    assert len(pieces_of(folder(tmp_path), 1024)) == 1
    assert len(read(tmp_path, 1024)) == 1000


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ('{"text": "cut', "invalid JSON", "Invalid control character at character 13 of the line"),
        ("not json", "invalid JSON", "Expecting value"),
        ('{"text": "a", "n": ' + "9" * 5000 + "}", "invalid JSON", "too many digits"),
        ('["a list"]', "no text column", "of type list, not an object"),
        ("null", "no text column", "NoneType, not an object"),
        ('{"body": "a", "id": 1}', "no text column", "there are: 'body', 'id'"),
        ("{}", "no text column", "no columns"),
        ('{"text": 5}', "text is not a string", "the value of 'text' is of type int"),
        ('{"text": null}', "text is not a string", "missing"),
        ('{"text": " \\n"}', "empty document", ""),
        (b'{"text": "caf\xe9"}', "not UTF-8", "byte 0xe9 at offset 29"),
        ('{"text": "a", "x": ' + "[" * 50_000, "nested too deeply", "JSON reader"),
        ('{"text": "a", "x": ' + "[" * 200 + "]" * 200 + "}", "nested too deeply", "100 levels"),
        ('{"text": "' + "x" * 300_000, "line too long", "max_document_bytes"),
    ],
)
def test_a_bad_line_costs_only_itself(
    tmp_path: Path, line: str | bytes, reason: str, detail: str
) -> None:
    write_lines(tmp_path / "a.jsonl", '{"text": "one"}', line, '{"text": "two"}')
    first, bad, last = read(tmp_path, max_document_bytes=200_000)
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    assert isinstance(bad, Rejection)
    assert (bad.source, bad.position, bad.reason) == ("a.jsonl", 16, reason)
    assert detail in bad.detail


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (r'{"text": "lone \ud800 half"}', "lone \ufffd half"),
        (r'{"text": "pair \ud83d\ude00"}', "pair \U0001f600"),
        (r'{"text": "nul \u0000"}', "nul \0"),
        (b'\xef\xbb\xbf{"text": "after a byte order mark"}', "after a byte order mark"),
    ],
)
def test_texts_come_out_as_valid_unicode(tmp_path: Path, line: str | bytes, text: str) -> None:
    write_lines(tmp_path / "a.jsonl", line)
    assert document(tmp_path).text == text


def test_attributes_are_always_valid_json(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "a.jsonl",
        r'{"text": "a", "x": NaN, "y": [1e999, true], "\udc00": {"z": "\ud800"}}',
    )
    attributes = document(tmp_path).attributes
    assert attributes == {"x": None, "y": [None, True], "\ufffd": {"z": "\ufffd"}}


@pytest.mark.parametrize("value", ["", None, 1.5, True, [1], ...])
def test_a_record_without_a_usable_id_is_rejected(tmp_path: Path, value: object) -> None:
    record = {"text": "a"} if value is ... else {"text": "a", "id": value}
    write_lines(tmp_path / "a.jsonl", json.dumps(record))
    assert rejection(tmp_path, id_column="id").reason == "no id"


def test_a_repeated_id_is_rejected_and_the_first_record_stands(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "a.jsonl",
        '{"id": "x", "text": " "}',
        '{"id": "x", "text": "one"}',
        '{"id": "x", "text": "two"}',
    )
    items = read(tmp_path, id_column="id")
    assert outcomes(items) == ["<empty document>", "one", "<duplicate id>"]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", "", '{"text": "one"}', "  ", "\r", '{"text": "two"}', "", "")
    assert outcomes(read(tmp_path)) == ["one", "two"]


@pytest.mark.parametrize("content", [b"", b"\n\n \n"])
def test_a_file_without_records_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert rejection(tmp_path).reason == "no records"
