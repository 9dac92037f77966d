"""What the assets of a pipeline that are partitioned by shard have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import dagster as dg

from embed_assets.digests import digest
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.automation import when_stale
from embed_assets.orchestration.descriptions import description
from embed_assets.orchestration.metadata import code_metadata, table_metadata
from embed_assets.orchestration.observer import Observer, Silent
from embed_assets.orchestration.partitions import partitions_definition
from embed_assets.outcome import Outcome
from embed_assets.settings import READING_SETTINGS, PipelineSettings

# Resumes from the tables, not from Dagster's memory: a retry skips every shard that is done.
_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)

# Settings that change what each stage makes: the UI marks shards as outdated when they do.
_STAGE_SETTINGS = {
    "raw_corpus": READING_SETTINGS,
    "chunks": ("model", "revision", "document_prompt", "max_tokens", "overlap"),
    "embeddings": ("model", "revision", "precision", "normalize", "truncate_dim"),
    "quality_metrics": (),
}

Decorator = Callable[[Callable[..., Iterator[dg.MaterializeResult]]], dg.AssetsDefinition]


class StageConfig(dg.Config):
    """Options of one run."""

    force: bool = False


def shard_asset(
    settings: PipelineSettings,
    stage: str,
    observer: Observer,
    *,
    upstream: dg.AssetKey,
    code: Callable[..., Outcome],
    kinds: Iterable[str] = ("polars",),
    check_specs: Sequence[dg.AssetCheckSpec] = (),
    required_resource_keys: AbstractSet[str] = frozenset(),
    pool: str | None = None,
) -> Decorator:
    """The decorator of the asset of a stage, whose work is in `code`.

    One partitions definition and one backfill policy let Dagster run them together,
    `shards_per_run` shards to a process.
    """
    uri = OpenedPipeline(settings).tables.by_shard[stage].uri
    values = settings.model_dump(include=set(_STAGE_SETTINGS[stage]), mode="json")
    decorator: Decorator = dg.asset(
        key=dg.AssetKey([settings.name, stage]),
        deps=[upstream],
        group_name=settings.name,
        description=description(stage, uri),
        kinds={"python", "deltalake", *kinds},
        partitions_def=partitions_definition(settings.shards_owner),
        automation_condition=when_stale(settings),
        backfill_policy=dg.BackfillPolicy.multi_run(settings.shards_per_run),
        # Where somebody watches, Dagster would answer Ctrl-C by trying again.
        retry_policy=_RETRIES if isinstance(observer, Silent) else None,
        metadata=table_metadata(settings.name, stage, uri) | code_metadata(code),
        code_version=digest(stage, *(f"{k}={v}" for k, v in sorted(values.items())))[:12],
        check_specs=check_specs,
        required_resource_keys=set(required_resource_keys),
        pool=pool,
    )
    return decorator
