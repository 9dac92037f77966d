"""Runs whose process died are noticed, failed, and give back what they held."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from embed_assets.orchestration import run_launcher
from embed_assets.orchestration.run_launcher import WatchedRunLauncher
from embed_assets.orchestration.run_processes import (
    PROCESS_TAG,
    RunProcess,
    end_dead_runs,
    this_process,
)
from embed_assets_tests.deploy.servers import ROOT, free_port, process

HERE = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": "/tmp/gone"})}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance as dagster.yaml says."""
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        yield instance


@contextmanager
def sleeper() -> "Iterator[subprocess.Popen[bytes]]":
    """A process that waits to be killed."""
    made = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        yield made
    finally:
        made.kill()
        made.wait()


def started(
    instance: dg.DagsterInstance, tags: dict[str, str], pid: int | None = None
) -> dg.DagsterRun:
    """A run that goes on in a process, as Dagster records it."""

    @dg.job
    def job() -> None: ...

    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    if pid is not None:
        instance.report_engine_event("Started process", run, EngineEventData.in_process(pid))
    return run


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> WorkerStatus:
    return instance.run_launcher.check_run_worker_health(run).status


def test_a_worker_whose_process_is_killed_is_noticed(instance: dg.DagsterInstance) -> None:
    with sleeper() as worker:
        run = started(instance, HERE, worker.pid)
        # Its code server is gone, too; the worker works on.
        assert health(instance, run) == WorkerStatus.RUNNING
        worker.kill()
        worker.wait()
        assert health(instance, run) == WorkerStatus.FAILED


def test_a_younger_process_with_the_same_id_is_not_the_worker() -> None:
    before_a_reboot = time.time() - 3600
    assert RunProcess(os.getpid(), time.time()).is_alive()
    with sleeper() as other:
        assert not RunProcess(other.pid, before_a_reboot).is_alive()


def test_what_nobody_here_can_know_counts_as_alive(instance: dg.DagsterInstance) -> None:
    elsewhere = {PROCESS_TAG: json.dumps({"host": "elsewhere", "pid": 1, "alive_at": 0.0})}
    assert health(instance, started(instance, elsewhere)) == WorkerStatus.RUNNING
    assert health(instance, started(instance, {})) == WorkerStatus.RUNNING


@pytest.mark.slow
def test_of_a_run_elsewhere_its_code_server_is_asked(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # "Elsewhere" is another name of this machine.
    monkeypatch.setattr("embed_assets.orchestration.run_processes._THIS_MACHINE", set())
    (tmp_path / "project.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    port = free_port()
    server = [sys.executable, "-m", "dagster", "api", "grpc", "-f", "project.py", "-p", str(port)]
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "port": port})}
    run = started(instance, tags, os.getpid())
    with process(server, port, tmp_path / "log", DAGSTER_HOME=str(tmp_path)):
        # The server has been started anew and knows nothing of the run.
        assert health(instance, run) == WorkerStatus.FAILED
    assert health(instance, run) == WorkerStatus.RUNNING, "it may be starting again"
    monkeypatch.setattr(run_launcher, "_UNREACHABLE_SECONDS", 0)
    assert health(instance, run) == WorkerStatus.FAILED


def test_a_killed_command_leaves_no_started_run_and_no_pool_slot(
    instance: dg.DagsterInstance,
) -> None:
    slots = instance.event_log_storage
    dead = {PROCESS_TAG: json.dumps({**json.loads(this_process()[PROCESS_TAG]), "pid": 2**22 + 1})}
    killed, alive = started(instance, dead), started(instance, this_process())
    slots.initialize_concurrency_limit_to_default("gpu")
    slots.claim_concurrency_slot("gpu", killed.run_id, "notes__embeddings")

    assert end_dead_runs(instance) == [killed.run_id]
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses[killed.run_id] == dg.DagsterRunStatus.FAILURE
    assert statuses[alive.run_id] == dg.DagsterRunStatus.STARTED
    assert slots.get_concurrency_info("gpu").active_slot_count == 0
    assert end_dead_runs(instance) == []
