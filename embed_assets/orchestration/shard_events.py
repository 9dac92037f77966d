"""What Dagster is told of each shard: that it is there, its numbers, and its data version.

Dagster ends a step over a range with one event per shard that all share one data version, so a
change in one shard would make its neighbours look stale. Ours follow it and are what counts: a
digest of the shard's rows, the version of the code, and what was seen of the inputs.
"""

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

from embed_assets.orchestration.metadata import shard_metadata
from embed_assets.outcome import Outcome
from embed_assets.tables.table import ShardState, ShardTable

_NO_ROWS = "no rows"
# Before every event: what comes first after it counts as new.
_BEFORE_ALL = 1


class ShardEvents:
    """The events of one step, in which an asset's table is written."""

    def __init__(self, context: dg.AssetExecutionContext, table: ShardTable) -> None:
        self._context = context
        self._table = table
        # Each look at the range asks the instance for all partitions.
        self._is_range = len(context.partition_keys) > 1
        key = context.asset_key
        self._code_version = context.assets_def.code_versions_by_key[key]
        # Before any input is read: what comes later has not been seen.
        self._seen = {
            dep: _latest_event(context.instance, dep)
            for dep in sorted(context.assets_def.asset_deps[key])
        }

    def published(self, outcome: Outcome) -> None:
        """Tell Dagster at once that a shard is done: a later crash must not take that back."""
        if outcome.written and self._is_range:
            self._log(outcome, self._table.states(), {})

    def finished(self, outcomes: Sequence[Outcome], of_run: Mapping[str, dg.MetadataValue]) -> None:
        """Give every shard its own data version; to be called when Dagster's events are out.

        The last one carries the numbers of the run: an asset's page shows its latest event.
        """
        states = self._table.states()
        for outcome in outcomes:
            self._log(outcome, states, of_run if outcome is outcomes[-1] else {})

    def _log(
        self,
        outcome: Outcome,
        states: Mapping[str, ShardState],
        more: Mapping[str, dg.MetadataValue],
    ) -> None:
        self._context.log_event(
            dg.AssetMaterialization(
                asset_key=self._context.asset_key,
                partition=outcome.shard,
                metadata={**shard_metadata(outcome), **more},
                tags=self._tags(states.get(outcome.shard)),
            )
        )

    def _tags(self, state: ShardState | None) -> dict[str, str]:
        made_from, version = state.versions if state else (_NO_ROWS, _NO_ROWS)
        tags = {DATA_VERSION_TAG: version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
        if self._code_version is not None:
            tags[CODE_VERSION_TAG] = self._code_version
        for dep, event in self._seen.items():
            tags[get_input_data_version_tag(dep)] = made_from
            tags[get_input_event_pointer_tag(dep)] = str(event)
        return tags


def files_events(
    pipeline_name: str, shard: str, version: str
) -> tuple[dg.AssetObservation, dg.AssetMaterialization]:
    """Tell Dagster which version of a shard's files is there now.

    Twice: of an external asset, what is outdated is told by observations, and automation conditions
    look at materialisations.
    """
    key = dg.AssetKey([pipeline_name, "files"])
    tags = {DATA_VERSION_TAG: version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    return (
        dg.AssetObservation(asset_key=key, partition=shard, tags=tags),
        dg.AssetMaterialization(asset_key=key, partition=shard, tags=tags),
    )


def _latest_event(instance: dg.DagsterInstance, key: dg.AssetKey) -> int:
    """Storage id of the latest event of an asset, whatever its partition."""
    ids = [
        record.storage_id
        for fetch in (instance.fetch_materializations, instance.fetch_observations)
        for record in fetch(key, limit=1).records
    ]
    return max(ids, default=_BEFORE_ALL)
