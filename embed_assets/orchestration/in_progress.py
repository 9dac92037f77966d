"""Which shards somebody works on already: runs that are queued or going on, and backfills."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.errors import DagsterDefinitionChangedDeserializationError
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG

from embed_assets.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from embed_assets.staleness import STAGES

_ACTIVE = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]


@dataclass(frozen=True)
class InProgress:
    """The runs of a pipeline's partitioned assets that are queued, starting, going on or ending,
    and the shards that they and backfills take whose runs may still have to come.
    """

    n_runs: int
    shards: frozenset[str]


def in_progress(
    instance: dg.DagsterInstance,
    pipeline_name: str,
    registered: Sequence[str],
    asset_graph: BaseAssetGraph,
) -> InProgress:
    """Look at the instance's runs and backfills."""
    # Not those that Dagster calls in progress: a run that is queued is none of them.
    runs = [
        run
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
        if is_run_of(run, pipeline_name)
    ]
    backfills = instance.get_backfills(filters=BulkActionsFilter(statuses=_ACTIVE))
    taken = chain(
        *(shards_of_run(run, registered) for run in runs),
        *(_shards_of_backfill(b, pipeline_name, asset_graph) for b in backfills),
    )
    return InProgress(len(runs), frozenset(taken))


def is_run_of(run: dg.DagsterRun, pipeline_name: str) -> bool:
    """Whether a run takes shards of a pipeline through any of its stages."""
    of_assets = _keys(pipeline_name) & (run.asset_selection or frozenset())
    return run.job_name == f"{pipeline_name}_embed" or bool(of_assets)


def shards_of_run(run: dg.DagsterRun, registered: Sequence[str]) -> Iterator[str]:
    """The shards that a run takes; `registered` are all partitions in Dagster's order."""
    if shard := run.tags.get(PARTITION_NAME_TAG):
        yield shard
    first, last = run.tags.get(RANGE_START_TAG), run.tags.get(RANGE_END_TAG)
    # An end that was deleted since: then the run will fail, and what it covers nobody can tell.
    if first in registered and last in registered:
        yield from registered[registered.index(first) : registered.index(last) + 1]


def _shards_of_backfill(
    backfill: PartitionBackfill, pipeline_name: str, asset_graph: BaseAssetGraph
) -> Iterator[str]:
    if not backfill.is_asset_backfill:
        if backfill.job_name == f"{pipeline_name}_embed":
            yield from backfill.partition_names or ()
        return
    keys = _keys(pipeline_name)
    if not keys & set(backfill.asset_selection or ()):
        return
    try:
        data = backfill.get_asset_backfill_data(asset_graph)
    except DagsterDefinitionChangedDeserializationError:
        # Its assets are others now: Dagster can launch no run of it, and nor does it count it.
        return
    left = data.target_subset - data.materialized_subset - data.failed_and_downstream_subset
    for found in left.iterate_asset_partitions():
        if found.asset_key in keys and found.partition_key is not None:
            yield found.partition_key


def _keys(pipeline_name: str) -> AbstractSet[dg.AssetKey]:
    return {dg.AssetKey([pipeline_name, stage]) for stage in STAGES}
