"""A shard of many small bombs: each would pass alone, together they must not fill the memory."""

import gzip
import json
from pathlib import Path

import polars as pl

from embed_assets.sources.shard_reading import read_pieces
from embed_assets_tests.sources.reading import folder, items_of, outcomes, pieces_of

FULL = "<shard unpacks to too much>"


def read_all(corpus: Path, max_decompressed_bytes: int) -> list[str]:
    source = folder(corpus)
    return outcomes(list(read_pieces(source, pieces_of(source, 1024), max_decompressed_bytes)))


def test_bombs_that_pass_alone_do_not_pass_together_and_what_fits_is_read(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt.gz").write_bytes(gzip.compress(name.encode() * 10_000))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"d" * 1000))
    (tmp_path / "e.txt").write_text("plain")
    results = read_all(tmp_path, 22_000)
    assert results == ["a" * 10_000, "b" * 10_000, FULL, "d" * 1000, "plain"]


def test_what_stands_beside_the_text_counts_too(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": ["a"] * 100, "deep": [{"list": ["x" * 1000]}] * 100})
    for name in "abc":
        frame.write_parquet(tmp_path / f"{name}.parquet")
    results = read_all(tmp_path, 220_000)
    assert results.count("a") == 200
    assert results[-1] == FULL


def test_plain_files_never_fill_a_shard(tmp_path: Path) -> None:
    header = ",".join(["text", *(f"a_long_name_of_column_{i}" for i in range(20))])
    (tmp_path / "a.csv").write_text(header + "\n" + ("é" + ",1" * 20 + "\n") * 500)
    record: dict[str, object] = {"text": "a\té", "numbers": [0, 1.5, None, True, {}, []] * 20}
    (tmp_path / "b.jsonl").write_text((json.dumps(record, ensure_ascii=False) + "\n") * 100)
    (tmp_path / "c.md").write_text("# Title\n" * 1000)
    (tmp_path / "d.txt").write_bytes(b"\xff")
    assert read_all(tmp_path, 0) == outcomes(items_of(folder(tmp_path), 1024))
