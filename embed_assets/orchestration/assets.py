"""The assets of one pipeline: shards, raw_corpus, chunks, embeddings, quality_metrics, and
quality_report. Bodies only adapt; the work is in `embed_assets.pipeline`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import dagster as dg

from embed_assets import pipeline as stages
from embed_assets.corpus_report import report_corpus, save_plots
from embed_assets.digests import digest
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.check_results import check_results, check_specs
from embed_assets.orchestration.metadata import definition_metadata, run_metadata
from embed_assets.orchestration.observer import Observer
from embed_assets.orchestration.partitions import partitions_definition, register_shards
from embed_assets.orchestration.resources import GpuResource, gpu_key
from embed_assets.orchestration.shard_loop import run_shards
from embed_assets.pipeline import Outcome
from embed_assets.quality.checks import BLOCKING_CHECKS, WARNING_CHECKS
from embed_assets.quality.report import report_markdown
from embed_assets.rows import SHARD_TABLES, SHARDS
from embed_assets.settings import PipelineSettings

T = TypeVar("T")

# Resumes from the tables, not from Dagster's memory: a retry skips every shard that is done.
_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
_SHARD_CHECKS = {k: v for k, v in WARNING_CHECKS.items() if k != "shards_near_centroid"}
_CORPUS_CHECKS = {k: v for k, v in WARNING_CHECKS.items() if k == "shards_near_centroid"}

# Settings that change what each stage makes: the UI marks shards as outdated when they do.
_STAGE_SETTINGS = {
    "raw_corpus": ("text_column", "id_column", "title_column", "max_document_bytes"),
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
        _shards_asset(settings),
        _stage_asset(
            settings,
            "raw_corpus",
            "Documents read from the corpus's files. What could not be read is in the table "
            "`rejected`, with the reason.",
            stages.ingest_shard,
            observer,
            upstream="shards",
        ),
        _stage_asset(
            settings,
            "chunks",
            "Documents cut at the best boundary available into windows that the model can take, "
            "tokenized once.",
            stages.chunk_shard,
            observer,
            upstream="raw_corpus",
        ),
        _embeddings_asset(settings, observer),
        _quality_metrics_asset(settings, observer),
        _quality_report_asset(settings),
    ]


def _shards_asset(settings: PipelineSettings) -> dg.AssetsDefinition:
    uri = OpenedPipeline(settings).tables.manifest.uri

    @dg.asset(
        key=dg.AssetKey([settings.name, "shards"]),
        group_name=settings.name,
        kinds={"python", "deltalake"},
        description=(
            "The manifest: which file belongs to which shard. Materialise it to look for new, "
            "changed and deleted files; it registers the shards as partitions of the assets below "
            "and removes the rows of those that are gone."
        ),
        metadata=definition_metadata("shards", uri, SHARDS),
    )
    def shards(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipeline = OpenedPipeline(settings)
        _or_fail(pipeline.check_fits)
        plan = _or_fail(pipeline.plan)
        register_shards(context.instance, settings.name, pipeline.pieces)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": len(plan.shards.manifest),
                "files": plan.n_files,
                "bytes": plan.n_bytes,
                "shards": len(pipeline.pieces),
                "added": len(plan.shards.added),
                "changed": len(plan.shards.changed),
                "removed": len(plan.shards.removed),
                "files_passed_over": sum(plan.skipped.values()),
            }
        )

    return shards


def _stage_asset(
    settings: PipelineSettings,
    stage: str,
    description: str,
    run: Callable[..., Outcome],
    observer: Observer,
    upstream: str,
) -> dg.AssetsDefinition:
    @dg.asset(**_common(settings, stage, upstream), description=description, kinds=_kinds())
    def stage_asset(context: dg.AssetExecutionContext, config: StageConfig) -> dg.MaterializeResult:
        pipeline = OpenedPipeline(settings)
        _or_fail(pipeline.check_fits)
        outcomes = run_shards(
            context, stage, partial(run, pipeline=pipeline, force=config.force), observer
        )
        return dg.MaterializeResult(metadata=run_metadata(outcomes))

    return stage_asset


def _embeddings_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = dg.AssetKey([settings.name, "embeddings"])
    gpu = gpu_key(settings.name)

    @dg.asset(
        **_common(settings, "embeddings", "chunks"),
        description=(
            "One vector per chunk, computed in batches of similar length and checked before they "
            "are published. Vectors that stand already under the same fingerprint are reused."
        ),
        kinds=_kinds("pytorch", "huggingface"),
        required_resource_keys={gpu},
        pool="gpu",
        check_specs=check_specs(key, BLOCKING_CHECKS, blocking=True),
    )
    def embeddings(context: dg.AssetExecutionContext, config: StageConfig) -> dg.MaterializeResult:
        resource: GpuResource = getattr(context.resources, gpu)
        pipeline = OpenedPipeline(resource.located(settings))
        _or_fail(pipeline.check_fits)
        _or_fail(pipeline.register_fingerprint)
        outcomes = run_shards(
            context,
            "embeddings",
            lambda shard: stages.embed_shard(
                shard,
                pipeline,
                lambda: resource.create(pipeline),
                force=config.force,
                on_tokens=observer.tokens_embedded,
            ),
            observer,
        )
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        return dg.MaterializeResult(
            metadata=run_metadata(outcomes),
            check_results=check_results(key, BLOCKING_CHECKS, findings, blocking=True),
        )

    return embeddings


def _quality_metrics_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    key = dg.AssetKey([settings.name, "quality_metrics"])

    @dg.asset(
        **_common(settings, "quality_metrics", "embeddings"),
        description=(
            "What the vectors of each shard are like: coverage, norms, duplicates, spread and "
            "effective rank, token lengths, padding waste and speed."
        ),
        kinds=_kinds(),
        check_specs=check_specs(key, _SHARD_CHECKS, blocking=False),
    )
    def quality_metrics(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> dg.MaterializeResult:
        pipeline = OpenedPipeline(settings)
        outcomes = run_shards(
            context,
            "quality_metrics",
            partial(stages.measure_shard, pipeline=pipeline, force=config.force),
            observer,
        )
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        return dg.MaterializeResult(
            metadata=run_metadata(outcomes),
            check_results=check_results(key, _SHARD_CHECKS, findings, blocking=False),
        )

    return quality_metrics


def _quality_report_asset(settings: PipelineSettings) -> dg.AssetsDefinition:
    key = dg.AssetKey([settings.name, "quality_report"])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([settings.name, "quality_metrics"])],
        group_name=settings.name,
        kinds={"python", "polars", "matplotlib"},
        description=(
            "The whole corpus at a look: numbers over all shards, pictures of lengths, norms, "
            "similarity and a map of the vectors, and the shards to look at first."
        ),
        check_specs=check_specs(key, _CORPUS_CHECKS, blocking=False),
    )
    def quality_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipeline = OpenedPipeline(settings)
        report = _or_fail(lambda: report_corpus(pipeline))
        folder = _or_fail(lambda: save_plots(report, settings.tables_root))
        metadata: Mapping[str, dg.MetadataValue] = {
            "report": dg.MetadataValue.md(report_markdown(report)),
            **({"plots": dg.MetadataValue.path(folder)} if folder else {}),
            **{k: dg.MetadataValue.float(float(v)) for k, v in report.summary.items()},
        }
        return dg.MaterializeResult(
            metadata=metadata,
            check_results=check_results(key, _CORPUS_CHECKS, report.findings, blocking=False),
        )

    return quality_report


def _common(settings: PipelineSettings, stage: str, upstream: str) -> dict[str, Any]:
    """What all partitioned assets share. One partitions definition and one backfill policy let
    Dagster run them together, `shards_per_run` shards to a process.
    """
    uri = OpenedPipeline(settings).tables.by_shard[stage].uri
    values = settings.model_dump(include=set(_STAGE_SETTINGS[stage]), mode="json")
    return {
        "key": dg.AssetKey([settings.name, stage]),
        "deps": [dg.AssetKey([settings.name, upstream])],
        "group_name": settings.name,
        "partitions_def": partitions_definition(settings.name),
        "backfill_policy": dg.BackfillPolicy.multi_run(settings.shards_per_run),
        "retry_policy": _RETRIES,
        "metadata": definition_metadata(stage, uri, SHARD_TABLES[stage]),
        "code_version": digest(stage, *(f"{k}={v}" for k, v in sorted(values.items())))[:12],
    }


def _kinds(*more: str) -> set[str]:
    return {"python", "polars", "deltalake", *more}


def _or_fail(work: Callable[[], T]) -> T:
    """The work's result; an InputError becomes a failure that Dagster shows and does not retry."""
    try:
        return work()
    except InputError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
