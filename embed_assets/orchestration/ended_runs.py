"""How the last run of a shard ended: cancelled, failed because of this shard, or to be tried again.

Asked only of shards that a run left half-way, so a look that finds none of those reads no runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from embed_assets.orchestration.in_progress import is_run_of, shards_of_run
from embed_assets.staleness import STAGES, Stale

# Of the pipeline's job, and as many of all jobs. A shard whose last run is further back counts as
# held back by others: that costs a run, at most one for each stage.
_MOST_RUNS_READ = 200
# Of failed runs the events are read, each from a file of its own in SQLite: 10 s for so many on a
# machine that is busy. The others have their turn at the next look.
_MOST_FAILURES_READ = 50


@dataclass(frozen=True)
class EndedRuns:
    """Of some shards: those whose last run was cancelled or failed because of them, and those to be
    left alone for now, whose last run Dagster is about to start again or nobody had time to read.
    """

    stopped: frozenset[str]
    put_off: frozenset[str]


def ended_runs(
    instance: dg.DagsterInstance,
    pipeline_name: str,
    waiting: Mapping[str, Stale],
    registered: Sequence[str],
) -> EndedRuns:
    """Look up the last run of each shard that waits, and is in no run's hands now.

    `registered` are all partitions in Dagster's order.
    """
    left = set(waiting)
    stopped: set[str] = set()
    put_off: set[str] = set()
    n_failures = 0
    for run in _newest_first(instance, pipeline_name):
        its = left.intersection(shards_of_run(run, registered))
        left -= its
        has_failed = bool(its) and run.status is dg.DagsterRunStatus.FAILURE
        if run.status is dg.DagsterRunStatus.CANCELED:
            stopped |= its
        elif run.is_complete_and_waiting_to_retry or (
            has_failed and n_failures == _MOST_FAILURES_READ
        ):
            put_off |= its
        elif has_failed:
            n_failures += 1
            stopped |= its.intersection(_at_fault(instance, run, pipeline_name, waiting))
        if not left:
            break
    return EndedRuns(frozenset(stopped), frozenset(put_off))


def _newest_first(instance: dg.DagsterInstance, pipeline_name: str) -> list[dg.DagsterRun]:
    """The last runs of a pipeline that have ended; those from the asset graph have another job."""
    records = {
        record.storage_id: record.dagster_run
        for job in (f"{pipeline_name}_embed", None)
        for record in instance.get_run_records(
            dg.RunsFilter(job_name=job, statuses=FINISHED_STATUSES), limit=_MOST_RUNS_READ
        )
    }
    runs = [records[storage_id] for storage_id in sorted(records, reverse=True)]
    return [run for run in runs if is_run_of(run, pipeline_name)]


def _at_fault(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    pipeline_name: str,
    waiting: Mapping[str, Stale],
) -> Iterator[str]:
    """The shards that a failed run names; where a step failed as a whole, all that wait at it.

    None of a run whose worker died.
    """
    stages = {f"{pipeline_name}__{stage}": stage for stage in STAGES}
    failures = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
    ).records
    for event in (failure.event_log_entry.dagster_event for failure in failures):
        if event is None or event.step_key not in stages:
            continue
        told = event.step_failure_data.user_failure_data
        if told is not None and told.metadata:
            yield from told.metadata
        else:
            stage = stages[event.step_key]
            yield from (shard for shard, why in waiting.items() if why.stage == stage)
