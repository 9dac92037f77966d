"""What runs without anybody clicking: jobs, the sensor for changed files, the schedules."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)
from dagster._utils.schedules import is_valid_cron_schedule

from embed_assets.errors import SettingsError
from embed_assets.orchestration.file_sensor import file_sensor, sensor_status
from embed_assets.settings import PipelineSettings
from embed_assets.staleness import own_stages

_AC = dg.AutomationCondition


def when_stale(settings: PipelineSettings) -> dg.AutomationCondition | None:
    """With `automation: stale`, what runs a shard when what it is made from changes.

    Once for each change: an identical result, or a look that finds the same files, changes nothing.
    """
    if settings.automation == "files":
        return None
    is_unmade = _AC.any_deps_match(_AC.missing() & ~_AC.will_be_requested())
    if settings.documents_of is None:
        # Nothing is recorded of the files of a new shard.
        is_unmade = is_unmade.ignore(dg.AssetSelection.assets([settings.name, "files"]))
    changed: dg.AutomationCondition = (
        _AC.any_deps_match(_AC.data_version_changed() | _AC.will_be_requested())
        | _AC.code_version_changed()
    )
    # Unlike `since_last_handled` also what is missing when somebody switches it on.
    new = _AC.missing().newly_true().since(_AC.newly_requested() | _AC.newly_updated())
    return (
        (changed.since_last_handled() | new)
        & ~is_unmade
        & ~_AC.any_deps_in_progress()
        & ~_AC.in_progress()
    ).with_label("the shard is outdated")


def embed_job(settings: PipelineSettings) -> UnresolvedAssetJobDefinition:
    """The main job: a range of shards through all stages of the pipeline."""
    return dg.define_asset_job(
        f"{settings.name}_embed",
        selection=[dg.AssetKey([settings.name, stage]) for stage in own_stages(settings)],
        # One process for the four steps of a run, which imports the libraries once. A worker that
        # is killed is run again as a whole and resumes from the tables.
        executor_def=dg.in_process_executor,
        description=f"{', '.join(own_stages(settings))} of the chosen shards.",
    )


def shards_job(settings: PipelineSettings) -> UnresolvedAssetJobDefinition:
    """Look for new, changed and deleted files."""
    return dg.define_asset_job(
        f"{settings.name}_shards",
        selection=[dg.AssetKey([settings.name, "shards"])],
        description="List the corpus and bring the manifest and the partitions up to date.",
    )


def report_job(settings: PipelineSettings) -> UnresolvedAssetJobDefinition:
    """Refresh the report."""
    return dg.define_asset_job(
        f"{settings.name}_report",
        selection=[dg.AssetKey([settings.name, "quality_report"])],
        description="Numbers and pictures over all shards.",
    )


def schedules(settings: PipelineSettings) -> list[dg.ScheduleDefinition]:
    """Refresh the report every night, maintain the tables every week; off until switched on."""
    _check_schedules(settings)
    on, off = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    status = on if settings.switched_on else off
    return [
        dg.ScheduleDefinition(
            name=f"{settings.name}_nightly_report",
            job_name=f"{settings.name}_report",
            cron_schedule=settings.report_schedule,
            default_status=status,
            description="Refreshes the quality report.",
        ),
        dg.ScheduleDefinition(
            name=f"{settings.name}_weekly_maintenance",
            job_name=f"{settings.name}_maintain",
            cron_schedule=settings.maintenance_schedule,
            default_status=status,
            description="Merges small files and deletes old ones.",
        ),
    ]


def _check_schedules(settings: PipelineSettings) -> None:
    """Raise SettingsError where a schedule is no cron line: Dagster would not name the setting."""
    for setting in ("report_schedule", "maintenance_schedule"):
        line = getattr(settings, setting)
        if not is_valid_cron_schedule(line):
            raise SettingsError(
                f"setting {setting!r} is {line!r}, expected a cron line: '0 3 * * *'"
            )


def sensors(settings: PipelineSettings) -> list[dg.SensorDefinition]:
    """The sensor for files; with `automation: stale`, also the one that launches for both."""
    if settings.automation == "files":
        return [file_sensor(settings)]
    return [file_sensor(settings), _condition_sensor(settings)]


def _condition_sensor(settings: PipelineSettings) -> dg.SensorDefinition:
    """Dagster's own sensor for automation conditions, over this pipeline's assets alone.

    Its backfills take `shards_per_run` shards to a run.
    """
    return dg.AutomationConditionSensorDefinition(
        name=f"{settings.name}_automation",
        target=dg.AssetSelection.assets(*([settings.name, s] for s in own_stages(settings))),
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=sensor_status(settings),
        description="Runs the shards whose files, settings, model or code are others than before.",
    )
