"""Ticks of the sensor over a changing folder, with an instance that holds runs and backfills."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import BasicLoadingContext, create_run_for_test, freeze_time

from embed_assets import shard_stream
from embed_assets.errors import InputError, SettingsError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.partitions import range_tags
from embed_assets.outcome import Outcome
from embed_assets.settings import PipelineSettings
from embed_assets.shard_vectors import ShardVectors, publish_vectors
from embed_assets_tests.orchestration.conftest import Project
from embed_assets_tests.orchestration.ticking import Sensor, write

STAGES = ("raw_corpus", "chunks", "embeddings", "quality_metrics")


@pytest.fixture
def sensor(fresh: Project, corpus: Path) -> Sensor:
    """The sensor before its first look, over files that nobody has written to for long."""
    for file in corpus.iterdir():
        write(file, file.read_text())
    return Sensor(fresh)


def test_the_first_look_registers_all_shards_and_asks_for_runs_of_shards_per_run(
    sensor: Sensor,
) -> None:
    tick = sensor.tick()
    a, b, c, d = tick.added
    assert tick.runs == [(a, b), (c, d)]
    assert tick.reasons == ["2 new", "2 new"]


def test_files_that_come_change_and_go_move_only_their_own_shards(
    sensor: Sensor, corpus: Path
) -> None:
    a, b, c, d = sensor.catch_up()
    write(corpus / "b.txt", "Something else altogether. " * 40)
    write(corpus / "e.txt", "A new file has arrived here. " * 40)
    (corpus / "d.txt").unlink()
    tick = sensor.tick()
    assert tick.deleted == [d]
    (e,) = tick.added
    # One run: c is up to date, and going over it is cheaper than another run.
    assert tick.runs == [(b, e)]
    assert tick.reasons == ["1 changed files or reading, 1 new"]
    assert tick.observed == [b]
    sensor.run(tick)
    assert sensor.tick().runs == []
    assert sensor.project.shards == [a, b, c, e]


def test_a_file_that_is_being_written_waits_until_it_stands_still(
    sensor: Sensor, corpus: Path
) -> None:
    _, b, _, _ = sensor.catch_up()
    before = OpenedPipeline(sensor.settings).tables.raw_corpus.read(b)["text"].item()
    for n in (20, 30, 40):
        write(corpus / "b.txt", "It grows. " * n, sensor.now + 55)
        tick = sensor.tick()
        assert tick.runs == []
        assert "still being written" in tick.why
    assert OpenedPipeline(sensor.settings).tables.raw_corpus.read(b)["text"].item() == before

    tick = sensor.tick()
    assert tick.runs == [(b, b)]
    sensor.run(tick)
    after = OpenedPipeline(sensor.settings).tables.raw_corpus.read(b)["text"].item()
    assert after.strip() == ("It grows. " * 40).strip()


def test_a_new_file_that_is_half_written_has_no_shard_yet(sensor: Sensor, corpus: Path) -> None:
    sensor.catch_up()
    write(corpus / "e.txt", "Half of it. " * 40, sensor.now + 59)
    assert sensor.tick().added == []
    write(corpus / "e.txt", "Half of it. " * 90, sensor.now + 59)
    assert sensor.tick().added == []
    assert len(sensor.tick().added) == 1


def test_a_shard_with_a_file_that_moves_is_not_run_for_another_file(
    sensor: Sensor, corpus: Path
) -> None:
    settings = sensor.settings.model_copy(update={"shard_bytes": 1 << 20})
    one = Sensor(Project(settings, sensor.project.instance))
    (shard,) = one.catch_up()
    write(corpus / "a.txt", "Finished. " * 40)
    write(corpus / "b.txt", "Not finished. " * 40, one.now + 59)
    assert one.tick().runs == []
    assert one.tick().runs == [(shard, shard)]


def test_a_file_from_a_clock_in_the_future_is_taken_when_two_looks_find_it_the_same(
    sensor: Sensor, corpus: Path
) -> None:
    sensor.catch_up()
    write(corpus / "e.txt", "From the future. " * 40, sensor.now + 1e6)
    assert sensor.tick().runs == []
    assert len(sensor.tick().runs) == 1


def test_a_file_that_never_stands_still_is_taken_after_a_quarter_of_an_hour(
    sensor: Sensor, corpus: Path
) -> None:
    sensor.catch_up()
    looks = 0
    while True:
        looks += 1
        write(corpus / "log.txt", "A line of a log. " * (60 + looks), sensor.now + 55)
        if sensor.tick().runs:
            break
        assert looks < 30
    assert looks == 16


def test_nobody_waits_where_a_person_asks(project: Project, corpus: Path) -> None:
    (corpus / "e.txt").write_text("Written just now. " * 90)
    assert project.run("shards").success
    assert len(project.shards) == 5


def test_a_file_that_was_deleted_is_gone_at_once_and_comes_back_as_a_new_one(
    sensor: Sensor, corpus: Path
) -> None:
    _, b, _, _ = sensor.catch_up()
    text = (corpus / "b.txt").read_text()
    (corpus / "b.txt").unlink()
    assert sensor.tick().deleted == [b]
    write(corpus / "b.txt", text)
    tick = sensor.tick()
    assert len(tick.added) == 1
    assert tick.added != [b]


def test_stale_shards_with_holes_between_them_make_few_runs(sensor: Sensor, corpus: Path) -> None:
    for name in "efgh":
        write(corpus / f"{name}.txt", f"One more file, {name}. " * 60)
    shards = sensor.catch_up()
    for name in "aceg":
        write(corpus / f"{name}.txt", f"Changed, {name}. " * 70)
    assert sensor.tick().runs == [(shards[0], shards[2]), (shards[4], shards[6])]


@pytest.mark.parametrize("status", ["NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING"])
@pytest.mark.parametrize("job", ["notes_embed", "__ASSET_JOB"])
def test_what_runs_already_is_left_alone_until_it_ends(
    sensor: Sensor, status: str, job: str
) -> None:
    a, b, c, d = sensor.project.shards or sensor.tick().added
    sensor.cursor = None
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="here")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), job)

    def going_on(tags: dict[str, str]) -> dg.DagsterRun:
        made: dg.DagsterRun = create_run_for_test(
            sensor.project.instance,
            job_name=job,
            status=dg.DagsterRunStatus(status),
            tags=tags,
            asset_selection=frozenset({dg.AssetKey(["notes", "chunks"])}),
            remote_job_origin=origin,
        )
        return made

    run = going_on(range_tags((a, b)))
    going_on({"dagster/partition": d})
    assert sensor.tick().runs == [(c, c)]
    assert sensor.tick().runs == []
    sensor.project.instance.report_run_canceled(run)
    # The sensor had not asked for these itself: somebody else's run did not make them.
    assert sensor.tick().runs == [(a, b)]


def test_runs_of_another_pipeline_are_nobodys_business_here(sensor: Sensor) -> None:
    a, b, c, d = sensor.tick().added
    sensor.cursor = None
    create_run_for_test(
        sensor.project.instance,
        job_name="__ASSET_JOB",
        status=dg.DagsterRunStatus.STARTED,
        tags=range_tags((a, d)),
        asset_selection=frozenset({dg.AssetKey(["other", "chunks"])}),
    )
    assert sensor.tick().runs == [(a, b), (c, d)]


def test_shards_of_a_backfill_are_left_alone_before_its_runs_are_queued(sensor: Sensor) -> None:
    a, b, c, d = sensor.tick().added
    sensor.cursor = None
    instance = sensor.project.instance
    subset = AssetGraphSubset.from_asset_partition_set(
        {
            AssetKeyPartitionKey(dg.AssetKey(["notes", stage]), shard)
            for stage in STAGES
            for shard in (a, b, c)
        },
        sensor.project.definitions.resolve_asset_graph(),
    )
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id="byhand",
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        asset_graph_subset=subset,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    assert sensor.tick().runs == [(d, d)]
    instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))
    assert sensor.tick().runs == [(a, b), (c, c)]


def test_what_failed_or_was_cancelled_is_asked_for_again_when_it_changes_and_not_before(
    sensor: Sensor, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a, b), (c, d) = sensor.tick().runs

    def failing(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
        if work.shard == b:
            raise InputError("these vectors are no good")
        return publish_vectors(work, pipeline, force=force)

    monkeypatch.setattr(shard_stream, "publish_vectors", failing)
    assert not sensor.project.run("embed", a, b).success
    # Of c and d the run was cancelled before it began.
    create_run_for_test(
        sensor.project.instance,
        job_name="notes_embed",
        status=dg.DagsterRunStatus.CANCELED,
        tags=range_tags((c, d)),
    )
    # b held a back, which has its vectors.
    tick = sensor.tick()
    assert tick.runs == [(a, a)]
    sensor.run(tick)
    for _ in range(3):
        tick = sensor.tick()
        assert tick.runs == []
    assert f"1 failed or were cancelled in embeddings ({b})" in tick.why
    assert f"2 failed or were cancelled in raw_corpus ({c}, {d})" in tick.why

    # A neighbour that changes does not bring b back.
    write(corpus / "a.txt", "Changed now. " * 90)
    assert sensor.tick().runs == [(a, a)]
    monkeypatch.undo()
    write(corpus / "b.txt", "Changed now, too. " * 90)
    assert sensor.tick().runs == [(b, b)]
    assert sensor.project.run("embed", a, d).success
    assert "all up to date" in sensor.tick().why


def test_resetting_the_cursor_asks_for_what_failed_again(sensor: Sensor) -> None:
    runs = sensor.tick().runs
    assert sensor.tick().runs == []
    sensor.cursor = None
    assert sensor.tick().runs == runs


def test_a_change_while_its_shard_runs_is_seen_when_the_run_has_ended(
    sensor: Sensor, corpus: Path
) -> None:
    a, *_ = sensor.catch_up()
    write(corpus / "a.txt", "First change. " * 90)
    assert sensor.tick().runs == [(a, a)]
    run = create_run_for_test(
        sensor.project.instance,
        job_name="notes_embed",
        status=dg.DagsterRunStatus.STARTED,
        tags=range_tags((a, a)),
    )
    write(corpus / "a.txt", "Second change. " * 90)
    assert sensor.tick().runs == []
    sensor.project.instance.report_run_failed(run)
    assert sensor.tick().runs == [(a, a)]


def test_settings_that_make_shards_stale_wait_for_a_person(sensor: Sensor, corpus: Path) -> None:
    a, *_ = sensor.catch_up()
    sensor.settings = sensor.settings.model_copy(update={"max_tokens": 32})
    tick = sensor.tick()
    assert tick.runs == []
    assert "4 are outdated by settings" in tick.why
    assert "max_tokens default -> 32" in tick.why
    # A file that changes is run, under the settings of now, and brings no neighbour with it.
    write(corpus / "a.txt", "Changed now. " * 90)
    assert sensor.tick().runs == [(a, a)]


def test_a_look_at_nothing_new_tells_dagster_a_few_times_a_day(sensor: Sensor) -> None:
    assert sensor.tick().looks == 1
    sensor.catch_up()
    assert sum(sensor.tick(3600).looks for _ in range(36)) == 4


def test_the_cursor_stays_small_while_thousands_of_files_move(sensor: Sensor, corpus: Path) -> None:
    for n in range(3000):
        write(corpus / f"new-{n}.txt", f"File {n}.", sensor.now + 60)
    tick = sensor.tick()
    assert len(tick.added) == 4
    assert len(sensor.cursor or "") < 100_000
    # All stand still at the second look, remembered one by one or not.
    assert len(sensor.tick().added) > 10
    assert "still being written" not in sensor.tick().why


def test_a_corpus_that_is_gone_fails_the_tick_and_deletes_nothing(
    sensor: Sensor, corpus: Path
) -> None:
    shards = sensor.project.shards
    for file in corpus.iterdir():
        file.unlink()
    corpus.rmdir()
    with pytest.raises(SettingsError, match=re.escape(str(corpus))):
        sensor.tick()
    assert sensor.project.shards == shards


def test_a_tick_loads_no_library_that_computes(settings: PipelineSettings, tmp_path: Path) -> None:
    code = (
        "import sys, time, dagster as dg\n"
        "from embed_assets import build_pipeline, load_settings\n"
        "from embed_assets.orchestration.file_sensor import look_for_files\n"
        f"settings = load_settings({settings.model_dump(exclude_unset=True)!r})\n"
        "graph = build_pipeline(settings).resolve_asset_graph()\n"
        "with dg.DagsterInstance.ephemeral() as instance:\n"
        "    result = look_for_files(settings, instance, graph, None, time.time() + 60)\n"
        "assert result.run_requests, result\n"
        "heavy = {'torch', 'openvino', 'transformers', 'sentence_transformers', 'tokenizers'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def context(sensor: Sensor) -> Iterator[dg.SensorEvaluationContext]:
    """What the daemon gives the sensor's own function."""
    with dg.build_sensor_context(
        instance=sensor.project.instance,
        repository_def=sensor.project.definitions.get_repository_def(),
    ) as made:
        yield made


