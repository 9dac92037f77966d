"""From settings to Dagster definitions: everything one pipeline brings, in one call."""

import dagster as dg

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
from embed_assets.orchestration.resources import GpuResource, gpu_key
from embed_assets.settings import PipelineSettings


def build_pipeline(settings: PipelineSettings, observer: Observer | None = None) -> dg.Definitions:
    """Assets, checks, jobs, sensor and schedules of one pipeline, keyed `<name>/...`.

    Several merge with `Definitions.merge`: nothing is shared but the pool named "gpu".
    """
    return dg.Definitions(
        assets=[files_spec(settings), *build_assets(settings, observer or Silent())],
        jobs=[
            embed_job(settings),
            shards_job(settings),
            report_job(settings),
            maintenance_job(settings),
        ],
        sensors=sensors(settings),
        schedules=schedules(settings),
        resources={
            gpu_key(settings.name): GpuResource(
                device=settings.device, max_tokens_per_batch=settings.max_tokens_per_batch
            )
        },
    )
