"""What a few bytes on disk may become in memory: a file beyond a limit is rejected whole, and says
which setting it went beyond; its neighbours are read.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard

from embed_assets_tests.sources.reading import folder, outcomes, pieces_of, read, rejection

#: The limit, and a fourth of what the bombs hold.
KIB_128 = 128 << 10
PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}
#: Half a MiB each when unpacked.
CONTENTS = {
    ".jsonl": b'{"text": "the same small record"}\n' * (4 * KIB_128 // 34),
    ".csv": b"text\n" + b"the same small record\n" * (4 * KIB_128 // 22),
    ".tsv": b"text\n" + b"the same small record\n" * (4 * KIB_128 // 22),
    ".md": b"the same line\n" * (4 * KIB_128 // 14),
}


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("suffix", CONTENTS)
def test_a_bomb_of_small_records_gives_nothing_and_harms_no_other_file(
    tmp_path: Path, suffix: str, packed: str
) -> None:
    (tmp_path / f"a{suffix}{packed}").write_bytes(PACK[packed](CONTENTS[suffix]))
    (tmp_path / "b.txt").write_text("a good file")
    bomb, good = read(tmp_path, max_decompressed_bytes=KIB_128)
    assert outcomes([bomb, good]) == ["<unpacks to too much>", "a good file"]
    assert "max_decompressed_bytes, 131072" in getattr(bomb, "detail", "")


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("suffix", CONTENTS)
def test_a_file_of_just_the_limit_is_taken(tmp_path: Path, suffix: str, packed: str) -> None:
    content = CONTENTS[suffix]
    (tmp_path / f"a{suffix}{packed}").write_bytes(PACK[packed](content))
    items = read(tmp_path, max_decompressed_bytes=len(content))
    assert "<unpacks to too much>" not in outcomes(items)
    assert read(tmp_path, max_decompressed_bytes=len(content) - 1) != items


@pytest.mark.parametrize("packed", PACK)
def test_a_line_that_is_passed_over_counts_too(tmp_path: Path, packed: str) -> None:
    content = bytes(4 * KIB_128) + b'\n{"text": "after the line"}\n'
    (tmp_path / f"a.jsonl{packed}").write_bytes(PACK[packed](content))
    limits = {"max_document_bytes": 1024}
    assert outcomes(read(tmp_path, **limits)) == ["<line too long>", "after the line"]
    assert (
        rejection(tmp_path, max_decompressed_bytes=KIB_128, **limits).reason
        == "unpacks to too much"
    )


def test_a_plain_file_may_be_of_any_size(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(CONTENTS[".jsonl"])
    pieces = pieces_of(folder(tmp_path), KIB_128)
    assert len(pieces) == 4
    assert len(read(tmp_path, KIB_128, max_decompressed_bytes=KIB_128)) == 4 * KIB_128 // 34


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.jsonl.gz"])
@pytest.mark.parametrize("line", [b'{"text": "a"}\n', b"1\n", b'"\n'])
def test_millions_of_tiny_records_good_or_bad_are_one_rejection(
    tmp_path: Path, name: str, line: bytes
) -> None:
    content = b"text\n" * name.endswith(".csv") + line * 40
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    if name.endswith(".csv") and line == b'"\n':
        return  # Quotes in pairs: records of two lines.
    rejected = rejection(tmp_path, max_records=39)
    assert (rejected.reason, rejected.position) == ("too many records", 0)
    assert rejected.detail == "more than max_records, 39"
    assert len(read(tmp_path, max_records=40)) == 40


def test_a_record_may_not_blow_up_into_a_million_values(tmp_path: Path) -> None:
    record = json.dumps({"text": "a", "x": [{}] * 500})
    (tmp_path / "a.jsonl").write_text(f"{record}\n{record}\n")
    rejected = rejection(tmp_path, max_records=200)
    assert rejected.reason == "too many values"
    assert rejected.detail == "more than 800, 4 times max_records"
    assert len(read(tmp_path, max_records=251)) == 2


def test_a_rejection_names_few_of_a_million_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(f"column{i}" for i in range(100_000)) + "\n1\n")
    assert len(rejection(tmp_path).detail) < 300


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "columns",
    [
        {"text": [LONG] * 200},
        {"text": [LONG] * 100, "more": [LONG] * 100},
        {"text": ["a"] * 200, "list": [[LONG, LONG]] * 200},
        {"text": ["a"] * 200, "struct": [{"deep": {"er": [[LONG]]}}] * 200},
        {
            "text": ["a"] * 200,
            "array": pl.Series([[LONG, "b"]] * 200, dtype=pl.Array(pl.String, 2)),
        },
        {"text": ["a"] * 200, "kind": pl.Series([LONG] * 200, dtype=pl.Categorical)},
    ],
)
def test_a_parquet_bomb_is_rejected_by_what_its_rows_hold(
    tmp_path: Path, columns: dict[str, object]
) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame(columns).write_parquet(path)
    assert path.stat().st_size < 50_000
    rejected = rejection(tmp_path, max_decompressed_bytes=2 << 20)
    assert rejected.reason == "unpacks to too much"
    assert "max_decompressed_bytes, 2097152" in rejected.detail
    assert len(read(tmp_path)) == len(pl.DataFrame(columns))


def test_a_parquet_row_is_as_long_as_all_its_columns(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": ["one", "two"], "more": [LONG, "short"]})
    frame.write_parquet(tmp_path / "a.parquet")
    items = read(tmp_path, max_document_bytes=50_000)
    assert outcomes(items) == ["<document too large>", "two"]


def test_a_parquet_file_of_too_many_rows_is_rejected_before_they_are_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": pl.repeat("the same", 5_000_000, eager=True)}).write_parquet(path)
    assert path.stat().st_size < 50_000
    assert rejection(tmp_path).detail == "more than max_records, 4000000"
