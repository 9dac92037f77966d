"""One bad shard in a run: the others go on without it, and it is left alone."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test
from deltalake import DeltaTable

from embed_assets import shard_stream
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration import ended_runs, file_sensor
from embed_assets.orchestration.partitions import range_tags
from embed_assets.outcome import Outcome
from embed_assets.settings import PipelineSettings
from embed_assets.shard_vectors import ShardVectors, publish_vectors
from embed_assets_tests.orchestration.conftest import Project
from embed_assets_tests.orchestration.ticking import Sensor, write


@pytest.fixture
def settings(settings: PipelineSettings) -> PipelineSettings:
    """All shards fit into one run."""
    return settings.model_copy(update={"shards_per_run": 10})


@pytest.fixture
def sensor(fresh: Project, corpus: Path) -> Sensor:
    for file in corpus.iterdir():
        write(file, file.read_text())
    return Sensor(fresh)


def spoil_reading(_: PipelineSettings, shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a shard cannot be read."""
    read = OpenedPipeline.read_shard

    def failing(pipeline: OpenedPipeline, asked: str) -> object:
        if asked == shard:
            raise InputError("these files are no good")
        return read(pipeline, asked)

    monkeypatch.setattr(OpenedPipeline, "read_shard", failing)


def spoil_vectors(_: PipelineSettings, shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model gives no numbers for a shard, which a blocking check refuses."""

    def publish(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
        if work.shard == shard:
            work.vectors[0] = float("nan")
        return publish_vectors(work, pipeline, force=force)

    monkeypatch.setattr(shard_stream, "publish_vectors", publish)


def spoil_documents(settings: PipelineSettings, shard: str) -> None:
    """A shard's documents are damaged on disk."""
    actions = DeltaTable(f"{settings.tables}/raw_corpus").get_add_actions(flatten=True)
    paths = dict(
        zip(actions["partition.shard"].to_pylist(), actions["path"].to_pylist(), strict=True)
    )
    (Path(settings.tables) / "raw_corpus" / paths[shard]).write_bytes(b"")


def assert_nothing_more_is_asked(sensor: Sensor, stage: str, bad: str) -> None:
    for _ in range(5):
        tick = sensor.tick()
        assert tick.runs == []
        assert f": 1 failed or were cancelled in {stage} ({bad}); " in tick.why


@pytest.mark.parametrize(
    ("stage", "spoil"), [("raw_corpus", spoil_reading), ("embeddings", spoil_vectors)]
)
def test_a_new_shard_that_fails_holds_the_others_back_for_one_look(
    sensor: Sensor,
    corpus: Path,
    stage: str,
    spoil: Callable[[PipelineSettings, str, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ((first, last),) = sensor.tick().runs
    a, b, c, d = sensor.project.shards
    assert (first, last) == (a, d)
    spoil(sensor.settings, b, monkeypatch)
    assert not sensor.project.run("embed", a, d).success

    tick = sensor.tick()
    # A range has no holes: two runs, and neither goes over the bad one.
    assert tick.runs == [(a, a), (c, d)]
    sensor.run(tick)
    assert sensor.project.materialized("quality_metrics") == {a, c, d}
    assert_nothing_more_is_asked(sensor, stage, b)

    monkeypatch.undo()
    write(corpus / "b.txt", "Mended now. " * 90)
    tick = sensor.tick()
    assert tick.runs == [(b, b)]
    sensor.run(tick)
    assert "all up to date" in sensor.tick().why


@pytest.mark.parametrize("forgets", [False, True], ids=["remembers", "forgets"])
def test_a_shard_with_damaged_documents_holds_the_others_back_for_one_look(
    sensor: Sensor, *, forgets: bool
) -> None:
    sensor.tick()
    sensor.project.run_stage("raw_corpus")
    a, b, _, d = sensor.project.shards
    spoil_documents(sensor.settings, a)
    sensor.cursor = None
    tick = sensor.tick()
    assert tick.runs == [(a, d)]
    assert not sensor.project.run("embed", a, d).success

    if forgets:
        # A cursor of another version, or one that a person has reset: it is tried once more.
        sensor.cursor = '{"asked": {"a": "0123456789"}}'
        tick = sensor.tick()
        assert tick.runs == [(a, a), (b, d)]
        assert not sensor.project.run("embed", a).success
        assert sensor.project.run("embed", b, d).success
    else:
        tick = sensor.tick()
        assert tick.runs == [(b, d)]
        assert tick.reasons == ["3 not done yet"]
        sensor.run(tick)
    assert_nothing_more_is_asked(sensor, "chunks", a)


def test_a_standing_shard_that_was_damaged_since_holds_its_neighbours_back_for_one_look(
    sensor: Sensor, corpus: Path
) -> None:
    a, b, c, _ = sensor.catch_up()
    table = OpenedPipeline(sensor.settings).tables.embeddings
    rows = table.read(b)
    zeros = pl.lit([0.0] * 32, dtype=pl.List(pl.Float32))
    table.publish(b, rows.with_columns(embedding=zeros), table.states()[b], rewrite=True)
    for name in "ac":
        write(corpus / f"{name}.txt", f"Changed, {name}. " * 70)
    tick = sensor.tick()
    assert tick.runs == [(a, c)]
    assert not sensor.project.run("embed", a, c).success
    # Not over b, which looks up to date and is not.
    tick = sensor.tick()
    assert tick.runs == [(a, a), (c, c)]
    sensor.run(tick)
    assert sensor.tick().runs == []


def stopped_run(sensor: Sensor, **tags: str) -> tuple[list[str], dg.DagsterRun]:
    """All shards read by a run that then stood still. Returns them, and that run."""
    (asked,) = sensor.tick().runs
    sensor.project.run_stage("raw_corpus")
    run = create_run_for_test(
        sensor.project.instance,
        job_name="notes_embed",
        status=dg.DagsterRunStatus.STARTED,
        tags={**range_tags(asked), **tags},
    )
    assert sensor.tick().runs == []
    return sensor.project.shards, run


def test_a_run_that_a_person_cancelled_is_left_alone(
    sensor: Sensor, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a, b, _, _), run = stopped_run(sensor)
    sensor.project.instance.report_run_canceled(run)
    tick = sensor.tick()
    assert tick.runs == []
    assert "4 failed or were cancelled in chunks" in tick.why

    # Known from now on, and not looked up again.
    def looked_up(*_: object) -> None:
        raise AssertionError("runs were read")

    monkeypatch.setattr(file_sensor, "ended_runs", looked_up)
    write(corpus / "b.txt", "Changed now. " * 90)
    assert sensor.tick().runs == [(b, b)]
    monkeypatch.undo()
    # A person takes it up again, and what comes further by that is finished.
    assert sensor.project.run("embed", b, b).success
    job = sensor.project.definitions.resolve_job_def("notes_embed")
    chunks = [dg.AssetKey(["notes", "chunks"])]
    assert job.execute_in_process(
        instance=sensor.project.instance, asset_selection=chunks, tags=range_tags((a, a))
    ).success
    assert sensor.tick().runs == [(a, a)]


def test_a_run_whose_worker_died_goes_on_when_dagster_has_given_up(sensor: Sensor) -> None:
    (a, _, _, d), run = stopped_run(sensor, **{WILL_RETRY_TAG: "true"})
    instance = sensor.project.instance
    instance.report_run_failed(run)
    # Dagster is about to start it again by itself.
    assert sensor.tick().runs == []
    again = create_run_for_test(
        instance,
        job_name="notes_embed",
        status=dg.DagsterRunStatus.STARTED,
        tags={**range_tags((a, d)), WILL_RETRY_TAG: "false"},
    )
    assert sensor.tick().runs == []
    instance.report_run_failed(again)
    tick = sensor.tick()
    assert tick.runs == [(a, d)]
    # And once more only if it comes further.
    third = create_run_for_test(
        instance,
        job_name="notes_embed",
        status=dg.DagsterRunStatus.STARTED,
        tags=range_tags((a, d)),
    )
    instance.report_run_failed(third)
    assert sensor.tick().runs == []


def test_more_failed_runs_than_can_be_read_at_once_are_read_at_the_next_look(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a, _, _, d), run = stopped_run(sensor)
    sensor.project.instance.report_run_failed(run)
    monkeypatch.setattr(ended_runs, "_MOST_FAILURES_READ", 0)
    assert sensor.tick().runs == []
    monkeypatch.undo()
    assert sensor.tick().runs == [(a, d)]


def test_runs_of_another_pipeline_say_nothing_of_these_shards(sensor: Sensor) -> None:
    (a, _, _, d), run = stopped_run(sensor)
    instance = sensor.project.instance
    instance.report_run_failed(run)
    for job in ("other_embed", "__ASSET_JOB"):
        create_run_for_test(
            instance,
            job_name=job,
            status=dg.DagsterRunStatus.CANCELED,
            tags=range_tags((a, d)),
            asset_selection=frozenset({dg.AssetKey(["other", "chunks"])}),
        )
    assert sensor.tick().runs == [(a, d)]


def test_a_stage_that_fails_as_a_whole_is_not_repeated(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((a, d),) = sensor.tick().runs
    sensor.project.run_stage("raw_corpus")

    def failing(_: OpenedPipeline) -> None:
        raise InputError("the model is gone")

    monkeypatch.setattr(OpenedPipeline, "prepare", failing)
    job = sensor.project.definitions.resolve_job_def("notes_embed")
    keys = [dg.AssetKey(["notes", stage]) for stage in ("chunks", "embeddings")]
    assert not job.execute_in_process(
        instance=sensor.project.instance,
        asset_selection=keys,
        tags=range_tags((a, d)),
        raise_on_error=False,
    ).success
    assert sensor.tick().runs == []