def test_the_sensor_that_the_pipeline_brings_is_off_and_looks(
    sensor: Sensor, context: dg.SensorEvaluationContext
) -> None:
    (definition,) = (s for s in sensor.project.definitions.sensors or [] if s.name == "notes_files")
    assert isinstance(definition, dg.SensorDefinition)
    assert definition.default_status is dg.DefaultSensorStatus.STOPPED
    result = definition(context)
    assert isinstance(result, dg.SensorResult)
    assert len(result.run_requests or []) == 2


def test_a_corpus_that_nobody_looked_at_for_long_is_overdue_until_the_sensor_looks(
    sensor: Sensor,
) -> None:
    def state() -> str:
        shards = dg.AssetKey(["notes", "shards"])
        node = sensor.project.definitions.resolve_asset_graph().get(shards)
        evaluator = TimeWindowFreshnessPolicyEvaluator()
        context = BasicLoadingContext(sensor.project.instance)
        with freeze_time(sensor.now):
            return asyncio.run(evaluator.evaluate_freshness(context, node)).value

    assert state() == "UNKNOWN"
    with freeze_time(sensor.now):
        sensor.tick(0)
    assert state() == "PASS"
    # Nothing changes, and the sensor looks every hour for two days.
    for _ in range(48):
        with freeze_time(sensor.now + 3600):
            sensor.tick(3600)
    assert state() == "PASS"
    sensor.now += 37 * 3600
    assert state() == "FAIL"
