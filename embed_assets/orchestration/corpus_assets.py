"""The assets of one pipeline that stand for the corpus as a whole: shards and quality_report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import dagster as dg

from embed_assets.corpus_plan import CorpusPlan
from embed_assets.corpus_report import report_corpus
from embed_assets.errors import InputError, NothingYet
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.check_results import check_results, check_specs, report_checks
from embed_assets.orchestration.descriptions import description
from embed_assets.orchestration.metadata import code_metadata, table_metadata
from embed_assets.orchestration.observer import Observer
from embed_assets.orchestration.partitions import partitions_definition, register_shards
from embed_assets.orchestration.shard_events import files_events
from embed_assets.quality.check_summary import CheckSummary, summarized
from embed_assets.quality.checks import WARNING_CHECKS
from embed_assets.quality.report_markdown import report_markdown
from embed_assets.quality.saved_plots import save_plots
from embed_assets.settings import PipelineSettings
from embed_assets.shards import shard_version
from embed_assets.staleness import Stale
from embed_assets.tables.table import Superseded

T = TypeVar("T")

#: Checks that need all shards at once.
CORPUS_CHECKS = {k: v for k, v in WARNING_CHECKS.items() if k == "shards_near_centroid"}


def shards_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    """The manifest; materialising it looks for new, changed and deleted files."""
    uri = OpenedPipeline(settings).tables.manifest.uri

    @dg.asset(
        key=dg.AssetKey([settings.name, "shards"]),
        group_name=settings.name,
        kinds={"python", "deltalake"},
        description=description("shards", uri),
        freshness_policy=_looked_at_within(settings.overdue_hours),
        metadata=table_metadata(settings.name, "shards", uri) | code_metadata(OpenedPipeline.plan),
    )
    def shards(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipeline = opened(settings, context, observer)
        or_fail(pipeline.check_fits)
        plan = or_fail(pipeline.plan)
        or_fail(pipeline.claim)
        register_shards(context.instance, settings.name, pipeline.pieces)
        for event in observed_files(settings.name, pipeline, pipeline.stale_shards()):
            context.log_event(event)
        return dg.MaterializeResult(metadata=corpus_metadata(plan))

    return shards


def files_spec(settings: PipelineSettings) -> dg.AssetSpec:
    """The files of each shard, which nobody makes here: what raw_corpus is stale against."""
    return dg.AssetSpec(
        key=dg.AssetKey([settings.name, "files"]),
        deps=[dg.AssetKey([settings.name, "shards"])],
        group_name=settings.name,
        kinds={"file"},
        description=(
            "The files of each shard. Only changes are recorded here: a shard whose files are "
            "others than those that were read shows below as outdated, and one whose files never "
            "changed stays empty."
        ),
        partitions_def=partitions_definition(settings.name),
    )


def observed_files(
    name: str, pipeline: OpenedPipeline, stale: Mapping[str, Stale]
) -> Iterator[dg.AssetObservation | dg.AssetMaterialization]:
    """The files' versions of shards that were read once and are to be read again."""
    for shard, found in stale.items():
        if found.has_other_files:
            yield from files_events(name, shard, shard_version(pipeline.pieces[shard]))


def corpus_metadata(plan: CorpusPlan) -> dict[str, int]:
    """Numbers of a look at the corpus."""
    shards = plan.shards
    return {
        "dagster/row_count": len(shards.manifest),
        "files": plan.n_files,
        "bytes": plan.n_bytes,
        "shards": len({row.shard for row in shards.manifest}),
        "added": len(shards.added),
        "changed": len(shards.changed),
        "removed": len(shards.removed),
        "files_passed_over": sum(plan.skipped.values()),
    }


def _looked_at_within(hours: float | None) -> dg.FreshnessPolicy | None:
    return dg.FreshnessPolicy.time_window(timedelta(hours=hours)) if hours else None


def quality_report_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    """Numbers and pictures over all shards."""
    key = dg.AssetKey([settings.name, "quality_report"])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([settings.name, "quality_metrics"])],
        group_name=settings.name,
        kinds={"python", "polars", "matplotlib"},
        description=description("quality_report", f"{settings.tables_root}/quality_report"),
        metadata=code_metadata(report_corpus),
        check_specs=check_specs(key, CORPUS_CHECKS, blocking=False),
    )
    def quality_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipeline = OpenedPipeline(settings)
        report = or_nothing_yet(lambda: report_corpus(pipeline))
        if isinstance(report, NothingYet):
            # Every night until somebody embeds something: no failure that people are told of.
            return dg.MaterializeResult(
                metadata={"report": dg.MetadataValue.text(f"Nothing is embedded yet: {report}")},
                check_results=check_results(key, summarized(CORPUS_CHECKS, ())),
            )
        folder = or_fail(lambda: save_plots(report.plots, settings.tables_root, "quality_report"))
        metadata: Mapping[str, dg.MetadataValue] = {
            "report": dg.MetadataValue.md(report_markdown(report, settings.name)),
            **({"plots": dg.MetadataValue.path(folder)} if folder else {}),
            **{k: dg.MetadataValue.float(float(v)) for k, v in report.summary.items()},
        }
        observer.corpus_checked(report.checks)
        _report_on_shards(context.instance, settings.name, report.checks)
        own = [summary for summary in report.checks if summary.check in CORPUS_CHECKS]
        return dg.MaterializeResult(metadata=metadata, check_results=check_results(key, own))

    return quality_report


def _report_on_shards(
    instance: dg.DagsterInstance, pipeline: str, checks: Sequence[CheckSummary]
) -> None:
    """Bring the checks of the shards' assets up to date: each shows its last run, which may have
    been of a few good shards. Blocking checks that pass passed when the shards were published.
    """
    blocking = [c for c in checks if c.is_blocking and not c.passed]
    warnings = [c for c in checks if not c.is_blocking and c.check not in CORPUS_CHECKS]
    report_checks(instance, dg.AssetKey([pipeline, "embeddings"]), blocking)
    report_checks(instance, dg.AssetKey([pipeline, "quality_metrics"]), warnings)


def opened(
    settings: PipelineSettings, context: dg.AssetExecutionContext, observer: Observer
) -> OpenedPipeline:
    """The pipeline, for a run that began when Dagster says, or the command that watches it."""
    if observer.started_at is not None:
        return OpenedPipeline(settings, started_at=observer.started_at)
    record = context.instance.get_run_record_by_id(context.run.run_id)
    began = record.start_time if record else None
    return OpenedPipeline(
        settings, started_at=datetime.fromtimestamp(began, UTC) if began else None
    )


def or_fail(work: Callable[[], T]) -> T:
    """The work's result; what is the input's fault, or another run's, fails without a retry."""
    try:
        return work()
    except (InputError, Superseded) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def or_nothing_yet(work: Callable[[], T]) -> T | NothingYet:
    """The same, where having nothing to work on yet is an answer and no failure."""

    def attempt() -> T | NothingYet:
        try:
            return work()
        except NothingYet as nothing:
            return nothing

    return or_fail(attempt)
