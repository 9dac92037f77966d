"""Parquet: a document per row, the same whatever the pieces; broken files are rejected."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from embed_assets.digests import digest
from embed_assets.sources.source import Document
from embed_assets_tests.sources.reading import (
    document,
    folder,
    outcomes,
    pieces_of,
    read,
    rejection,
)


def test_columns_become_id_title_text_and_attributes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"key": [7], "body": ["Text."], "name": ["Title"], "year": [2024]})
    frame.write_parquet(tmp_path / "a.parquet")
    item = document(tmp_path, text_column="body", id_column="key", title_column="name")
    assert item == Document("7", "a.parquet", "Title", "Text.", {"year": 2024})


def test_attributes_are_always_valid_json(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "text": ["a"],
            "day": [date(2024, 2, 29)],
            "at": [datetime(2024, 1, 1, tzinfo=UTC)],
            "price": [Decimal("1.50")],
            "nan": [float("nan")],
            "list": [[1, 2]],
            "struct": [{"x": "y", "raw": b"bytes"}],
            "raw": [b"bytes"],
        }
    ).write_parquet(tmp_path / "a.parquet")
    assert document(tmp_path).attributes == {
        "day": "2024-02-29",
        "at": "2024-01-01 00:00:00+00:00",
        "price": "1.50",
        "nan": None,
        "list": [1, 2],
        "struct": {"x": "y"},
    }


@pytest.mark.parametrize("n_rows", [1, 3, 1000, 9000])
def test_pieces_together_are_the_whole_file(tmp_path: Path, n_rows: int) -> None:
    texts = [f"{n} {n * n * 7919 % 1_000_003}" for n in range(n_rows)]
    pl.DataFrame({"text": texts}).write_parquet(tmp_path / "a.parquet", row_group_size=700)
    size = (tmp_path / "a.parquet").stat().st_size
    pieces = pieces_of(folder(tmp_path), size // 3)
    assert min(n_rows, 3) <= len(pieces) <= 4
    assert [0, *(piece.end for piece in pieces)] == [*(piece.start for piece in pieces), n_rows]
    assert sum(piece.n_bytes for piece in pieces) == size
    items = read(tmp_path, size // 3)
    assert outcomes(items) == texts
    assert isinstance(items[-1], Document)
    assert items[-1].doc_id == digest("a.parquet", n_rows - 1)
    assert items == read(tmp_path)


def test_a_bad_row_costs_only_itself(tmp_path: Path) -> None:
    texts = ["one", None, " ", "x" * 2049, "two"]
    pl.DataFrame({"text": texts}).write_parquet(tmp_path / "a.parquet")
    assert outcomes(read(tmp_path, max_document_bytes=2048)) == [
        "one",
        "<text is not a string>",
        "<empty document>",
        "<document too large>",
        "two",
    ]


def test_a_categorical_text_is_text(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": ["a", "b", "a"]}, schema={"text": pl.Categorical()})
    frame.write_parquet(tmp_path / "a.parquet")
    assert outcomes(read(tmp_path)) == ["a", "b", "a"]


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [["a"], ["b"]]])
def test_a_text_column_of_another_type_is_said_once(tmp_path: Path, values: list[object]) -> None:
    pl.DataFrame({"text": values}).write_parquet(tmp_path / "a.parquet")
    assert rejection(tmp_path).reason == "text is not a string"


def test_a_missing_text_column_is_said_once_and_names_what_is_there(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2], "body": ["a", "b"]}).write_parquet(tmp_path / "a.parquet")
    rejected = rejection(tmp_path)
    assert rejected.reason == "no text column"
    assert "'id', 'body'" in rejected.detail


@pytest.mark.parametrize("damage", ["empty", "truncated", "no parquet", "bad footer"])
def test_a_broken_file_is_one_piece_and_one_rejection(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["some text"] * 1000}).write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "no parquet": b"text\n" * 100,
            "bad footer": content[:-100] + b"\xff" * 90 + content[-10:],
        }[damage]
    )
    assert len(pieces_of(folder(tmp_path), 1024)) == 1
    assert rejection(tmp_path).reason == "unreadable Parquet"


def test_a_file_without_rows_says_so(tmp_path: Path) -> None:
    pl.DataFrame({"text": []}, schema={"text": pl.String}).write_parquet(tmp_path / "a.parquet")
    assert rejection(tmp_path).reason == "no records"


def test_names_with_wildcards_and_equals_signs_are_only_names(tmp_path: Path) -> None:
    folder = tmp_path / "lang=en"
    folder.mkdir()
    pl.DataFrame({"text": ["right"]}).write_parquet(folder / "[a]*.parquet")
    pl.DataFrame({"text": ["wrong"]}).write_parquet(folder / "a.parquet")
    items = read(tmp_path)
    assert sorted(outcomes(items)) == ["right", "wrong"]
    assert all(isinstance(item, Document) and item.attributes == {} for item in items)
