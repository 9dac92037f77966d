"""Which process works on a run, and whether it still lives. For processes of this machine alone."""

import json
import os
import socket
import time
from dataclasses import dataclass

import dagster as dg
import psutil
from dagster._core.events import DagsterEventType
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG, MAX_RETRIES_TAG

#: Says which process executes a run that no code server launched.
PROCESS_TAG = "embed_assets/process"

_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
# A clock that was set back a little must not make a worker look younger than its own run.
_SLACK_SECONDS = 5


@dataclass(frozen=True)
class RunProcess:
    """A process of this machine: its id, and a time (seconds since 1970) at which it ran."""

    pid: int
    alive_at: float

    def is_alive(self) -> bool:
        """Whether it runs still; a younger process that got the same id is another one."""
        try:
            process = psutil.Process(self.pid)
            return (
                process.status() != psutil.STATUS_ZOMBIE
                and process.create_time() <= self.alive_at + _SLACK_SECONDS
            )
        except psutil.NoSuchProcess:
            return False


def this_process() -> dict[str, str]:
    """Tags for a run that this process executes itself, and that nobody can start again."""
    return _tags(RunProcess(os.getpid(), time.time()))


def note_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """The same for a run that goes on already, if it is such a one: that of `dg launch`."""
    is_launched = GRPC_INFO_TAG in run.tags or PROCESS_TAG in run.tags
    if is_launched or not isinstance(instance.run_launcher, DefaultRunLauncher):
        return
    process = _executing_process(instance, run)
    if process is not None:
        instance.add_run_tags(run.run_id, _tags(process))


def _tags(process: RunProcess) -> dict[str, str]:
    told = {"host": socket.gethostname(), "pid": process.pid, "alive_at": process.alive_at}
    return {PROCESS_TAG: json.dumps(told), MAX_RETRIES_TAG: "0"}


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunProcess | None:
    """The process that works on a started run; None if it is not known to be on this machine."""
    if PROCESS_TAG in run.tags:
        told = json.loads(run.tags[PROCESS_TAG])
        here = told["host"] == socket.gethostname()
        return RunProcess(told["pid"], told["alive_at"]) if here else None
    return _executing_process(instance, run) if _is_launched_here(run) else None


def _executing_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunProcess | None:
    """What Dagster's events of a run call its process, on whatever machine."""
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" in metadata:
            return RunProcess(int(str(metadata["pid"].value)), entry.timestamp)
    return None


def has_lasting_server(run: dg.DagsterRun) -> bool:
    """Whether the run's code server has a port, where it answers again after a restart; that of
    `dagster dev` has a socket, which is another one each time.
    """
    return "port" in json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs whose process on this machine is gone, and free the pool slots that they and
    finished runs hold. Returns the ids of the runs that were failed.

    What the daemon does where one runs. Without it, `embed-assets run` would wait for ever for the
    slot of one that was killed.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        process = process_of(instance, run)
        if process is not None and not process.is_alive():
            instance.report_run_failed(run, f"The process of this run, {process.pid}, is gone.")
            ended.append(run.run_id)
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
    return ended


def _is_launched_here(run: dg.DagsterRun) -> bool:
    """Whether the code server that launched the run is on this machine."""
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return "socket" in server or server.get("host") in _THIS_MACHINE
