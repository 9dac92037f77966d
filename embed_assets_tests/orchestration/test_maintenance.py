"""The maintenance of the tables as a job and a schedule."""

from pathlib import Path

import dagster as dg

from embed_assets.tables.delta import open_delta_tables
from embed_assets_tests.orchestration.conftest import Project
from embed_assets_tests.tables.example_frames import checkpoint


def test_the_job_maintains_the_tables_and_says_what_it_did(project: Project) -> None:
    assert project.run("embed", *project.shards).success
    checkpoints = open_delta_tables(project.settings.tables_root).checkpoints
    for n in range(3):
        checkpoints.add(checkpoint(n, project.shards[0]))
    result = project.run("maintain")
    assert result.success
    (output,) = [e for e in result.all_events if e.event_type_value == "STEP_OUTPUT"]
    metadata = output.step_output_data.metadata
    assert metadata["small_files_merged"].value == 3
    assert metadata["bytes_freed"].value == 0


def test_the_job_of_a_pipeline_that_never_ran_alarms_nobody(fresh: Project) -> None:
    assert fresh.run("maintain").success


def test_a_table_that_cannot_be_maintained_fails_the_job_and_is_named(project: Project) -> None:
    assert project.run("embed", *project.shards).success
    logs = Path(project.settings.tables_root).glob("chunks/_delta_log/*.json")
    max(logs).write_text("{")
    result = project.run("maintain")
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert (told.description or "").startswith("chunks: the table at ")


def test_the_schedule_is_weekly_and_off_until_somebody_wants_it(fresh: Project) -> None:
    schedule = fresh.definitions.resolve_schedule_def("notes_weekly_maintenance")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.cron_schedule == "0 4 * * 0"
    assert schedule.job_name == "notes_maintain"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
