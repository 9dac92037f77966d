"""Shards as Dagster partitions: register the manifest's keys, cut stale ones into runs."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import dagster as dg

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
# Dagster recommends at most 25,000 new partitions in one tick of a sensor.
_MOST_NEW = 10_000
# A run over a shard that is up to date proves its rows again, up to a second for 64 MiB; a run of
# its own costs ten, for a process with its imports and the model.
_WIDEST_GAP = 5


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


@dataclass(frozen=True)
class PartitionChanges:
    """What makes the registered partitions those of the manifest; `order` is theirs after that."""

    definition: dg.DynamicPartitionsDefinition
    order: list[str]
    new: list[str]
    gone: list[str]

    def requests(
        self,
    ) -> list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
        """The same for a sensor's result."""
        return [
            *([self.definition.build_add_request(self.new)] if self.new else []),
            *([self.definition.build_delete_request(self.gone)] if self.gone else []),
        ]


def partition_changes(
    instance: dg.DagsterInstance, pipeline_name: str, shards: Collection[str]
) -> PartitionChanges:
    """What to change now; of very many new shards the first, and the others the next time."""
    definition = partitions_definition(pipeline_name)
    registered = list(instance.get_dynamic_partitions(definition.name or ""))
    wanted = set(shards)
    # Sorted: a range in Dagster runs in the order in which keys were added.
    new = sorted(wanted.difference(registered))[:_MOST_NEW]
    kept = [shard for shard in registered if shard in wanted]
    gone = [shard for shard in registered if shard not in wanted]
    return PartitionChanges(definition, kept + new, new, gone)


def unchanged_partitions(instance: dg.DagsterInstance, pipeline_name: str) -> PartitionChanges:
    """The registered partitions as they are."""
    definition = partitions_definition(pipeline_name)
    registered = list(instance.get_dynamic_partitions(definition.name or ""))
    return PartitionChanges(definition, registered, new=[], gone=[])


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


def bridged_runs(
    wanted: Collection[str], free: Collection[str], registered: Iterable[str], most: int
) -> list[list[str]]:
    """The wanted keys cut into few runs of neighbours in `registered`, at most `most` wanted each.

    A run may go over a few of the keys in `free`, which cost next to nothing, to reach the next
    wanted one.
    """
    runs: list[list[str]] = []
    n_wanted = 0
    gap: list[str] | None = None
    for key in registered:
        if key in wanted:
            if gap is None or n_wanted == most:
                runs.append([])
                n_wanted, gap = 0, []
            runs[-1] += [*gap, key]
            n_wanted, gap = n_wanted + 1, []
        elif gap is not None:
            gap = [*gap, key] if key in free and len(gap) < _WIDEST_GAP else None
    return runs


def range_tags(shards: Sequence[str]) -> dict[str, str]:
    """Run tags that select a range of partitions, from its first to its last key."""
    return {RANGE_START_TAG: shards[0], RANGE_END_TAG: shards[-1]}
