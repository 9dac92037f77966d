"""Maintenance merges and deletes, and takes nothing away that anybody may still want."""

import json
import multiprocessing
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from embed_assets import frames
from embed_assets.checksums import is_complete, is_sound
from embed_assets.errors import NothingYet, SettingsError
from embed_assets.tables import delta_files, maintenance, old_files
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.delta_files import WRITER
from embed_assets.tables.durable import writing_files
from embed_assets.tables.maintenance import Maintained, maintain
from embed_assets.tables.table import CheckpointKey
from embed_assets_tests.tables.example_frames import (
    EXAMPLES,
    INSTANT,
    checkpoint,
    manifest,
    metrics,
)

UUID = "12345678-1234-1234-1234-123456789abc"
DATA = f"part-00000-{UUID}-c000.zstd.parquet"


def done(root: Path, table: str, days: int = 7) -> Maintained:
    return next(found for found in maintain(str(root), days) if found.table == table)


def untouched(root: Path, days: int = 7) -> list[Maintained]:
    """What maintenance says where there is nothing to do."""
    return [Maintained(found.table) for found in maintain(str(root), days)]


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def age(root: Path, days: float) -> None:
    """As if everything there had been written some days earlier."""
    for commit in root.glob("*/_delta_log/*.json"):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in (value for entry in actions for value in entry.values()):
            for name in ("timestamp", "modificationTime", "deletionTimestamp"):
                if name in action:
                    action[name] -= int(days * 86_400_000)
        commit.write_text("\n".join(map(json.dumps, actions)))
    for path in files(root):
        make_old(path, days)


def make_old(path: Path, days: float) -> Path:
    written = path.stat().st_mtime - days * 86_400
    os.utime(path, (written, written))
    return path


def put(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 100)
    return make_old(path, days)


