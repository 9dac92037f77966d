"""What else happens to a deployment: cancelled, killed, half broken, used twice at once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from embed_assets.orchestration.partitions import range_tags
from embed_assets.staleness import STAGES
from embed_assets_tests.daemon.deployment import Deployment, deployed
from embed_assets_tests.daemon.processes import until
from embed_assets_tests.faults.truth import assert_as_undisturbed, assert_readable

pytestmark = pytest.mark.soak

NAMES = [f"note-{i}" for i in range(6)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("project")
    with deployed(folder, model=str(tiny_bert), shards_per_run=3, sensor_seconds=5) as made:
        yield made


@pytest.fixture
def deployment(shared: Deployment, request: pytest.FixtureRequest) -> Deployment:
    """All programs run, and every shard has work to do: each file is new to every test."""
    shared.go_on()
    shared.start()
    shared.write(*NAMES, word=request.node.name)
    assert len(shared.list_corpus()) == len(NAMES)
    return shared


def assert_all_stand(deployment: Deployment, shards: list[str]) -> None:
    """Every shard shows as materialised, and the tables hold one set of rows of each."""
    for stage in STAGES:
        until(
            lambda stage=stage: (
                deployment.graphql.statuses(stage)["materialized"]  # type: ignore[misc]
                == sorted(shards)
            ),
            f"{stage} shows every shard as materialised",
        )
    assert_as_undisturbed(deployment.settings)
    until(lambda: not deployment.graphql.claimed_slots(), "no run holds the device")


def held_backfill(deployment: Deployment, shards: list[str]) -> str:
    """A backfill whose first run waits in the middle of its vectors."""
    deployment.hold_next_run_at("embeddings", nth=2)
    backfill = deployment.graphql.launch_backfill(shards)
    deployment.held_run()
    return backfill


def test_cancelling_a_backfill_leaves_nothing_half_done_and_frees_the_device(
    deployment: Deployment,
) -> None:
    graphql = deployment.graphql
    shards = graphql.partitions("notes")
    backfill = held_backfill(deployment, shards)
    graphql.cancel_backfill(backfill)
    assert graphql.wait_for_backfill(backfill) == "CANCELED"
    assert_readable(deployment.settings.tables)
    until(lambda: not graphql.claimed_slots(), "no run holds the device")
    of_backfill = [r for r in graphql.runs() if r["tags"].get("dagster/backfill") == backfill]
    assert {run["status"] for run in of_backfill} <= {"CANCELED", "SUCCESS"}
    assert "CANCELED" in {run["status"] for run in of_backfill}

    assert graphql.wait_for_backfill(graphql.launch_backfill(shards)) == "COMPLETED_SUCCESS"
    assert_all_stand(deployment, shards)


def test_a_run_that_is_terminated_frees_the_device_and_is_not_tried_again(
    deployment: Deployment,
) -> None:
    graphql = deployment.graphql
    shards = graphql.partitions("notes")
    deployment.hold_next_run_at("embeddings", nth=2)
    run = graphql.launch_job("notes_embed", range_tags(shards))
    deployment.held_run()
    graphql.terminate(run)
    assert graphql.wait_for_run(run) == "CANCELED"
    until(lambda: not graphql.claimed_slots(), "no run holds the device")
    assert_readable(deployment.settings.tables)
    assert not [r for r in graphql.runs() if r["tags"].get("dagster/parent_run_id") == run]

    again = graphql.launch_job("notes_embed", range_tags(shards))
    assert graphql.wait_for_run(again) == "SUCCESS"
    assert_all_stand(deployment, shards)


def test_a_run_that_is_stopped_by_no_person_is_run_again(deployment: Deployment) -> None:
    """As a node that is drained stops its pods, and a service its processes."""
    shards = deployment.graphql.partitions("notes")
    backfill = held_backfill(deployment, shards)
    os.kill(deployment.held_run(), signal.SIGTERM)
    assert deployment.graphql.wait_for_backfill(backfill) == "COMPLETED_SUCCESS"
    assert_all_stand(deployment, shards)


@pytest.mark.parametrize(
    "killed", [("daemon",), ("code", "web", "daemon")], ids=["the daemon", "the machine"]
)
def test_what_is_killed_goes_on_with_the_backfill(
    deployment: Deployment, killed: tuple[str, ...]
) -> None:
    shards = deployment.graphql.partitions("notes")
    backfill = held_backfill(deployment, shards)
    deployment.kill(*killed)
    deployment.go_on()
    deployment.start()
    assert deployment.graphql.wait_for_backfill(backfill) == "COMPLETED_SUCCESS"
    assert_all_stand(deployment, shards)


def test_failed_shards_alone_are_run_again(deployment: Deployment) -> None:
    graphql = deployment.graphql
    shards = graphql.partitions("notes")
    assert graphql.wait_for_backfill(graphql.launch_backfill(shards, STAGES[:1])) in (
        "COMPLETED_SUCCESS"
    )
    bad = shards[1]
    (path,) = deployment.files_by_shard("raw_corpus")[bad]
    file = Path(deployment.settings.tables) / "raw_corpus" / path
    whole = file.read_bytes()
    file.write_bytes(b"")

    backfill = graphql.launch_backfill(shards, STAGES[1:])
    assert graphql.wait_for_backfill(backfill) == "COMPLETED_FAILED"
    # It fails alone in the stage that it is bad for; behind that, all shards of its run wait.
    failed = {stage: graphql.statuses(stage)["failed"] for stage in STAGES[1:]}
    assert failed == {
        "chunks": [bad],
        "embeddings": shards[:3],
        "quality_metrics": shards[:3],
    }

    file.write_bytes(whole)
    again = sorted({shard for stage in failed.values() for shard in stage})
    assert graphql.wait_for_backfill(graphql.launch_backfill(again, STAGES[1:])) in (
        "COMPLETED_SUCCESS"
    )
    assert_all_stand(deployment, shards)


def test_two_runs_over_the_same_shards_at_once_give_one_set_of_rows(
    deployment: Deployment,
) -> None:
    graphql = deployment.graphql
    shards = graphql.partitions("notes")
    runs = [graphql.launch_job("notes_embed", range_tags(shards)) for _ in range(2)]
    assert [graphql.wait_for_run(run) for run in runs] == ["SUCCESS", "SUCCESS"]
    assert_all_stand(deployment, shards)


def is_up_to_date(deployment: Deployment) -> bool:
    """Whether the tables hold what the corpus gives now."""
    try:
        assert_as_undisturbed(deployment.settings)
    except (AssertionError, FileNotFoundError):
        return False
    return True


def test_the_sensor_goes_on_without_a_bad_shard_and_leaves_that_alone(
    deployment: Deployment,
) -> None:
    graphql = deployment.graphql
    shards = graphql.partitions("notes")
    backfill = graphql.launch_backfill(shards, STAGES[:1])
    assert graphql.wait_for_backfill(backfill) == "COMPLETED_SUCCESS"
    bad, *others = shards
    (path,) = deployment.files_by_shard("raw_corpus")[bad]
    file = Path(deployment.settings.tables) / "raw_corpus" / path
    whole = file.read_bytes()
    file.write_bytes(b"")

    before = len(graphql.runs())
    graphql.start_sensor("notes_files")
    until(
        lambda: graphql.statuses("quality_metrics")["materialized"] == others,
        "the other shards are done",
    )
    looked = graphql.n_ticks("notes_files")
    until(lambda: graphql.n_ticks("notes_files") >= looked + 4, "four looks of the sensor")
    graphql.stop_sensor("notes_files")
    runs = graphql.runs()[: len(graphql.runs()) - before]
    # Three shards to a run: the bad one with two others, the rest, and the two others again.
    assert sorted(run["status"] for run in runs) == ["FAILURE", "SUCCESS", "SUCCESS"]
    file.write_bytes(whole)


def test_the_sensor_keeps_the_tables_those_of_a_changing_folder(deployment: Deployment) -> None:
    graphql = deployment.graphql
    before = len(graphql.runs())
    graphql.start_sensor("notes_files")
    until(lambda: is_up_to_date(deployment), "the first files are in the tables")
    assert len(graphql.runs()) - before <= 3

    deployment.write("note-0", word="changed")
    deployment.write("note-9", word="new")
    (deployment.corpus / "note-1.txt").unlink()
    before = len(graphql.runs())
    until(lambda: is_up_to_date(deployment), "the changed files are in the tables")
    assert_all_stand(deployment, graphql.partitions("notes"))
    assert len(graphql.partitions("notes")) == len(NAMES)
    assert len(graphql.runs()) - before <= 3

    before, looked = len(graphql.runs()), graphql.n_ticks("notes_files")
    until(lambda: graphql.n_ticks("notes_files") >= looked + 2, "two looks of the sensor")
    assert len(graphql.runs()) == before
