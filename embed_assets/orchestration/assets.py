"""The assets of one pipeline that are partitioned by shard, raw_corpus to quality_metrics.

Bodies only adapt; the work is in `embed_assets.pipeline`. They yield their result before the last
events of the shards: see `shard_events`.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import dagster as dg

from embed_assets import pipeline as stages
from embed_assets.concurrency import shards_at_once, shards_read_at_once
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.check_results import check_results, check_specs, report_checks
from embed_assets.orchestration.corpus_assets import (
    CORPUS_CHECKS,
    opened,
    or_fail,
    quality_report_asset,
    shards_asset,
)
from embed_assets.orchestration.metadata import run_metadata
from embed_assets.orchestration.observer import Observer
from embed_assets.orchestration.resources import GpuResource, gpu_key
from embed_assets.orchestration.shard_asset import StageConfig, shard_asset
from embed_assets.orchestration.shard_events import ShardEvents
from embed_assets.orchestration.shard_loop import run_shards
from embed_assets.orchestration.tuning_asset import tuning_asset
from embed_assets.outcome import Outcome
from embed_assets.quality.check_summary import CheckSummary, summarized
from embed_assets.quality.checks import BLOCKING_CHECKS, WARNING_CHECKS, Finding
from embed_assets.settings import PipelineSettings
from embed_assets.shard_claims import ShardClaims
from embed_assets.shard_stream import Result, embed_shards, side_by_side
from embed_assets.vector_checks import BadVectors

_SHARD_CHECKS = {k: v for k, v in WARNING_CHECKS.items() if k not in CORPUS_CHECKS}


def build_assets(settings: PipelineSettings, observer: Observer) -> list[dg.AssetsDefinition]:
    """All assets of a pipeline, keyed `<name>/<table>`.

    A pipeline that embeds another one's documents has no shards and raw_corpus of its own.
    """
    stage, n_bytes = partial(_stage_asset, settings, observer), settings.shard_bytes
    files, documents = _key(settings, "files"), dg.AssetKey([settings.shards_owner, "raw_corpus"])
    reading = [
        shards_asset(settings, observer),
        stage("raw_corpus", stages.ingest_shard, files, shards_read_at_once(n_bytes)),
    ]
    return [
        *(reading if settings.documents_of is None else []),
        stage("chunks", stages.chunk_shard, documents, shards_at_once(n_bytes)),
        _embeddings_asset(settings, observer),
        _quality_metrics_asset(settings, observer),
        quality_report_asset(settings, observer),
        tuning_asset(settings, observer),
    ]


def _stage_asset(
    settings: PipelineSettings,
    observer: Observer,
    stage: str,
    run: Callable[..., Outcome],
    upstream: dg.AssetKey,
    n_at_once: int,
) -> dg.AssetsDefinition:
    @shard_asset(settings, stage, observer, upstream=upstream, code=run)
    def stage_asset(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[dg.MaterializeResult]:
        pipeline = opened(settings, context, observer)
        or_fail(pipeline.prepare)
        events = ShardEvents(context, pipeline.tables.by_shard[stage])
        work = partial(_timed, run, pipeline=pipeline, force=config.force)
        claims = _claims(context, pipeline, stage, observer)
        walk = partial(side_by_side, work, claims=claims, n_at_once=n_at_once)
        outcomes = run_shards(context, stage, walk, observer, events)
        yield from _results(pipeline, stage, outcomes, events)

    return stage_asset


def _embeddings_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = _key(settings, "embeddings")
    gpu = gpu_key(settings.name)

    @shard_asset(
        settings,
        "embeddings",
        observer,
        upstream=_key(settings, "chunks"),
        code=stages.embed_shard,
        kinds=("huggingface",),
        required_resource_keys={gpu},
        pool="gpu",
        check_specs=check_specs(key, BLOCKING_CHECKS, blocking=True),
    )
    def embeddings(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[dg.MaterializeResult]:
        resource: GpuResource = getattr(context.resources, gpu)
        pipeline = opened(resource.located(settings), context, observer)
        or_fail(pipeline.check_device)
        or_fail(pipeline.prepare)
        events = ShardEvents(context, pipeline.tables.embeddings)
        claims = _claims(context, pipeline, "embeddings", observer)
        findings: list[Finding] = []
        with resource.devices(pipeline) as devices:

            def embed(shards: Sequence[str]) -> Generator[Result]:
                results = embed_shards(
                    shards,
                    pipeline,
                    devices,
                    claims,
                    force=config.force,
                    on_tokens=observer.tokens_embedded,
                )
                return _noted(results, findings)

            try:
                outcomes = run_shards(context, "embeddings", embed, observer, events)
            except dg.Failure:
                # A step that fails returns no results, and the UI would show none.
                summaries = _checked(BLOCKING_CHECKS, findings, observer)
                failed = [summary for summary in summaries if not summary.passed]
                report_checks(context.instance, key, failed)
                raise
        summaries = _checked(BLOCKING_CHECKS, findings, observer)
        yield from _results(pipeline, "embeddings", outcomes, events, summaries)

    return embeddings


def _quality_metrics_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = _key(settings, "quality_metrics")

    @shard_asset(
        settings,
        "quality_metrics",
        observer,
        upstream=_key(settings, "embeddings"),
        code=stages.measure_shard,
        check_specs=check_specs(key, _SHARD_CHECKS, blocking=False),
    )
    def quality_metrics(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[dg.MaterializeResult]:
        pipeline = opened(settings, context, observer)
        or_fail(pipeline.prepare)
        events = ShardEvents(context, pipeline.tables.quality_metrics)
        measure = partial(stages.measure_shard, pipeline=pipeline, force=config.force)
        claims = _claims(context, pipeline, "quality_metrics", observer)
        n_at_once = shards_at_once(settings.shard_bytes)
        walk = partial(side_by_side, measure, claims=claims, n_at_once=n_at_once)
        outcomes = run_shards(context, "quality_metrics", walk, observer, events)
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        summaries = _checked(_SHARD_CHECKS, findings, observer)
        yield from _results(pipeline, "quality_metrics", outcomes, events, summaries)

    return quality_metrics


def _results(
    pipeline: OpenedPipeline,
    stage: str,
    outcomes: Sequence[Outcome],
    events: ShardEvents,
    checks: Sequence[CheckSummary] = (),
) -> Iterator[dg.MaterializeResult]:
    """A step's result, and behind it what Dagster is to know of each shard."""
    key = _key(pipeline.settings, stage)
    states = pipeline.tables.by_shard[stage].states()
    metadata = run_metadata(pipeline.settings, stage, outcomes, states)
    yield dg.MaterializeResult(metadata=metadata, check_results=check_results(key, checks))
    events.finished(outcomes, metadata)


