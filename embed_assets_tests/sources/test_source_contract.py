"""What every Source promises, held against each implementation."""

import json
from pathlib import Path

import polars as pl
import pytest

from embed_assets.sources.folder import FolderSource
from embed_assets.sources.python_docs import PythonDocsSource
from embed_assets.sources.source import Document, Source
from embed_assets_tests.sources.reading import items_of, pieces_of, settings

SHARD_BYTES = 1024


def folder_source(root: Path) -> Source:
    (root / "sub").mkdir()
    texts = [f"text {n} " * (n % 30) for n in range(100)]
    (root / "a.md").write_text("# A\n")
    (root / "empty.txt").write_text("")
    (root / "sub" / "b.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    (root / "sub" / "c.csv").write_text("text,n\n" + "".join(f'"{t}",1\n' for t in texts))
    pl.DataFrame({"text": texts}).write_parquet(root / "sub" / "d.parquet")
    (root / "sub" / "broken.parquet").write_bytes(b"PAR1")
    return FolderSource(str(root), settings())


def python_docs_source(root: Path) -> Source:
    for n in range(20):
        (root / f"m{n}.py").write_text(f'"""Module {n}."""' if n % 3 else "")
    return PythonDocsSource(root)


@pytest.fixture(params=[folder_source, python_docs_source])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    made: Source = request.param(tmp_path)
    return made


def test_files_are_listed_sorted_once_each_and_the_same_again(source: Source) -> None:
    files = source.files().files
    names = [file.source for file in files]
    assert names == sorted(set(names))
    assert source.files().files == files


def test_pieces_cover_their_file(source: Source) -> None:
    for file in source.files().files:
        pieces = source.pieces(file, SHARD_BYTES)
        assert pieces
        assert {(piece.source, piece.version) for piece in pieces} == {(file.source, file.version)}
        assert sum(piece.n_bytes for piece in pieces) == file.n_bytes
        assert source.pieces(file, SHARD_BYTES) == pieces


def test_every_piece_yields_something_from_its_own_file(source: Source) -> None:
    for piece in pieces_of(source, SHARD_BYTES):
        items = list(source.read(piece))
        assert items
        assert {item.source for item in items} == {piece.source}


def test_reading_twice_gives_the_same_documents(source: Source) -> None:
    assert items_of(source, SHARD_BYTES) == items_of(source, SHARD_BYTES)


def test_documents_do_not_depend_on_where_files_are_cut(source: Source) -> None:
    cut, whole = items_of(source, SHARD_BYTES), items_of(source, 1 << 30)
    assert [i for i in cut if isinstance(i, Document)] == [
        i for i in whole if isinstance(i, Document)
    ]


def test_ids_are_unique_in_the_corpus(source: Source) -> None:
    ids = [item.doc_id for item in items_of(source, SHARD_BYTES) if isinstance(item, Document)]
    assert len(ids) == len(set(ids)) > 0


def test_texts_can_be_written_to_any_table(source: Source) -> None:
    for item in items_of(source, SHARD_BYTES):
        if isinstance(item, Document):
            assert item.text.strip()
            item.text.encode("utf-8")
            json.dumps(item.attributes, allow_nan=False)
