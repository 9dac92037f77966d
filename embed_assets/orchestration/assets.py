"""The assets of one pipeline that are partitioned by shard, raw_corpus to quality_metrics.

Bodies only adapt; the work is in `embed_assets.pipeline`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import dagster as dg

from embed_assets import pipeline as stages
from embed_assets.digests import digest
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.automation import when_stale
from embed_assets.orchestration.check_results import check_results, check_specs
from embed_assets.orchestration.corpus_assets import (
    CORPUS_CHECKS,
    opened,
    or_fail,
    quality_report_asset,
    shards_asset,
)
from embed_assets.orchestration.metadata import definition_metadata, run_metadata
from embed_assets.orchestration.observer import Observer, Silent
from embed_assets.orchestration.partitions import partitions_definition
from embed_assets.orchestration.resources import GpuResource, gpu_key
from embed_assets.orchestration.shard_events import ShardEvents
from embed_assets.orchestration.shard_loop import one_by_one, run_shards
from embed_assets.orchestration.tuning_asset import tuning_asset
from embed_assets.outcome import Outcome
from embed_assets.quality.checks import BLOCKING_CHECKS, WARNING_CHECKS
from embed_assets.rows import SHARD_TABLES
from embed_assets.settings import READING_SETTINGS, PipelineSettings
from embed_assets.shard_stream import embed_shards

# Resumes from the tables, not from Dagster's memory: a retry skips every shard that is done.
_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
_SHARD_CHECKS = {k: v for k, v in WARNING_CHECKS.items() if k not in CORPUS_CHECKS}

# Settings that change what each stage makes: the UI marks shards as outdated when they do.
_STAGE_SETTINGS = {
    "raw_corpus": READING_SETTINGS,
    "chunks": ("model", "revision", "document_prompt", "max_tokens", "overlap"),
    "embeddings": ("model", "revision", "precision", "normalize", "truncate_dim"),
    "quality_metrics": (),
}


_Decorator = Callable[[Callable[..., Iterator[dg.MaterializeResult]]], dg.AssetsDefinition]


class StageConfig(dg.Config):
    """Options of one run."""

    force: bool = False


def build_assets(settings: PipelineSettings, observer: Observer) -> list[dg.AssetsDefinition]:
    """All assets of a pipeline, keyed `<name>/<table>`.

    One that embeds another pipeline's documents begins with chunks, which depends on that one's
    raw_corpus.
    """
    reading = [] if settings.documents_of else _reading_assets(settings, observer)
    return [
        *reading,
        _stage_asset(
            settings,
            "chunks",
            "Documents cut at the best boundary available into windows that the model can take, "
            "tokenized once.",
            stages.chunk_shard,
            observer,
            upstream=dg.AssetKey([settings.shards_owner, "raw_corpus"]),
        ),
        _embeddings_asset(settings, observer),
        _quality_metrics_asset(settings, observer),
        quality_report_asset(settings),
        tuning_asset(settings, observer),
    ]


def _reading_assets(settings: PipelineSettings, observer: Observer) -> list[dg.AssetsDefinition]:
    return [
        shards_asset(settings, observer),
        _stage_asset(
            settings,
            "raw_corpus",
            "Documents read from the corpus's files. What could not be read is in the table "
            "`rejected`, with the reason.",
            stages.ingest_shard,
            observer,
            upstream=dg.AssetKey([settings.name, "files"]),
        ),
    ]


def _stage_asset(
    settings: PipelineSettings,
    stage: str,
    description: str,
    run: Callable[..., Outcome],
    observer: Observer,
    upstream: dg.AssetKey,
) -> dg.AssetsDefinition:
    @_shard_asset(
        settings,
        stage,
        upstream=upstream,
        description=description,
        retry_policy=_retries(observer),
    )
    def stage_asset(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[dg.MaterializeResult]:
        pipeline = opened(settings, context, observer)
        or_fail(pipeline.prepare)
        events = ShardEvents(context, pipeline.tables.by_shard[stage])
        work = partial(one_by_one, partial(run, pipeline=pipeline, force=config.force))
        outcomes = run_shards(context, stage, work, observer, events)
        yield dg.MaterializeResult(metadata=run_metadata(outcomes))
        events.finished(outcomes)

    return stage_asset


def _embeddings_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = dg.AssetKey([settings.name, "embeddings"])
    gpu = gpu_key(settings.name)

    @_shard_asset(
        settings,
        "embeddings",
        upstream=dg.AssetKey([settings.name, "chunks"]),
        description=(
            "One vector per chunk, computed in batches of similar length and checked before they "
            "are published. Vectors that stand already under the same fingerprint are reused."
        ),
        kinds=("pytorch", "huggingface"),
        retry_policy=_retries(observer),
        required_resource_keys={gpu},
        pool="gpu",
        check_specs=check_specs(key, BLOCKING_CHECKS, blocking=True),
    )
    def embeddings(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[dg.MaterializeResult]:
        resource: GpuResource = getattr(context.resources, gpu)
        pipeline = opened(resource.located(settings), context, observer)
        or_fail(pipeline.prepare)
        events = ShardEvents(context, pipeline.tables.embeddings)
        with resource.devices(pipeline) as devices:
            embed = partial(
                embed_shards,
                pipeline=pipeline,
                devices=devices,
                force=config.force,
                on_tokens=observer.tokens_embedded,
            )
            outcomes = run_shards(context, "embeddings", embed, observer, events)
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        yield dg.MaterializeResult(
            metadata=run_metadata(outcomes),
            check_results=check_results(key, BLOCKING_CHECKS, findings, blocking=True),
        )
        events.finished(outcomes)

    return embeddings


def _quality_metrics_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = dg.AssetKey([settings.name, "quality_metrics"])

    @_shard_asset(
        settings,
        "quality_metrics",
        upstream=dg.AssetKey([settings.name, "embeddings"]),
        description=(
            "What the vectors of each shard are like: coverage, norms, duplicates, spread and "
            "effective rank, token lengths, padding waste and speed."
        ),
        check_specs=check_specs(key, _SHARD_CHECKS, blocking=False),
        retry_policy=_retries(observer),
    )
    def quality_metrics(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[dg.MaterializeResult]:
        pipeline = opened(settings, context, observer)
        or_fail(pipeline.prepare)
        events = ShardEvents(context, pipeline.tables.quality_metrics)
        measure = partial(stages.measure_shard, pipeline=pipeline, force=config.force)
        work = partial(one_by_one, measure)
        outcomes = run_shards(context, "quality_metrics", work, observer, events)
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        yield dg.MaterializeResult(
            metadata=run_metadata(outcomes),
            check_results=check_results(key, _SHARD_CHECKS, findings, blocking=False),
        )
        events.finished(outcomes)

    return quality_metrics


def _retries(observer: Observer) -> dg.RetryPolicy | None:
    """None where somebody watches: with a policy, Dagster answers Ctrl-C by trying again."""
    return _RETRIES if isinstance(observer, Silent) else None


def _shard_asset(
    settings: PipelineSettings,
    stage: str,
    *,
    upstream: dg.AssetKey,
    description: str,
    kinds: Iterable[str] = (),
    check_specs: Sequence[dg.AssetCheckSpec] = (),
    required_resource_keys: AbstractSet[str] = frozenset(),
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = None,
) -> _Decorator:
    """The decorator of a partitioned asset: what all of them share.

    One partitions definition and one backfill policy let Dagster run them together,
    `shards_per_run` shards to a process.
    """
    uri = OpenedPipeline(settings).tables.by_shard[stage].uri
    values = settings.model_dump(include=set(_STAGE_SETTINGS[stage]), mode="json")
    decorator: _Decorator = dg.asset(
        key=dg.AssetKey([settings.name, stage]),
        deps=[upstream],
        group_name=settings.name,
        description=description,
        kinds={"python", "polars", "deltalake", *kinds},
        partitions_def=partitions_definition(settings.shards_owner),
        automation_condition=when_stale(settings),
        backfill_policy=dg.BackfillPolicy.multi_run(settings.shards_per_run),
        retry_policy=retry_policy,
        metadata=definition_metadata(f"{settings.name}.{stage}", uri, SHARD_TABLES[stage]),
        code_version=digest(stage, *(f"{k}={v}" for k, v in sorted(values.items())))[:12],
        check_specs=check_specs,
        required_resource_keys=set(required_resource_keys),
        pool=pool,
    )
    return decorator
