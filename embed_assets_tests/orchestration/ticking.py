"""Ticks of the file sensor, one after the other, as the daemon would run them."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from embed_assets.orchestration.file_sensor import REASON_TAG, look_for_files
from embed_assets.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from embed_assets.settings import PipelineSettings
from embed_assets_tests.orchestration.conftest import Project

#: Older than any `settle_seconds`.
LONG_AGO = time.time() - 86_400


@dataclass
class Tick:
    """What one look asked for: ranges with their reasons, keys added and deleted, events."""

    runs: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    looks: int = 0
    observed: list[str] = field(default_factory=list)
    why: str = ""


class Sensor:
    """A pipeline's sensor in a project, with its cursor and a clock of its own."""

    def __init__(self, project: Project, settings: PipelineSettings | None = None) -> None:
        self.project = project
        self.settings: PipelineSettings = settings or project.settings
        self.cursor: str | None = None
        self.now = time.time()

    def tick(self, seconds: float = 60) -> Tick:
        """Look again after so many seconds; what it wants is recorded, and no run is started."""
        self.now += seconds
        instance = self.project.instance
        graph = self.project.definitions.resolve_asset_graph()
        result = look_for_files(self.settings, instance, graph, self.cursor, self.now)
        if isinstance(result, dg.SkipReason):
            return Tick(why=result.skip_message or "")
        self.cursor = result.cursor
        tick = Tick(why=result.skip_reason.skip_message or "" if result.skip_reason else "")
        for event in result.asset_events:
            assert not isinstance(event, dg.AssetCheckEvaluation)
            instance.report_runless_asset_event(event)
            tick.looks += event.asset_key == dg.AssetKey([self.settings.name, "shards"])
            if isinstance(event, dg.AssetObservation):
                tick.observed.append(event.partition or "")
        name = f"{self.settings.name}_shards"
        for request in result.dynamic_partitions_requests or []:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                tick.added += request.partition_keys
                instance.add_dynamic_partitions(name, list(request.partition_keys))
            else:
                tick.deleted += request.partition_keys
                for key in request.partition_keys:
                    instance.delete_dynamic_partition(name, key)
        for run in result.run_requests or []:
            tick.runs.append((run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG]))
            tick.reasons.append(run.tags[REASON_TAG])
        return tick

    def run(self, tick: Tick) -> None:
        """Run what a look asked for; all must succeed."""
        for first, last in tick.runs:
            assert self.project.run("embed", first, last).success

    def catch_up(self) -> list[str]:
        """Run everything that is due. Returns the shards."""
        self.run(self.tick())
        assert self.tick().runs == []
        return self.project.shards


def write(path: Path, text: str, modified_at: float | None = LONG_AGO) -> None:
    """Write a file that was last written to at some time; None: just now."""
    path.write_text(text)
    if modified_at is not None:
        os.utime(path, (modified_at, modified_at))
