"""Walk the shards of a run: each recorded as it is published, and one bad shard stops no other."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import dagster as dg

from embed_assets.errors import InputError
from embed_assets.orchestration.observer import Observer
from embed_assets.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from embed_assets.orchestration.shard_events import ShardEvents
from embed_assets.outcome import Outcome
from embed_assets.shard_stream import Result
from embed_assets.tables.table import Superseded
from embed_assets.wording import counted


def run_shards(
    context: dg.AssetExecutionContext,
    stage: str,
    run: Callable[[Sequence[str]], Generator[Result]],
    observer: Observer,
    events: ShardEvents,
) -> list[Outcome]:
    """Run a stage for every shard of the run; `run` gives each with what became of it.

    Raises dagster.Failure at the end if any shard failed, naming each with its reason. It is
    retried only if a reason was not the input's fault.
    """
    outcomes: list[Outcome] = []
    failures: dict[str, Exception] = {}
    # Always partition_keys: a run over a range of one key has no partition_key.
    shards: Sequence[str] = context.partition_keys
    if not shards:
        tags = context.run.tags
        raise dg.Failure(
            f"no shard is in the range {tags.get(RANGE_START_TAG)}...{tags.get(RANGE_END_TAG)}: "
            "its first comes after its last",
            allow_retries=False,
        )
    observer.stage_started(stage, shards)
    with closing(run(shards)) as results:
        for shard, result in results:
            if isinstance(result, Outcome):
                outcomes.append(result)
                events.published(result)
                observer.shard_done(result)
            else:
                failures[shard] = result
                _log_failure(context, shard, result)
                observer.shard_failed(stage, shard, _reason(result))
    if failures:
        raise _failure(stage, failures)
    return outcomes


def _log_failure(context: dg.AssetExecutionContext, shard: str, error: Exception) -> None:
    traceback = None if _is_expected(error) else error
    context.log.error(f"shard {shard}: {_reason(error)}", exc_info=traceback)


def _failure(stage: str, failures: dict[str, Exception]) -> dg.Failure:
    unexpected = [error for error in failures.values() if not _is_expected(error)]
    first = next(iter(failures))
    failure = dg.Failure(
        description=f"{stage}: {counted(len(failures), 'shard')} failed; {first}: "
        f"{_reason(failures[first])}",
        metadata={shard: _reason(error) for shard, error in failures.items()},
        allow_retries=bool(unexpected),
    )
    failure.__cause__ = unexpected[0] if unexpected else failures[first]
    return failure


def _is_expected(error: Exception) -> bool:
    return isinstance(error, InputError | Superseded)


def _reason(error: Exception) -> str:
    return str(error) if _is_expected(error) else f"{type(error).__name__}: {error}"
