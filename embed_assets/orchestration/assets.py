"""The assets of one pipeline that are partitioned by shard, raw_corpus to quality_metrics.

Bodies only adapt; the work is in `embed_assets.pipeline`.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import replace
from functools import partial

import dagster as dg

from embed_assets import pipeline as stages
from embed_assets.digests import digest
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.check_results import check_results, check_specs, report_checks
from embed_assets.orchestration.corpus_assets import (
    CORPUS_CHECKS,
    opened,
    or_fail,
    quality_report_asset,
    shards_asset,
)
from embed_assets.orchestration.descriptions import description
from embed_assets.orchestration.metadata import code_metadata, run_metadata, table_metadata
from embed_assets.orchestration.observer import Observer, Silent
from embed_assets.orchestration.partitions import partitions_definition
from embed_assets.orchestration.resources import GpuResource, gpu_key
from embed_assets.orchestration.shard_loop import one_by_one, run_shards
from embed_assets.orchestration.tuning_asset import tuning_asset
from embed_assets.outcome import Outcome
from embed_assets.quality.check_summary import summarized
from embed_assets.quality.checks import BLOCKING_CHECKS, WARNING_CHECKS, Finding
from embed_assets.settings import READING_SETTINGS, PipelineSettings
from embed_assets.shard_stream import Result, embed_shards
from embed_assets.shard_vectors import BadVectors

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


class StageConfig(dg.Config):
    """Options of one run."""

    force: bool = False


def build_assets(settings: PipelineSettings, observer: Observer) -> list[dg.AssetsDefinition]:
    """All assets of a pipeline, keyed `<name>/<table>`."""
    return [
        shards_asset(settings, observer),
        _stage_asset(
            settings,
            "raw_corpus",
            stages.ingest_shard,
            observer,
            upstream="shards",
        ),
        _stage_asset(
            settings,
            "chunks",
            stages.chunk_shard,
            observer,
            upstream="raw_corpus",
        ),
        _embeddings_asset(settings, observer),
        _quality_metrics_asset(settings, observer),
        quality_report_asset(settings, observer),
        tuning_asset(settings, observer),
    ]


def _stage_asset(
    settings: PipelineSettings,
    stage: str,
    run: Callable[..., Outcome],
    observer: Observer,
    upstream: str,
) -> dg.AssetsDefinition:
    @_shard_asset(
        settings,
        stage,
        upstream=upstream,
        code=run,
        retry_policy=_retries(observer),
    )
    def stage_asset(context: dg.AssetExecutionContext, config: StageConfig) -> dg.MaterializeResult:
        pipeline = opened(settings, context, observer)
        or_fail(pipeline.prepare)
        outcomes = run_shards(
            context,
            stage,
            partial(one_by_one, partial(_timed, run, pipeline=pipeline, force=config.force)),
            observer,
        )
        states = pipeline.tables.by_shard[stage].states()
        return dg.MaterializeResult(metadata=run_metadata(settings, stage, outcomes, states))

    return stage_asset


def _embeddings_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = dg.AssetKey([settings.name, "embeddings"])
    gpu = gpu_key(settings.name)

    @_shard_asset(
        settings,
        "embeddings",
        upstream="chunks",
        code=stages.embed_shard,
        kinds=("pytorch",),
        retry_policy=_retries(observer),
        required_resource_keys={gpu},
        pool="gpu",
        check_specs=check_specs(key, BLOCKING_CHECKS, blocking=True),
    )
    def embeddings(context: dg.AssetExecutionContext, config: StageConfig) -> dg.MaterializeResult:
        resource: GpuResource = getattr(context.resources, gpu)
        pipeline = opened(resource.located(settings), context, observer)
        or_fail(pipeline.prepare)
        findings: list[Finding] = []
        with resource.devices(pipeline) as devices:

            def embed(shards: Sequence[str]) -> Generator[Result]:
                results = embed_shards(
                    shards,
                    pipeline,
                    devices,
                    force=config.force,
                    on_tokens=observer.tokens_embedded,
                )
                return _noted(results, findings)

            try:
                outcomes = run_shards(context, "embeddings", embed, observer)
            except dg.Failure:
                summaries = summarized(BLOCKING_CHECKS, findings)
                observer.checked(summaries)
                # A step that fails returns no results, and the UI would show none.
                failed = [summary for summary in summaries if not summary.passed]
                report_checks(context.instance, key, failed)
                raise
        summaries = summarized(BLOCKING_CHECKS, findings)
        observer.checked(summaries)
        states = pipeline.tables.embeddings.states()
        return dg.MaterializeResult(
            metadata=run_metadata(settings, "embeddings", outcomes, states),
            check_results=check_results(key, summaries),
        )

    return embeddings


def _quality_metrics_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = dg.AssetKey([settings.name, "quality_metrics"])

    @_shard_asset(
        settings,
        "quality_metrics",
        upstream="embeddings",
        code=stages.measure_shard,
        check_specs=check_specs(key, _SHARD_CHECKS, blocking=False),
        retry_policy=_retries(observer),
    )
    def quality_metrics(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> dg.MaterializeResult:
        pipeline = opened(settings, context, observer)
        or_fail(pipeline.prepare)
        measure = partial(stages.measure_shard, pipeline=pipeline, force=config.force)
        outcomes = run_shards(
            context,
            "quality_metrics",
            partial(one_by_one, measure),
            observer,
        )
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        summaries = summarized(_SHARD_CHECKS, findings)
        observer.checked(summaries)
        states = pipeline.tables.quality_metrics.states()
        return dg.MaterializeResult(
            metadata=run_metadata(settings, "quality_metrics", outcomes, states),
            check_results=check_results(key, summaries),
        )

    return quality_metrics


def _timed(run: Callable[..., Outcome], shard: str, **arguments: object) -> Outcome:
    """A stage's outcome with the wall `seconds` it took, if it did anything."""
    started = time.perf_counter()
    outcome = run(shard, **arguments)
    seconds = time.perf_counter() - started
    if not outcome.written:
        return outcome
    return replace(outcome, numbers={**outcome.numbers, "seconds": seconds})


