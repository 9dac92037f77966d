"""Walk the shards of a run: each recorded as it is published, and one bad shard stops no other."""

from collections.abc import Callable, Sequence

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from embed_assets.errors import InputError
from embed_assets.orchestration.metadata import shard_metadata
from embed_assets.orchestration.observer import Observer, Silent
from embed_assets.pipeline import Outcome
from embed_assets.tables.table import Superseded


def run_shards(
    context: dg.AssetExecutionContext,
    stage: str,
    run_shard: Callable[[str], Outcome],
    observer: Observer,
) -> list[Outcome]:
    """Run a stage for every shard of the run.

    Raises dagster.Failure at the end if any shard failed, naming each with its reason. It is
    retried only if a reason was not the input's fault.
    """
    outcomes: list[Outcome] = []
    failures: dict[str, Exception] = {}
    # Always partition_keys: a run over a range of one key has no partition_key.
    shards: Sequence[str] = context.partition_keys
    observer.stage_started(stage, shards)
    for shard in shards:
        try:
            outcome = run_shard(shard)
        except DagsterExecutionInterruptedError as stop:
            if isinstance(observer, Silent):
                # Dagster would take a run that somebody terminated for one to be retried.
                raise dg.Failure(
                    f"{stage} was terminated at shard {shard}; {len(outcomes)} shards are done",
                    allow_retries=False,
                ) from stop
            raise
        except Exception as error:
            failures[shard] = error
            context.log.error(f"shard {shard}: {_reason(error)}", exc_info=not _is_expected(error))
            observer.shard_failed(stage, shard, _reason(error))
            continue
        outcomes.append(outcome)
        _record(context, outcome)
        observer.shard_done(outcome)
    if failures:
        raise _failure(stage, failures)
    return outcomes


def _record(context: dg.AssetExecutionContext, outcome: Outcome) -> None:
    """Tell Dagster at once that a shard is done: a later crash must not take that back."""
    metadata = shard_metadata(outcome)
    context.log_event(
        dg.AssetMaterialization(
            asset_key=context.asset_key, partition=outcome.shard, metadata=metadata
        )
    )
    # Dagster records every partition once more when the step ends; give that event the numbers.
    context.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=outcome.shard)


def _failure(stage: str, failures: dict[str, Exception]) -> dg.Failure:
    unexpected = [error for error in failures.values() if not _is_expected(error)]
    first = next(iter(failures))
    failure = dg.Failure(
        description=f"{stage}: {len(failures)} shards failed; {first}: {_reason(failures[first])}",
        metadata={shard: _reason(error) for shard, error in failures.items()},
        allow_retries=bool(unexpected),
    )
    failure.__cause__ = unexpected[0] if unexpected else failures[first]
    return failure


def _is_expected(error: Exception) -> bool:
    return isinstance(error, InputError | Superseded)


def _reason(error: Exception) -> str:
    return str(error) if _is_expected(error) else f"{type(error).__name__}: {error}"
