"""Many processes on one table: every acknowledged commit is in the log, and no other."""

import time
from multiprocessing.queues import Queue
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from embed_assets.tables.delta import open_delta_tables
from embed_assets_tests.faults.processes import SERVER
from embed_assets_tests.tables.example_frames import metrics

N_WRITERS = 8


def write_for(
    root: str, shard: str, seconds: float, acknowledged: "Queue[tuple[str, int]]"
) -> None:
    table = open_delta_tables(root).quality_metrics
    deadline, n = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        table.publish(shard, metrics(shard, n + 1.0), table.states().get(shard))
        n += 1
    acknowledged.put((shard, n))


@pytest.mark.parametrize(
    "seconds", [3, pytest.param(30, marks=pytest.mark.soak)], ids=["quick", "soak"]
)
def test_acknowledged_commits_are_the_versions_of_the_table(tmp_path: Path, seconds: float) -> None:
    acknowledged: Queue[tuple[str, int]] = SERVER.Queue()
    writers = [
        SERVER.Process(target=write_for, args=(str(tmp_path), f"s-{n}", seconds, acknowledged))
        for n in range(N_WRITERS)
    ]
    for writer in writers:
        writer.start()
    n_commits = dict(acknowledged.get(timeout=120) for _ in writers)
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    table = DeltaTable(str(tmp_path / "quality_metrics"))
    log = tmp_path / "quality_metrics" / "_delta_log"
    n_creations = sum('"metaData"' in file.read_text() for file in log.glob("*.json"))
    assert sum(n_commits.values()) == table.version() + 1 - n_creations
    values = pl.read_delta(str(tmp_path / "quality_metrics")).filter(pl.col("metric") == "coverage")
    assert dict(values.select("shard", "value").iter_rows()) == n_commits