def _noted(results: Generator[Result], findings: list[Finding]) -> Generator[Result]:
    """The same results; what the checks found is added to `findings`, of refused vectors too."""
    with closing(results):
        for shard, result in results:
            if isinstance(result, Outcome | BadVectors):
                findings += result.findings
            yield shard, result


def _retries(observer: Observer) -> dg.RetryPolicy | None:
    """None where somebody watches: with a policy, Dagster answers Ctrl-C by trying again."""
    return _RETRIES if isinstance(observer, Silent) else None


def _shard_asset(
    settings: PipelineSettings,
    stage: str,
    *,
    upstream: str,
    code: Callable[..., Outcome],
    kinds: Iterable[str] = ("polars",),
    check_specs: Sequence[dg.AssetCheckSpec] = (),
    required_resource_keys: AbstractSet[str] = frozenset(),
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = None,
) -> Callable[[Callable[..., dg.MaterializeResult]], dg.AssetsDefinition]:
    """The decorator of a partitioned asset: what all of them share.

    One partitions definition and one backfill policy let Dagster run them together,
    `shards_per_run` shards to a process.
    """
    uri = OpenedPipeline(settings).tables.by_shard[stage].uri
    values = settings.model_dump(include=set(_STAGE_SETTINGS[stage]), mode="json")
    decorator: Callable[[Callable[..., dg.MaterializeResult]], dg.AssetsDefinition] = dg.asset(
        key=dg.AssetKey([settings.name, stage]),
        deps=[dg.AssetKey([settings.name, upstream])],
        group_name=settings.name,
        description=description(stage, uri),
        kinds={"python", "deltalake", *kinds},
        partitions_def=partitions_definition(settings.name),
        backfill_policy=dg.BackfillPolicy.multi_run(settings.shards_per_run),
        retry_policy=retry_policy,
        metadata=table_metadata(settings.name, stage, uri) | code_metadata(code),
        code_version=digest(stage, *(f"{k}={v}" for k, v in sorted(values.items())))[:12],
        check_specs=check_specs,
        required_resource_keys=set(required_resource_keys),
        pool=pool,
    )
    return decorator
