from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG

from embed_assets import pipeline, shard_stream
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration import shard_asset
from embed_assets.orchestration.build import build_pipeline
from embed_assets.outcome import Outcome
from embed_assets.settings import PipelineSettings
from embed_assets.shard_vectors import ShardVectors, publish_vectors
from embed_assets_tests.orchestration.conftest import Project

STAGES = ["raw_corpus", "chunks", "embeddings", "quality_metrics"]


def test_a_range_of_shards_goes_through_all_stages_in_one_run(project: Project) -> None:
    first, *_, last = project.shards
    assert project.run("embed", first, last).success
    for stage in STAGES:
        assert project.materialized(stage) == set(project.shards)
    rows = pl.scan_delta(f"{project.settings.tables}/embeddings").collect()
    assert rows["shard"].n_unique() == 4
    assert rows["chunk_id"].is_unique().all()


def test_every_shard_event_carries_its_numbers(project: Project) -> None:
    first, *_, last = project.shards
    project.run("embed", first, last)
    key = dg.AssetKey(["notes", "embeddings"])
    for shard in project.shards:
        records = project.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[shard]), limit=1
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        metadata = materialization.metadata
        assert float(str(metadata["dagster/partition_row_count"].value)) > 0
        assert float(str(metadata["tokens_per_second"].value)) > 0


