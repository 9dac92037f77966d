"""What runs without anybody clicking: jobs, the sensor for changed files, the schedules."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from embed_assets.digests import digest_of
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.partitions import (
    contiguous_runs,
    partitions_definition,
    range_tags,
)
from embed_assets.settings import PipelineSettings
from embed_assets.staleness import own_stages
from embed_assets.tables.table import Superseded


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
    return [
        dg.ScheduleDefinition(
            name=f"{settings.name}_nightly_report",
            job_name=f"{settings.name}_report",
            cron_schedule=settings.report_schedule,
            description="Refreshes the quality report.",
        ),
        dg.ScheduleDefinition(
            name=f"{settings.name}_weekly_maintenance",
            job_name=f"{settings.name}_maintain",
            cron_schedule=settings.maintenance_schedule,
            description="Merges small files and deletes old ones.",
        ),
    ]


def file_sensor(settings: PipelineSettings) -> dg.SensorDefinition:
    """See new, changed and deleted files, register their shards and ask for their runs.

    Of a pipeline that embeds another one's documents: see documents that were made anew, or are
    gone, and ask for the runs of their shards.
    """
    what = "files" if settings.documents_of is None else "documents"

    @dg.sensor(
        name=f"{settings.name}_{what}",
        job_name=f"{settings.name}_embed",
        minimum_interval_seconds=settings.sensor_seconds,
        description=f"Sees new, changed and deleted {what} and runs the shards they belong to.",
    )
    def files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        return look_for_files(settings, context.instance)

    return files


def look_for_files(
    settings: PipelineSettings, instance: dg.DagsterInstance
) -> dg.SensorResult | dg.SkipReason:
    """One look at the corpus: the partitions to add and delete, and the runs that are due.

    A run's key names its shards and what they would be made from, so Dagster launches it once: a
    shard that failed is tried again when its files or settings change, not at every tick.
    """
    pipeline = OpenedPipeline(settings)
    try:
        pipeline.check_fits()
        pipeline.plan()
        stale = pipeline.stale_shards()
    except (InputError, Superseded) as error:
        return dg.SkipReason(str(error))
    definition = partitions_definition(settings.shards_owner)
    registered = list(instance.get_dynamic_partitions(definition.name or ""))
    if settings.documents_of is None:
        new = sorted(pipeline.pieces.keys() - set(registered))
        gone = sorted(set(registered) - pipeline.pieces.keys())
    else:
        # Whose shards they are registers them.
        new, gone = [], []
    order = [key for key in registered if key not in gone] + new
    runs = contiguous_runs(stale, order, settings.shards_per_run)
    if not (new or gone or runs):
        return dg.SkipReason(f"{len(pipeline.pieces)} shards, all up to date")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(run_key=_run_key(pipeline, shards), tags=range_tags(shards))
            for shards in runs
        ],
        dynamic_partitions_requests=[
            *([definition.build_add_request(new)] if new else []),
            *([definition.build_delete_request(gone)] if gone else []),
        ],
    )


def _run_key(pipeline: OpenedPipeline, shards: list[str]) -> str:
    versions = [pipeline.ingest_version(shard) for shard in shards]
    return digest_of([*shards, *versions, pipeline.fingerprint])
