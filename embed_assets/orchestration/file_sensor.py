"""The sensor for new, changed and deleted files: looks, tells Dagster, asks for the runs due."""

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from embed_assets.corpus_plan import CorpusPlan
from embed_assets.errors import InputError, SettingsError
from embed_assets.manifest import CorpusLook
from embed_assets.orchestration.corpus_assets import corpus_metadata, observed_files
from embed_assets.orchestration.due_runs import (
    DueRuns,
    Shards,
    due_runs,
    held_back,
    news_only,
    reasons,
)
from embed_assets.orchestration.ended_runs import ended_runs
from embed_assets.orchestration.in_progress import in_progress
from embed_assets.orchestration.partitions import (
    PartitionChanges,
    partition_changes,
    range_tags,
    unchanged_partitions,
)
from embed_assets.orchestration.sensor_cursor import SensorCursor, cursor_text, parse_cursor
from embed_assets.settings import PipelineSettings
from embed_assets.settling import Settled, settle
from embed_assets.tables.table import Superseded
from embed_assets.watched_pipeline import WatchedPipeline

# How often a look that found nothing is told, as a share of the time until the corpus is overdue.
_TOLD_SHARE = 0.25
_SECONDS_PER_HOUR = 3600
# Of a digest: enough to tell versions of one shard apart, and the cursor stays small.
_VERSION_CHARS = 10
#: Run tag that says in words why a sensor's run is there.
REASON_TAG = "embed_assets/reason"


def file_sensor(settings: PipelineSettings) -> dg.SensorDefinition:
    """See new, changed and deleted files, register their shards and ask for their runs.

    Of a pipeline that embeds another one's documents: see documents that were made anew, or are
    gone, and ask for the runs of their shards.
    """
    launches = settings.automation == "files"
    what = "files" if settings.documents_of is None else "documents"

    @dg.sensor(
        name=f"{settings.name}_{what}",
        job_name=f"{settings.name}_embed",
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=sensor_status(settings),
        description=f"Sees new, changed and deleted {what}"
        + (
            " and runs the shards they belong to." if launches else " and tells which shards moved."
        ),
    )
    def files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if context.repository_def is None:
            raise RuntimeError("a sensor is evaluated with its repository, and there is none")
        graph = context.repository_def.asset_graph
        return look_for_files(settings, context.instance, graph, context.cursor, time.time())

    return files


def sensor_status(settings: PipelineSettings) -> dg.DefaultSensorStatus:
    """Off until a person switches it on, unless the settings say otherwise."""
    on, off = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED
    return on if settings.switched_on else off


def look_for_files(
    settings: PipelineSettings,
    instance: dg.DagsterInstance,
    asset_graph: BaseAssetGraph,
    cursor: str | None,
    now: float,
) -> dg.SensorResult | dg.SkipReason:
    """One look at the corpus at `now`, in seconds since 1970: the partitions to add and delete,
    the runs that are due, and what to remember for the next look.

    Raises SettingsError where a setting names what is not there, such as a share that is not
    mounted: a tick that fails is red, and one that is skipped is not looked at.
    """
    try:
        pipeline = WatchedPipeline(settings)
        return _Look(pipeline, instance, asset_graph, parse_cursor(cursor), now).result()
    except SettingsError:
        raise
    except (InputError, Superseded) as error:
        return dg.SkipReason(str(error))


