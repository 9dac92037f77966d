"""What the assets of a pipeline that are partitioned by shard have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import wraps

import click
import dagster as dg

from embed_assets.digests import digest
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.automation import when_stale
from embed_assets.orchestration.descriptions import description
from embed_assets.orchestration.metadata import code_metadata, table_metadata
from embed_assets.orchestration.observer import Observer, Silent
from embed_assets.orchestration.partitions import partitions_definition
from embed_assets.orchestration.run_processes import note_process
from embed_assets.outcome import Outcome
from embed_assets.settings import READING_SETTINGS, PipelineSettings

# Resumes from the tables, not from Dagster's memory: a retry skips every shard that is done.
_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)

# What Dagster says of a run that asks for what is not there, such as a partition.
_FINAL = (dg.DagsterInvalidInvocationError, dg.DagsterInvariantViolationError)

# `dg launch` and `dagster asset materialize`, which execute assets in their own process.
_LAUNCHING_COMMANDS = {"launch", "materialize"}

# Settings that change what each stage makes: the UI marks shards as outdated when they do.
_STAGE_SETTINGS = {
    "raw_corpus": READING_SETTINGS,
    "chunks": ("model", "revision", "document_prompt", "max_tokens", "overlap"),
    "embeddings": ("model", "revision", "precision", "normalize", "truncate_dim"),
    "quality_metrics": (),
}

Body = Callable[[dg.AssetExecutionContext, "StageConfig"], Iterator[dg.MaterializeResult]]
Decorator = Callable[[Body], dg.AssetsDefinition]


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
    decorator = dg.asset(
        key=dg.AssetKey([settings.name, stage]),
        deps=[upstream],
        group_name=settings.name,
        description=description(stage, uri),
        kinds={"python", "deltalake", *kinds},
        partitions_def=partitions_definition(settings.shards_owner),
        automation_condition=when_stale(settings),
        backfill_policy=_backfill_policy(settings),
        metadata=table_metadata(settings.name, stage, uri) | code_metadata(code),
        code_version=digest(stage, *(f"{k}={v}" for k, v in sorted(values.items())))[:12],
        check_specs=check_specs,
        required_resource_keys=set(required_resource_keys),
        pool=pool,
    )

    def decorated(body: Body) -> dg.AssetsDefinition:
        # Where somebody watches, they decide.
        made: dg.AssetsDefinition = decorator(
            _retrying(body) if isinstance(observer, Silent) else body
        )
        return made

    return decorated


def _backfill_policy(settings: PipelineSettings) -> dg.BackfillPolicy:
    """`shards_per_run` shards to a run. `dg launch`, which has no daemon to start several, takes a
    range in one run, and refuses it for assets that ask for more.
    """
    command = click.get_current_context(silent=True)
    if command is not None and command.info_name in _LAUNCHING_COMMANDS:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(settings.shards_per_run)


def _retrying(body: Body) -> Body:
    """A body that Dagster tries again after an error that may pass.

    The same by a retry policy would answer a signal, too: the step would begin anew in a process
    that is being stopped, and the run would be cancelled or run again only after that.
    """

    @wraps(body)
    def attempt(
        context: dg.AssetExecutionContext, config: StageConfig
    ) -> Iterator[dg.MaterializeResult]:
        note_process(context.instance, context.run)
        try:
            yield from body(context, config)
        except Exception as error:
            if isinstance(error, _FINAL) or (
                isinstance(error, dg.Failure) and not error.allow_retries
            ):
                raise
            raise dg.RetryRequested(
                _RETRIES.max_retries, _RETRIES.calculate_delay(context.retry_number + 1)
            ) from error

    return attempt
