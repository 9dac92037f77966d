"""A backfill as the UI launches it: GraphQL, the backfill daemon's own loop, real runs."""

import logging
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_webserver.webserver import DagsterWebserver
from starlette.testclient import TestClient

from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG, register_shards
from embed_assets.settings import PipelineSettings

LAUNCH = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


def finish(instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> PartitionBackfill:
    """Let the daemon's loop work until the backfill has an end."""
    for _ in range(20):
        list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
        (backfill,) = instance.get_backfills()
        if backfill.status.name.startswith(("COMPLETED", "FAILED")):
            return backfill
    raise AssertionError("the backfill did not end")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_backfill_from_the_ui_takes_shards_per_run_shards_to_a_process(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    code = tmp_path / "definitions.py"
    code.write_text(
        "from embed_assets import build_pipeline, load_settings\n"
        f"defs = build_pipeline(load_settings({settings.model_dump(exclude_unset=True)!r}))\n"
    )
    pipeline = OpenedPipeline(settings)
    pipeline.plan()
    target = PythonFileTarget(
        python_file=str(code), attribute=None, working_directory=None, location_name="here"
    )
    with (
        dg.instance_for_test(
            synchronous_run_launcher=True, synchronous_run_coordinator=True
        ) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        register_shards(instance, settings.name, pipeline.pieces)
        client = TestClient(DagsterWebserver(workspace).create_asgi_app())
        stages = ("raw_corpus", "chunks", "embeddings", "quality_metrics")
        params = {
            "partitionNames": sorted(pipeline.pieces),
            "assetSelection": [{"path": ["notes", stage]} for stage in stages],
        }
        reply = client.post(
            "/graphql", json={"query": LAUNCH, "variables": {"params": params}}
        ).json()
        assert reply["data"]["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess"

        assert finish(instance, workspace).status.name == "COMPLETED_SUCCESS"
        runs = instance.get_runs()
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert sorted((run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG]) for run in runs) == [
            ("shard-000000", "shard-000001"),
            ("shard-000002", "shard-000003"),
        ]

    rows = pl.scan_delta(f"{settings.tables}/embeddings").collect()
    assert rows["shard"].n_unique() == 4
    assert rows["chunk_id"].is_unique().all()
