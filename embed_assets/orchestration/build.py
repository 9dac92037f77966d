"""From settings to Dagster definitions: everything one pipeline brings, in one call."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from embed_assets.orchestration.alerts import OnFailure, failure_sensor
from embed_assets.orchestration.assets import build_assets
from embed_assets.orchestration.automation import (
    embed_job,
    report_job,
    schedules,
    sensors,
    shards_job,
)
from embed_assets.orchestration.corpus_assets import files_spec
from embed_assets.orchestration.maintenance import maintenance_job
from embed_assets.orchestration.observer import Observer, Silent
from embed_assets.orchestration.pool_waiting import mend_pool_waiting
from embed_assets.orchestration.resources import GpuResource, gpu_key
from embed_assets.settings import PipelineSettings
from embed_assets.siblings import Declared, side_by_side


def build_pipeline(
    settings: PipelineSettings,
    observer: Observer | None = None,
    *,
    on_failure: OnFailure | None = None,
) -> dg.Definitions:
    """Assets, checks, jobs, sensors and schedules of one pipeline, keyed `<name>/...`.

    `on_failure` hears of each run that failed for good, as a `RunFailure`. Several pipelines merge
    with `Definitions.merge`: nothing is shared but the pool named "gpu". Better is
    `build_pipelines`, which sees when they would be in each other's way.
    """
    mend_pool_waiting()
    jobs: list[dg.JobDefinition | UnresolvedAssetJobDefinition] = [
        embed_job(settings),
        *([shards_job(settings)] if settings.documents_of is None else []),
        report_job(settings),
        maintenance_job(settings),
    ]
    return dg.Definitions(
        assets=[
            *([files_spec(settings)] if settings.documents_of is None else []),
            *build_assets(settings, observer or Silent()),
        ],
        jobs=jobs,
        sensors=[
            *sensors(settings),
            failure_sensor(settings, {job.name for job in jobs}, on_failure),
        ],
        schedules=schedules(settings),
        resources={
            gpu_key(settings.name): GpuResource(
                device=settings.device, max_tokens_per_batch=settings.max_tokens_per_batch
            )
        },
    )


def build_pipelines(*settings: PipelineSettings) -> dg.Definitions:
    """Several pipelines of one code location; `documents_of` may name another one of them.

    Raises SettingsError for two of one name or over the same tables.
    """
    pipelines = side_by_side(
        Declared(each, f"pipeline {n} of build_pipelines") for n, each in enumerate(settings, 1)
    )
    return dg.Definitions.merge(*(build_pipeline(each) for each in pipelines.values()))
