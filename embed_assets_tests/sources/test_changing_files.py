"""A file that is written while it is read: no document is half old and half new without notice."""

import gzip
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from embed_assets.shards import Piece
from embed_assets.sources import text_files
from embed_assets.sources.compressed import opened
from embed_assets.sources.corpus_root import CorpusRoot
from embed_assets.sources.source import Document, Rejection
from embed_assets_tests.sources.reading import folder, outcomes, pieces_of, rejection, settings

CHANGED = "<changed since it was listed>"


def write_jsonl(path: Path, word: str, n: int = 100) -> None:
    path.write_text("".join(f'{{"text": "{word} {i}"}}\n' for i in range(n)))


def write_csv(path: Path, word: str, n: int = 100) -> None:
    path.write_text("text\n" + "".join(f"{word} {i}\n" for i in range(n)))


def write_gzip(path: Path, word: str, n: int = 100) -> None:
    lines = "".join(f'{{"text": "{word} {i}"}}\n' for i in range(n))
    path.write_bytes(gzip.compress(lines.encode()))


def write_parquet(path: Path, word: str, n: int = 100) -> None:
    pl.DataFrame({"text": [f"{word} {i}" for i in range(n)]}).write_parquet(path)


WRITERS: dict[str, Callable[..., None]] = {
    "a.jsonl": write_jsonl,
    "a.csv": write_csv,
    "a.jsonl.gz": write_gzip,
    "a.parquet": write_parquet,
}


def later(path: Path) -> None:
    """A clock may be too coarse to tell two writes apart."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize("name", WRITERS)
def test_records_of_a_file_written_since_it_was_listed_come_with_a_notice(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    WRITERS[name](path, "old")
    source = folder(tmp_path)
    pieces = pieces_of(source, 1024)
    WRITERS[name](path, "new")
    later(path)
    for piece in pieces:
        results = outcomes(list(source.read(piece)))
        assert results[-1] == CHANGED
        assert results.count(CHANGED) == 1
    listed_again = [o for p in pieces_of(source, 1024) for o in outcomes(list(source.read(p)))]
    assert listed_again == [f"new {i}" for i in range(100)]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_nobody_touches_comes_without_notice(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, "old")
    source = folder(tmp_path)
    assert CHANGED not in [o for p in pieces_of(source) for o in outcomes(list(source.read(p)))]


def test_what_a_log_had_when_it_was_listed_is_read_however_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_jsonl(path, "line")
    source = folder(tmp_path)
    [piece] = pieces_of(source)
    write_jsonl(path, "line", 150)
    assert outcomes(list(source.read(piece))) == [*(f"line {i}" for i in range(100)), CHANGED]


def while_read(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]) -> None:
    """Let `change` happen after the first bytes of a text are read."""

    @contextmanager
    def opened_and_changed(path: Path, limit: int) -> Iterator[io.BufferedIOBase]:
        with opened(path, limit) as stream:
            first = stream.read(10)
            change(path)
            yield io.BytesIO(first + stream.read())

    monkeypatch.setattr(text_files, "opened", opened_and_changed)


def grow(path: Path) -> None:
    path.write_text("new text " * 3000)


def rewrite(path: Path) -> None:
    path.write_text("new " * 5000)
    later(path)


@pytest.mark.parametrize("change", [grow, rewrite, Path.unlink])
def test_a_text_that_is_written_while_it_is_read_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    (tmp_path / "a.txt").write_text("old " * 5000)
    while_read(monkeypatch, change)
    assert rejection(tmp_path).reason == "changed while being read"


def test_a_text_written_since_it_was_listed_is_read_as_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    source = folder(tmp_path)
    [piece] = pieces_of(source)
    (tmp_path / "a.txt").write_text("new text")
    assert outcomes(list(source.read(piece))) == ["new text"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / name)
    # As if it had come just after the last look at what stands there.
    monkeypatch.setattr(CorpusRoot, "path_of", lambda root, source: root.folder / source)
    [item] = folder(tmp_path).read(Piece(name, 0, 9, 9, "v"))
    assert isinstance(item, Rejection)
    assert item.reason == "not a regular file"


def test_a_limit_is_told_rather_than_a_change(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", "old")
    source = folder(tmp_path, max_records=10)
    [piece] = pieces_of(source)
    write_jsonl(tmp_path / "a.jsonl", "new", 200)
    items = list(source.read(piece))
    assert outcomes(items) == ["<too many records>"]
    assert not any(isinstance(item, Document) for item in items)
    assert settings().max_records == 4_000_000