def test_many_small_checkpoints_become_one_file_with_the_same_rows(tmp_path: Path) -> None:
    table = open_delta_tables(str(tmp_path)).checkpoints
    for n in range(12):
        table.add(checkpoint(n, "s"))
        table.add(checkpoint(n, "t", f"f{n % 2}"))
    keys = [CheckpointKey("s", "f1"), CheckpointKey("t", "f0"), CheckpointKey("t", "f1")]
    before = [table.read(key).sort("text_hash") for key in keys]
    assert done(tmp_path, "checkpoints") == Maintained("checkpoints", n_compacted=24)
    assert len(DeltaTable(table.uri).file_uris()) == 3
    after = [table.read(key).sort("text_hash") for key in keys]
    assert all(a.equals(b) for a, b in zip(after, before, strict=True))
    assert all(is_sound(rows).all() for rows in after)
    assert maintain(str(tmp_path), 7) == untouched(tmp_path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_compacted_shard_is_sound_complete_and_in_the_same_state(
    tmp_path: Path, name: str
) -> None:
    table = open_delta_tables(str(tmp_path)).by_shard[name]
    # Made of several files as a big shard is, or one that another Delta writer has rewritten.
    frame = EXAMPLES[name]("s")
    table.publish("s", frame, None)
    table.publish("other", EXAMPLES[name]("other"), None)
    state = table.states()["s"]
    half = frame.height // 2
    write_deltalake(table.uri, frame[half:], mode="overwrite", predicate="shard = 's'")
    write_deltalake(table.uri, frame[:half], mode="append", writer_properties=WRITER)
    n_files = len(DeltaTable(table.uri).file_uris())
    other = table.read("other")

    expected = 2 if n_files == 3 else 0
    assert done(tmp_path, name) == Maintained(name, n_compacted=expected)
    assert len(DeltaTable(table.uri).file_uris()) == 2
    rows = table.read("s")
    assert is_sound(rows).all()
    assert is_complete(rows)
    assert rows.sort("checksum").equals(frame.sort("checksum"))
    assert table.states()["s"].versions == state.versions
    assert table.read("other").equals(other)
    version = DeltaTable(table.uri).version()
    # A run that saw the shard before goes on as if nothing had happened.
    table.publish("s", frame, state)
    assert DeltaTable(table.uri).version() == version
    table.publish("s", frame, state, rewrite=True)
    assert table.read("s").equals(frame)


def many_metrics(shard: str, seed: int) -> pl.DataFrame:
    found = {f"metric-{i}": float(seed) for i in range(3000)}
    return frames.quality_metrics_frame(shard, found, "f1", INSTANT, f"i{seed}")


def _publish_for(root: str, shard: str, seconds: float, start: Any, results: Any) -> None:  # noqa: ANN401
    """Publish one result after the other, and add checkpoints; tells what was acknowledged."""
    # Several files at a time, as for a big shard, so that there is something to compact.
    vars(delta_files)["write_deltalake"] = partial(write_deltalake, target_file_size=1000)
    tables = open_delta_tables(root)
    table, n = tables.quality_metrics, 0
    start.wait(60)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        n += 1
        table.publish(shard, many_metrics(shard, n), table.states().get(shard))
        tables.checkpoints.add(checkpoint(n, shard))
    results[shard] = n


def test_no_publish_is_lost_while_maintenance_runs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    shards, n_compacted = ["s", "t"], 0
    with context.Manager() as manager:
        start, results = manager.Barrier(len(shards) + 1), manager.dict()
        processes = [
            context.Process(target=_publish_for, args=(str(tmp_path), shard, 4.0, start, results))
            for shard in shards
        ]
        for process in processes:
            process.start()
        start.wait(60)
        while not (tmp_path / "checkpoints" / "_delta_log").is_dir():
            time.sleep(0.05)
        while any(process.is_alive() for process in processes):
            for found in maintain(str(tmp_path), 7):
                assert found.failures == ()
                n_compacted += found.n_compacted
        for process in processes:
            process.join()
        acknowledged = dict(results)
    assert [process.exitcode for process in processes] == [0, 0]
    assert n_compacted > 0
    tables = open_delta_tables(str(tmp_path))
    for shard, n in acknowledged.items():
        rows = tables.quality_metrics.read(shard)
        assert rows.sort("metric").equals(many_metrics(shard, n).sort("metric"))
        kept = tables.checkpoints.read(CheckpointKey(shard, "f1"))
        assert kept["text_hash"].n_unique() == kept.height == 3 * n
        assert is_sound(kept).all()


def test_a_shard_that_is_being_published_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_delta_tables(str(tmp_path)).checkpoints
    for n in range(4):
        table.add(checkpoint(n, f"s{n % 2}"))

    def meanwhile(**options: Any) -> CommitProperties:  # noqa: ANN401
        monkeypatch.setattr(maintenance, "CommitProperties", CommitProperties)
        table.clear(CheckpointKey("s0", "f1"))
        return CommitProperties(**options)

    monkeypatch.setattr(maintenance, "CommitProperties", meanwhile)
    assert done(tmp_path, "checkpoints") == Maintained(
        "checkpoints",
        n_compacted=2,
        skipped=("s0 is not compacted: a run was publishing it",),
    )
    assert table.keys().keys() == {CheckpointKey("s1", "f1")}


def test_a_damaged_shard_is_named_and_stops_no_other(tmp_path: Path) -> None:
    table = open_delta_tables(str(tmp_path)).checkpoints
    for n in range(4):
        table.add(checkpoint(n, f"s{n % 2}"))
    next(tmp_path.glob("checkpoints/shard=s0/*/*.parquet")).write_bytes(b"")
    found = done(tmp_path, "checkpoints")
    assert found.n_compacted == 2
    assert [failure[:22] for failure in found.failures] == ["s0 is not compacted: t"]


def test_a_table_that_cannot_be_opened_stops_no_other(tmp_path: Path) -> None:
    tables = open_delta_tables(str(tmp_path))
    tables.quality_metrics.publish("s", metrics("s"), None)
    for n in range(2):
        tables.checkpoints.add(checkpoint(n))
    next(tmp_path.glob("quality_metrics/_delta_log/*0.json")).write_text("{")
    assert "cannot be opened" in done(tmp_path, "quality_metrics").failures[0]
    assert len(DeltaTable(tables.checkpoints.uri).file_uris()) == 1


def test_old_files_go_and_all_others_stay(tmp_path: Path) -> None:
    table = open_delta_tables(str(tmp_path)).quality_metrics
    for value in (1.0, 2.0):
        table.publish("s", metrics("s", value), table.states().get("s"))
    age(tmp_path, 9)
    root = tmp_path / "quality_metrics"
    before = files(root)
    (standing,) = [Path(file) for file in DeltaTable(str(root)).file_uris()]
    (expired,) = set(root.glob("shard=s/*.parquet")) - {standing}
    table.publish("s", metrics("s", 3.0), table.states()["s"])

    leftovers = {
        put(root / "shard=s" / DATA, 8),
        put(root / "shard=never" / DATA, 8),
        put(root / "shard=s" / f"{DATA}#1", 8),
        put(root / "_delta_log" / f"{7:020}.json#1", 8),
        put(root / "_delta_log" / f"_commit_{UUID}.json.tmp", 8),
    }
    others = {
        put(root / "shard=s" / DATA.replace("part-00000", "part-00001"), 6.9),
        put(root / "shard=s" / f"{DATA}#2", 6.9),
        put(root / "_delta_log" / f"{8:020}.json#1", 6.9),
        put(root / "shard=s" / "mine.parquet", 99),
        put(root / "notes.txt", 99),
        put(root / "part.parquet", 99),
        put(root / "_delta_log" / "notes#1", 99),
        put(tmp_path / "quality_report" / "norms.png", 99),
        put(tmp_path / DATA, 99),
    }
    found = done(tmp_path, "quality_metrics")
    assert (found.n_expired, found.n_leftovers, found.skipped) == (1, 5, ())
    assert found.n_bytes_freed is not None
    assert found.n_bytes_freed > 500
    assert not leftovers & files(tmp_path)
    assert others <= files(tmp_path)
    # Also the version before, which a slow reader may still have open.
    assert before - files(tmp_path) == {expired}
    assert table.read("s").equals(metrics("s", 3.0))
    assert maintain(str(tmp_path), 7) == untouched(tmp_path)


def test_a_longer_retention_keeps_more(tmp_path: Path) -> None:
    table = open_delta_tables(str(tmp_path)).quality_metrics
    for value in (1.0, 2.0):
        table.publish("s", metrics("s", value), table.states().get("s"))
    put(tmp_path / "quality_metrics" / "shard=s" / DATA, 0)
    age(tmp_path, 20)
    assert maintain(str(tmp_path), 21) == untouched(tmp_path, 21)
    found = done(tmp_path, "quality_metrics", 19)
    assert (found.n_expired, found.n_leftovers) == (1, 1)


def test_a_file_about_to_be_committed_is_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop that slept for a week: the run wakes up in the middle of its commit."""
    monkeypatch.setattr(maintenance, "_WAIT_SECONDS", 0.1)
    table = open_delta_tables(str(tmp_path)).quality_metrics
    table.publish("s", metrics("s"), None)
    written = put(tmp_path / "quality_metrics" / "shard=s" / DATA, 9)
    with writing_files(table.uri):
        found = done(tmp_path, "quality_metrics")
    assert found.skipped == ("1 leftovers stay: somebody was writing all the time",)
    assert written.exists()
    assert done(tmp_path, "quality_metrics").n_leftovers == 1


def test_old_checkpoints_are_dropped_and_young_ones_kept(tmp_path: Path) -> None:
    table = open_delta_tables(str(tmp_path)).checkpoints
    for n in range(3):
        table.add(checkpoint(n, "old"))
        table.add(checkpoint(n, "young"))
    age(tmp_path, 8)
    table.add(checkpoint(9, "young"))
    found = done(tmp_path, "checkpoints")
    assert (found.n_checkpoint_rows, found.n_compacted) == (9, 4)
    assert table.keys().keys() == {CheckpointKey("young", "f1")}
    assert table.read(CheckpointKey("young", "f1")).height == 12


def test_a_run_does_not_take_maintenance_for_another_run(tmp_path: Path) -> None:
    """The version of a whole table says whether somebody replaced it."""
    table = open_delta_tables(str(tmp_path)).manifest
    for name in "abc":
        table.replace(manifest(name), table.read(), 1)
    put(tmp_path / "shards" / DATA, 0)
    age(tmp_path, 8)
    seen = table.read()
    found = done(tmp_path, "shards")
    assert (found.n_expired, found.n_leftovers, found.n_compacted) == (2, 1, 0)
    table.replace(manifest("d"), seen, 2)
    assert table.read().frame.equals(manifest("d"))


def test_in_an_object_store_only_what_the_log_has_removed_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (maintenance, old_files):
        monkeypatch.setattr(module, "local_path", lambda uri: None)
    tables = open_delta_tables(str(tmp_path))
    for value in (1.0, 2.0):
        state = tables.quality_metrics.states().get("s")
        tables.quality_metrics.publish("s", metrics("s", value), state)
        tables.manifest.replace(manifest(f"{value}"), tables.manifest.read(), 1)
    leftover = put(tmp_path / "quality_metrics" / "shard=s" / DATA, 0)
    age(tmp_path, 8)
    n_files = len(list(tmp_path.rglob("*.parquet")))
    found = done(tmp_path, "quality_metrics")
    assert (found.n_expired, found.n_bytes_freed) == (1, None)
    assert found.skipped == ("1 leftovers stay: an object store cannot be locked",)
    assert leftover.exists()
    assert len(list(tmp_path.rglob("*.parquet"))) == n_files - 1
    assert "1 old files stay" in done(tmp_path, "shards").skipped[0]


def test_somebody_elses_table_is_left_alone(tmp_path: Path) -> None:
    for _ in range(3):
        write_deltalake(str(tmp_path / "chunks"), pl.DataFrame({"x": [1]}), mode="append")
    before = files(tmp_path)
    found = done(tmp_path, "chunks")
    assert found.skipped == ("it is not partitioned as ours are: left alone",)
    assert files(tmp_path) == before


def test_a_retention_of_less_than_a_week_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="retention_days 6 is less than 7"):
        maintain(str(tmp_path), 6)


def test_a_folder_without_tables_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(NothingYet, match="there are no tables under"):
        maintain(str(tmp_path), 7)
    assert list(tmp_path.iterdir()) == []