def _claims(
    context: dg.AssetExecutionContext, pipeline: OpenedPipeline, stage: str, observer: Observer
) -> ShardClaims:
    """The claims of a step, which say in its log when they wait."""

    def on_wait(shard: str) -> None:
        context.log.info(f"another run is working on {shard}; waiting for what it makes")
        observer.shard_waits(shard)

    return ShardClaims(pipeline, stage, on_wait)


def _key(settings: PipelineSettings, asset: str) -> dg.AssetKey:
    return dg.AssetKey([settings.name, asset])


def _checked(
    checks: Iterable[str], findings: Sequence[Finding], observer: Observer
) -> list[CheckSummary]:
    summaries = summarized(checks, findings)
    observer.checked(summaries)
    return summaries


def _timed(run: Callable[..., Outcome], shard: str, **arguments: object) -> Outcome:
    """A stage's outcome with the wall `seconds` it took, if it did anything and does not say."""
    started = time.perf_counter()
    outcome = run(shard, **arguments)
    seconds = time.perf_counter() - started
    if not outcome.written:
        return outcome
    return replace(outcome, numbers={"seconds": seconds, **outcome.numbers})


def _noted(results: Generator[Result], findings: list[Finding]) -> Generator[Result]:
    """The same results; what the checks found is added to `findings`, of refused vectors too."""
    with closing(results):
        for shard, result in results:
            if isinstance(result, Outcome | BadVectors):
                findings += result.findings
            yield shard, result
