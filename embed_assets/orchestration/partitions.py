"""Shards as Dagster partitions: register the manifest's keys, cut stale ones into runs."""

from collections.abc import Collection, Iterable, Sequence

import dagster as dg

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def partitions_definition(pipeline_name: str) -> dg.DynamicPartitionsDefinition:
    """One set of dynamic partitions per pipeline that reads a corpus (`shards_owner` of the
    settings), so that two never see each other's shards.
    """
    return dg.DynamicPartitionsDefinition(name=f"{pipeline_name}_shards")


def register_shards(
    instance: dg.DagsterInstance, pipeline_name: str, shards: Collection[str]
) -> None:
    """Make the registered partitions those of the manifest."""
    name = partitions_definition(pipeline_name).name or ""
    registered = set(instance.get_dynamic_partitions(name))
    # Sorted: a range in Dagster runs in the order in which keys were added.
    if new := sorted(set(shards) - registered):
        instance.add_dynamic_partitions(name, new)
    for gone in sorted(registered - set(shards)):
        instance.delete_dynamic_partition(name, gone)


def contiguous_runs(
    wanted: Collection[str], registered: Iterable[str], most: int
) -> list[list[str]]:
    """The wanted keys cut into runs of neighbours in `registered`, at most `most` keys each.

    A run takes a range of partitions, and a range has no holes.
    """
    runs: list[list[str]] = []
    last_was_wanted = False
    for key in registered:
        if key not in wanted:
            last_was_wanted = False
            continue
        if not last_was_wanted or len(runs[-1]) == most:
            runs.append([])
        runs[-1].append(key)
        last_was_wanted = True
    return runs


def range_tags(shards: Sequence[str]) -> dict[str, str]:
    """Run tags that select a range of partitions, from its first to its last key."""
    return {RANGE_START_TAG: shards[0], RANGE_END_TAG: shards[-1]}
