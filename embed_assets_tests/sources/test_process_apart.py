"""Parquet is read in a process apart: whatever a file does to it, the run goes on."""

import os
import threading
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from embed_assets.shards import Piece
from embed_assets.sources import parquet, parquet_rows, process_apart
from embed_assets.sources.source import Document, Rejection
from embed_assets_tests.sources.reading import document, folder, outcomes, read, rejection, settings

ROWS = pl.DataFrame({"text": [f"row {n}" for n in range(100)]})
#: In the header of its page: a struct, then the number of values, which is 100 in zigzag.
N_VALUES = b"\x2c\x15\xc8\x01"


def write_with_flipped_bit(path: Path) -> None:
    """A page that says it holds -101 values: polars aborts on it (polars 2.1)."""
    ROWS.write_parquet(path, compression="uncompressed")
    content = path.read_bytes()
    assert content.count(N_VALUES) == 1
    path.write_bytes(content.replace(N_VALUES, b"\x2c\x15\xc9\x01"))


def readers() -> list[psutil.Process]:
    """The processes apart that this process has."""
    children = psutil.Process().children()
    return [child for child in children if "process_apart" in " ".join(child.cmdline())]


def kill_the_next_reader() -> None:
    deadline = time.monotonic() + 60
    while not readers() and time.monotonic() < deadline:
        time.sleep(0.01)
    for reader in readers():
        reader.kill()


def test_a_file_that_kills_its_reader_is_one_rejection(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "a.parquet")
    write_with_flipped_bit(tmp_path / "b.parquet")
    ROWS.write_parquet(tmp_path / "c.parquet")
    good = ROWS["text"].to_list()
    assert outcomes(read(tmp_path)) == [*good, "<unreadable Parquet>", *good]


def test_rows_before_the_slice_that_breaks_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ROWS.write_parquet(path, compression="uncompressed", row_group_size=100)
    texts = ROWS["text"].to_list()
    two = pl.concat([ROWS, ROWS])
    two.write_parquet(path, compression="uncompressed", row_group_size=100)
    content = path.read_bytes()
    second = content.rindex(N_VALUES)
    path.write_bytes(content[:second] + b"\x2c\x15\xc9\x01" + content[second + 4 :])
    results = outcomes(read(tmp_path))
    # Slices: the first 64 rows, then all others.
    assert results == [*texts[:64], "<unreadable Parquet>"]


@pytest.mark.slow
def test_no_flipped_bit_in_a_page_header_stops_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ROWS.write_parquet(path, compression="uncompressed")
    content = path.read_bytes()
    start = content.index(N_VALUES) - 8
    for bit in range(8 * 32):
        damaged = bytearray(content)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        results = outcomes(read(tmp_path))
        assert results
        assert len(results) <= 101
    ROWS.write_parquet(path)
    assert outcomes(read(tmp_path)) == ROWS["text"].to_list()


def test_one_process_reads_all_files(tmp_path: Path) -> None:
    for n in range(3):
        ROWS.write_parquet(tmp_path / f"{n}.parquet")
    read(tmp_path)
    before = {reader.pid for reader in readers()}
    read(tmp_path)
    assert {reader.pid for reader in readers()} == before
    assert len(before) == 1


def test_its_memory_is_limited(tmp_path: Path) -> None:
    numbers = pl.Series([pl.zeros(200 << 20, dtype=pl.Int8, eager=True)])
    pl.DataFrame({"text": ["a"], "x": numbers}).write_parquet(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    assert rejection(tmp_path, max_decompressed_bytes="1MiB").reason == "unreadable Parquet"


def test_a_reader_that_stops_half_way_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    pl.concat([ROWS] * 50).write_parquet(tmp_path / "a.parquet")
    path = tmp_path / "a.parquet"
    piece = Piece("a.parquet", 0, 5000, 1, "")
    calls = process_apart.call("items", path, piece, settings(), max_memory_bytes=1 << 30)
    assert next(calls)
    calls.close()
    assert len(read(tmp_path)) == 5000


def test_a_reader_killed_from_outside_fails_the_shard_and_the_next_try_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far more than a pipe holds: it cannot be through before the last row is taken.
    texts = [f"{n} {'x' * 10_000}" for n in range(1000)]
    pl.DataFrame({"text": texts}).write_parquet(tmp_path / "a.parquet")

    def killed_at_the_first_row(item: parquet_rows.Packed, source: str) -> Document | Rejection:
        monkeypatch.undo()
        [busy] = readers()
        busy.kill()
        return parquet_rows.unpacked(item, source)

    process_apart.end_all()
    monkeypatch.setattr(parquet, "unpacked", killed_at_the_first_row)
    with pytest.raises(RuntimeError, match="was killed by SIGKILL; the machine may be"):
        read(tmp_path)
    assert outcomes(read(tmp_path)) == texts


def test_a_reader_killed_before_its_first_answer_fails_the_shard(tmp_path: Path) -> None:
    # Nobody writes to it: to open it takes for ever.
    os.mkfifo(tmp_path / "a.parquet")
    process_apart.end_all()
    killer = threading.Thread(target=kill_the_next_reader)
    killer.start()
    with pytest.raises(RuntimeError, match="was killed by SIGKILL"):
        list(process_apart.call("n_rows", tmp_path / "a.parquet", max_memory_bytes=1 << 30))
    killer.join()
    assert readers() == []


def test_a_reader_that_left_for_want_of_work_is_replaced(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["one"]}).write_parquet(tmp_path / "a.parquet")
    assert document(tmp_path).text == "one"
    [idle] = process_apart._idle
    assert idle._process.stdin is not None
    idle._process.stdin.close()
    deadline = time.monotonic() + 60
    while idle.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert document(tmp_path).text == "one"
    assert process_apart._idle != [idle]


def test_a_mistake_of_ours_is_no_rejection(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="AttributeError in the process apart") as caught:
        list(process_apart.call("n_rows", "no path", max_memory_bytes=1 << 30))
    assert "no path" not in str(caught.value)


def test_names_that_are_patterns_elsewhere_are_only_names(tmp_path: Path) -> None:
    names = ["^.*$", "*", "", "text.x", "embed_assets: bytes of the row "]
    pl.DataFrame({"text": ["a"], **{name: ["b"] for name in names}}).write_parquet(
        tmp_path / "a.parquet"
    )
    assert document(tmp_path).attributes == dict.fromkeys(names, "b")
    assert document(tmp_path, text_column="^.*$").text == "b"


def test_nothing_of_a_corrupt_file_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_with_flipped_bit(tmp_path / "a.parquet")
    assert outcomes(read(tmp_path)) == ["<unreadable Parquet>"]
    assert folder(tmp_path)
    assert capfd.readouterr() == ("", "")