@dataclass(frozen=True)
class _Look:
    pipeline: WatchedPipeline
    instance: dg.DagsterInstance
    asset_graph: BaseAssetGraph
    cursor: SensorCursor
    now: float

    def result(self) -> dg.SensorResult:
        before = self.cursor
        seen = self.pipeline.look()
        state = self.pipeline.state(seen.listing.files)
        if before.quiet == state and not self._is_time_to_tell:
            return dg.SensorResult(skip_reason=before.why, cursor=cursor_text(before))
        settled = self._settled(seen)
        listing = replace(seen.listing, files=settled.files)
        plan = self.pipeline.plan(replace(seen, listing=listing))
        partitions = self._partitions()
        shards, n_runs = self._shards(partitions.order, settled.moving)
        due = self._due(shards, n_runs)

        has_changed = plan.shards.has_changed or bool(partitions.new or partitions.gone)
        is_told = self._reads_files and (has_changed or self._is_time_to_tell)
        cursor = SensorCursor(
            seen=settled.seen,
            asked=due.asked,
            quiet=state if due.is_quiet and not has_changed else "",
            why=due.why,
            told_at=self.now if is_told else before.told_at,
        )
        news = (due.asked.keys() - before.asked.keys()) | set(plan.shards.changed)
        moved = {shard: why for shard, why in shards.stale.items() if shard in news}
        return dg.SensorResult(
            run_requests=[_request(run, shards) for run in due.runs],
            skip_reason=None if due.runs else due.why,
            cursor=cursor_text(cursor),
            dynamic_partitions_requests=partitions.requests(),
            asset_events=[
                *([_looked(self._settings, plan)] if is_told else []),
                *observed_files(self._settings.name, self.pipeline, moved),
            ],
        )

    @property
    def _settings(self) -> PipelineSettings:
        return self.pipeline.settings

    @property
    def _reads_files(self) -> bool:
        """Whether the pipeline looks at a corpus, and not at another pipeline's documents."""
        return self._settings.documents_of is None

    @property
    def _is_time_to_tell(self) -> bool:
        """Whether Dagster is to be told of a look even if it found nothing."""
        hours = self._settings.overdue_hours
        if hours is None or not self._reads_files:
            return False
        return self.now - self.cursor.told_at >= hours * _SECONDS_PER_HOUR * _TOLD_SHARE

    def _settled(self, seen: CorpusLook) -> Settled:
        placed = dict(seen.manifest.frame.select("source", "version").iter_rows())
        return settle(
            seen.listing.files, placed, self.cursor.seen, self.now, self._settings.settle_seconds
        )

    def _partitions(self) -> PartitionChanges:
        owner = self._settings.shards_owner
        if self._reads_files:
            return partition_changes(self.instance, owner, self.pipeline.pieces)
        # Whose shards they are registers them.
        return unchanged_partitions(self.instance, owner)

    def _shards(self, order: Sequence[str], moving_files: AbstractSet[str]) -> tuple[Shards, int]:
        """What is known of the shards, and how many runs are in progress."""
        # First the runs: one that ends between the two looks has done all of its shards by then.
        running = in_progress(self.instance, self._settings.name, order, self.asset_graph)
        stale = self.pipeline.stale_shards()
        pieces = self.pipeline.pieces
        of_moving_files = {
            shard
            for shard, own in pieces.items()
            if moving_files and any(piece.source in moving_files for piece in own)
        }
        shards = Shards(
            order=order,
            stale=stale,
            versions={s: self.pipeline.wanted_version(s)[:_VERSION_CHARS] for s in stale},
            asked=self.cursor.asked,
            busy=running.shards,
            # A shard that whose it was has not taken back yet cannot be run, either.
            moving=of_moving_files | (set(order) - pieces.keys()),
            n_moving_files=len(moving_files),
        )
        return shards, running.n_runs

    def _due(self, shards: Shards, n_runs: int) -> DueRuns:
        # Only one may launch: with conditions it is Dagster's own sensor.
        if self._settings.automation == "stale":
            return news_only(shards)
        if held := held_back(shards):
            waiting = {shard: shards.stale[shard] for shard in held}
            ended = ended_runs(self.instance, self._settings.name, waiting, shards.order)
            busy = shards.busy | ended.put_off
            shards = replace(shards, busy=busy, stopped=ended.stopped)
        return due_runs(shards, self._settings.shards_per_run, n_runs)


def _request(run: Sequence[str], shards: Shards) -> dg.RunRequest:
    return dg.RunRequest(tags={**range_tags(run), REASON_TAG: reasons(run, shards.stale)})


def _looked(settings: PipelineSettings, plan: CorpusPlan) -> dg.AssetMaterialization:
    """The event that says that somebody looked: what the freshness policy goes by."""
    return dg.AssetMaterialization([settings.name, "shards"], metadata=corpus_metadata(plan))
