"""CSV and TSV: a document per record, quoting as in RFC 4180, the same whatever the pieces."""

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_assets.sources.csv_records import record_starts
from embed_assets.sources.source import Document, Rejection
from embed_assets_tests.sources.reading import (
    document,
    folder,
    outcomes,
    pieces_of,
    read,
    rejection,
)


def write_csv(path: Path, rows: list[list[str]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)


def test_columns_become_id_title_text_and_attributes(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["key", "body", "name", "year"], ["x1", "Text.", "T", "2024"]])
    item = document(tmp_path, text_column="body", id_column="key", title_column="name")
    assert item == Document("x1", "a.csv", "T", "Text.", {"year": "2024"})


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('text\n"with ""quotes"" and, comma"\n', ['with "quotes" and, comma']),
        ('text\n"two\nlines"\n"three\r\n\n"\n', ["two\nlines", "three\r\n\n"]),
        ("text\r\none\r\ntwo", ["one", "two"]),
        ("\ufefftext\none\n", ["one"]),
        ('\ufeff"text"\none\n', ["one"]),
        ("text\n\n\none\n\n", ["one"]),
        ("text\nnul\0\n", ["nul\0"]),
    ],
)
def test_records_are_parsed_as_in_rfc_4180(tmp_path: Path, content: str, texts: list[str]) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert outcomes(read(tmp_path)) == texts


def test_tsv_splits_at_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"id\ttext\n1\ta, b\n")
    assert document(tmp_path).text == "a, b"


@pytest.mark.parametrize("shard_bytes", [1024, 1100, 5000])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_pieces_together_are_the_whole_file(
    tmp_path: Path, shard_bytes: int, delimiter: str
) -> None:
    texts = [f'{n}\n"quoted", a\tb\r\n' * (n * 13 % 9 + 1) for n in range(200)]
    name = "a.csv" if delimiter == "," else "a.tsv"
    write_csv(
        tmp_path / name, [["n", "text"], *([str(n), t] for n, t in enumerate(texts))], delimiter
    )
    pieces = pieces_of(folder(tmp_path), shard_bytes)
    assert len(pieces) > 2
    assert sum(piece.n_bytes for piece in pieces) == (tmp_path / name).stat().st_size
    assert outcomes(read(tmp_path, shard_bytes)) == texts
    assert read(tmp_path, shard_bytes) == read(tmp_path)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.text('a",\n\r é'), min_size=1, max_size=3), min_size=1, max_size=20),
    st.integers(1, 40),
)
def test_cuts_fall_only_between_records(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], step: int
) -> None:
    path = tmp_path_factory.mktemp("cuts") / "a.csv"
    starts = []
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        for row in rows:
            starts.append(stream.tell())
            writer.writerow(row)
    size = path.stat().st_size
    with path.open("rb") as stream:
        found = record_starts(stream, range(step, size, step))
    assert found == sorted(set(found))
    wanted = {min(s for s in [*starts, size] if s >= t) for t in range(step, size, step)}
    assert set(found) == wanted


def test_a_record_longer_than_a_block_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_assets.sources.csv_records._BLOCK_BYTES", 7)
    path = tmp_path / "a.csv"
    path.write_bytes(b'text\n"' + b'a""\n' * 30 + b'"\nlast\n')
    with path.open("rb") as stream:
        assert record_starts(stream, range(8, 130, 8)) == [path.stat().st_size - 5]


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (b"1", "wrong number of fields", "1 fields where the header has 2"),
        (b"1,a,b", "wrong number of fields", "3 fields where the header has 2"),
        (b'1,"a"b', "invalid CSV", "expected after"),
        (b"1,caf\xe9", "not UTF-8", "byte 0xe9"),
        (b'1,"line\ncaf\xe9\nline"', "not UTF-8", "byte 0xe9"),
        (b"1, ", "empty document", ""),
        (b"1," + b"x" * 3000, "record too long", "max_document_bytes"),
        (b'1,"' + b'x"",\n' * 1000 + b'"', "record too long", "max_document_bytes"),
    ],
)
def test_a_bad_record_costs_only_itself(
    tmp_path: Path, record: bytes, reason: str, detail: str
) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n0,one\n" + record + b"\n2,two\n")
    first, bad, last = read(tmp_path, max_document_bytes=2048)
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    assert isinstance(bad, Rejection)
    assert (bad.source, bad.position, bad.reason) == ("a.csv", 14, reason)
    assert detail in bad.detail


@pytest.mark.parametrize("n_bytes", [2047, 2048, 2049])
def test_the_limit_counts_the_bytes_of_a_record(tmp_path: Path, n_bytes: int) -> None:
    record = b'"' + b"\n" * (n_bytes - 4) + b'x"\n'
    (tmp_path / "a.csv").write_bytes(b"text\n" + record + b"two\n")
    first = outcomes(read(tmp_path, max_document_bytes=2048))
    assert first[-1] == "two"
    assert len(first) == 2
    assert (first[0] == "<record too long>") == (n_bytes > 2048)


def test_an_unclosed_quote_takes_the_rest_of_the_file_in_one_rejection(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text\none\n"two\nthree\nfour\n')
    assert outcomes(read(tmp_path)) == ["one", "<invalid CSV>"]


def test_a_missing_text_column_is_said_once_and_names_what_is_there(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["id", "body"], ["1", "a"], ["2", "b"]])
    rejected = rejection(tmp_path)
    assert rejected.reason == "no text column"
    assert rejected.detail == "text_column is 'text'; there are: 'id', 'body'"


@pytest.mark.parametrize("content", [b"", b"text\n", b"\n\n"])
def test_a_file_without_records_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert rejection(tmp_path).reason == "no records"


def test_a_packed_file_gives_the_same_documents(tmp_path: Path) -> None:
    content = b'text,n\n"a\nb",1\nc,2\n'
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(content))
    assert outcomes(read(tmp_path)) == ["a\nb", "c"] * 2
