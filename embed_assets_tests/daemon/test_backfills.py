"""Backfills through the real web server, daemon and code server, with a worker killed inside."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from embed_assets.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from embed_assets.staleness import STAGES
from embed_assets_tests.daemon.deployment import Deployment, deployed
from embed_assets_tests.daemon.processes import until
from embed_assets_tests.faults.truth import assert_as_undisturbed, assert_readable

pytestmark = pytest.mark.slow

N_SHARDS = 20


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Iterator[Deployment]:
    with deployed(
        tmp_path_factory.mktemp("project"), model=str(tiny_bert), shards_per_run=10
    ) as made:
        made.write(*(f"note-{i:02}" for i in range(N_SHARDS)))
        yield made


def test_a_backfill_survives_a_killed_worker_and_keeps_what_was_done(
    deployment: Deployment,
) -> None:
    graphql = deployment.graphql
    shards = deployment.list_corpus()
    assert len(shards) == N_SHARDS

    deployment.hold_next_run_at("embeddings", nth=6)
    backfill = graphql.launch_backfill(shards)
    worker = deployment.held_run()
    # The run goes on, and what it has finished shows already. Holding it stops the thread that
    # records what is published; the others go on with the four shards that are in work at most.
    shown = graphql.statuses("embeddings")["materialized"]
    done = deployment.files_by_shard("embeddings")
    assert shown
    assert shown == sorted(done)[: len(shown)]
    assert 5 <= len(done) <= len(shown) + 4 < N_SHARDS
    assert graphql.backfill_status(backfill) == "REQUESTED"
    assert_readable(deployment.settings.tables)
    os.kill(worker, signal.SIGKILL)

    assert graphql.wait_for_backfill(backfill) == "COMPLETED_SUCCESS"
    for stage in STAGES:
        assert graphql.statuses(stage)["materialized"] == sorted(shards)
    assert_as_undisturbed(deployment.settings)
    after = deployment.files_by_shard("embeddings")
    assert {shard: after[shard] for shard in done} == done, "finished shards were written again"
    assert {shard: len(files) for shard, files in after.items()} == dict.fromkeys(shards, 1)
    runs = graphql.runs()
    assert [run["status"] for run in runs].count("FAILURE") == 1
    # `shards_per_run` shards to a process, and the retry over the range that it retries.
    ranges = {(run["tags"].get(RANGE_START_TAG), run["tags"].get(RANGE_END_TAG)) for run in runs}
    assert ranges - {(None, None)} == {(shards[0], shards[9]), (shards[10], shards[19])}
    until(lambda: not graphql.claimed_slots(), "no run holds the device")
    rows = pl.read_delta(f"{deployment.settings.tables}/embeddings")
    assert rows["shard"].n_unique() == N_SHARDS