def test_a_crash_in_the_middle_keeps_the_shards_before_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = project.shards[2]

    def crashing(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
        if work.shard == third:
            raise SystemExit  # Not an Exception: as if the process went down.
        return publish_vectors(work, pipeline, force=force)

    monkeypatch.setattr(shard_stream, "publish_vectors", crashing)
    assert not project.run("embed", project.shards[0], project.shards[-1]).success
    assert project.materialized("embeddings") == set(project.shards[:2])

    monkeypatch.setattr(shard_stream, "publish_vectors", publish_vectors)
    before = OpenedPipeline(project.settings).tables.embeddings.states()
    assert project.run("embed", project.shards[0], project.shards[-1]).success
    after = OpenedPipeline(project.settings).tables.embeddings.states()
    assert set(after) == set(project.shards)
    assert all(after[shard] == state for shard, state in before.items())


def test_one_bad_shard_fails_with_its_reason_and_stops_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = project.shards[1]

    def failing(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
        if work.shard == bad:
            raise InputError("these vectors are no good")
        return publish_vectors(work, pipeline, force=force)

    monkeypatch.setattr(shard_stream, "publish_vectors", failing)
    result = project.run("embed", project.shards[0], project.shards[-1])
    assert not result.success
    assert project.materialized("embeddings") == set(project.shards) - {bad}
    failures = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    reasons = failures[0].user_failure_data.metadata  # type: ignore[union-attr]
    assert reasons[bad].value == "these vectors are no good"
    # The input's fault: no retry would help.
    assert not any(e.event_type_value == "STEP_UP_FOR_RETRY" for e in result.all_events)


def event_types(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.event_type_value for event in result.all_events]


def test_an_error_that_may_pass_is_tried_again_in_the_same_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_tried, chunk = 0, pipeline.chunk_shard

    def once_broken(shard: str, **arguments: Any) -> Outcome:  # noqa: ANN401
        nonlocal n_tried
        n_tried += 1
        if n_tried == 1:
            raise ConnectionError("the store did not answer")
        return chunk(shard, **arguments)

    monkeypatch.setattr(shard_asset, "_RETRIES", dg.RetryPolicy(max_retries=1))
    monkeypatch.setattr(pipeline, "chunk_shard", once_broken)
    project.definitions = build_pipeline(project.settings)
    result = project.run("embed", project.shards[0])
    assert result.success
    assert "STEP_RESTARTED" in event_types(result)
    assert project.materialized("chunks") == {project.shards[0]}


@pytest.mark.parametrize("place", ["chunk_shard", "prepare"])
def test_a_run_that_is_stopped_is_left_to_the_daemon(
    project: Project, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Tried again in this process it would begin anew where everything is being shut down."""

    def stopped(*_: object, **__: object) -> None:
        raise DagsterExecutionInterruptedError

    monkeypatch.setattr(pipeline if place == "chunk_shard" else OpenedPipeline, place, stopped)
    project.definitions = build_pipeline(project.settings)
    result = project.run("embed", project.shards[0])
    assert "STEP_UP_FOR_RETRY" not in event_types(result)
    run = project.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    # What the daemon runs again, unlike a step that failed.
    assert run.tags[RUN_FAILURE_REASON_TAG] == "UNEXPECTED_TERMINATION"


def test_checks_are_reported_for_a_range(project: Project) -> None:
    result = project.run("embed", project.shards[0], project.shards[-1])
    checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert {"one_vector_per_chunk", "vectors_finite", "norms_right", "one_fingerprint"} <= set(
        checks
    )
    assert all(check.passed for name, check in checks.items() if name in BLOCKING)
    assert checks["vectors_finite"].metadata["shards_checked"].value == 4


BLOCKING = {
    "one_vector_per_chunk",
    "vectors_finite",
    "norms_right",
    "one_dimension",
    "one_fingerprint",
}


def test_damaged_vectors_fail_a_blocking_check_and_stop_the_metrics(project: Project) -> None:
    project.run("embed", project.shards[0], project.shards[-1])
    table = OpenedPipeline(project.settings).tables.embeddings
    shard = project.shards[0]
    rows = table.read(shard)
    zeroed = rows.with_columns(
        embedding=pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit([0.0] * 32, dtype=pl.List(pl.Float32)))
        .otherwise(pl.col("embedding"))
    )
    table.publish(shard, zeroed, table.states()[shard], rewrite=True)

    result = project.run("embed", shard)
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert [e.check_name for e in failed] == ["norms_right", "rows_as_written"]
    assert rows["chunk_id"][0] in str(failed[0].metadata["failed"].value)
    ran = {e.step_key for e in result.all_events if e.is_step_success}
    assert "notes__quality_metrics" not in ran


def test_the_report_shows_its_pictures_and_writes_them_beside_the_tables(
    project: Project,
) -> None:
    project.run("embed", project.shards[0], project.shards[-1])
    assert project.run("report").success
    event = project.instance.get_latest_materialization_event(
        dg.AssetKey(["notes", "quality_report"])
    )
    assert event is not None
    assert event.asset_materialization is not None
    markdown = str(event.asset_materialization.metadata["report"].value)
    assert markdown.count("data:image/png;base64,") >= 4
    assert "File a says" not in markdown
    pictures = sorted((Path(project.settings.tables) / "quality_report").glob("*.png"))
    assert len(pictures) >= 4
    assert all(picture.stat().st_size < 100_000 for picture in pictures)


def report_of(project: Project) -> str:
    """What the report says, which must not fail."""
    assert project.run("report").success
    key = dg.AssetKey(["notes", "quality_report"])
    event = project.instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    return str(event.asset_materialization.metadata["report"].value)


def test_the_nightly_report_of_nothing_alarms_nobody(fresh: Project, corpus: Path) -> None:
    assert report_of(fresh).startswith("Nothing is embedded yet: ")
    # No document in any file.
    for file in corpus.iterdir():
        file.write_text("")
    assert fresh.run("shards").success
    assert report_of(fresh).startswith("Nothing is embedded yet: ")
    assert fresh.run("embed", fresh.shards[0], fresh.shards[-1]).success
    assert report_of(fresh).startswith("Nothing is embedded yet: ")


def test_the_nightly_report_waits_for_a_new_model(project: Project) -> None:
    assert project.run("embed", project.shards[0], project.shards[-1]).success
    changed = project.settings.model_copy(update={"normalize": True})
    told = report_of(Project(changed, project.instance))
    assert "no vectors of the current model and settings yet" in told


def test_two_pipelines_live_side_by_side(settings: PipelineSettings) -> None:
    other = settings.model_copy(update={"name": "other"})
    merged = dg.Definitions.merge(build_pipeline(settings), build_pipeline(other))
    dg.Definitions.validate_loadable(merged)
    keys = {key.to_user_string() for key in merged.resolve_all_asset_keys()}
    assert {"notes/embeddings", "other/embeddings", "notes/shards", "other/quality_report"} <= keys


@pytest.mark.parametrize("stage", STAGES)
def test_every_asset_says_what_it_is(settings: PipelineSettings, stage: str) -> None:
    assets = build_pipeline(settings).resolve_all_asset_specs()
    spec = next(s for s in assets if s.key == dg.AssetKey(["notes", stage]))
    assert spec.description
    assert spec.group_name == "notes"
    assert "deltalake" in spec.kinds
    assert spec.metadata["dagster/uri"].text == f"{settings.tables}/{stage}"
    columns = spec.metadata["dagster/column_schema"].schema.columns
    assert {"shard", "input_version"} <= {column.name for column in columns}


def test_partitions_and_backfill_policy_let_one_process_take_many_shards(
    settings: PipelineSettings,
) -> None:
    graph = build_pipeline(settings).resolve_asset_graph()
    nodes = [graph.get(dg.AssetKey(["notes", stage])) for stage in STAGES]
    assert {node.backfill_policy for node in nodes} == {dg.BackfillPolicy.multi_run(2)}
    assert {node.partitions_def for node in nodes} == {
        dg.DynamicPartitionsDefinition(name="notes_shards")
    }
    assert nodes[2].pools == {"gpu"}


def test_tuning_is_an_asset_of_its_own_with_a_picture(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _name: str(tmp_path / "cache"))
    project.run("embed", project.shards[0], project.shards[-1])
    definitions = build_pipeline(project.settings)
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=project.instance,
        asset_selection=[dg.AssetKey(["notes", "batch_tuning"])],
        run_config={"ops": {"notes__batch_tuning": {"config": {"seconds": 0.2}}}},
    )
    assert result.success
    (made,) = result.asset_materializations_for_node("notes__batch_tuning")
    assert int(str(made.metadata["max_tokens_per_batch"].value)) >= 256
    assert "data:image/png;base64," in str(made.metadata["report"].value)
    assert (tmp_path / "cache" / "token_budgets.json").is_file()
