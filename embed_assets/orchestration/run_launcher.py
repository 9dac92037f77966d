"""Dagster's default run launcher, with what it lacks: it notices that a run's worker is gone."""

import time

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import ConfigurableClassData, deserialize_value

from embed_assets.orchestration.run_processes import has_lasting_server, process_of

# Without its code server a run cannot be tried again, so there is no hurry.
_UNREACHABLE_SECONDS = 3600
_ASK_SECONDS = 10


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches runs in their code server, and tells the daemon which of them have died.

    With Dagster's own, a run stays "started" for ever, and keeps its pool slots, if its worker and
    its code server die together: a power cut, a restarted container. Of a worker on this machine
    its process is looked at; of one elsewhere its code server is asked. That server must be
    `dagster api grpc`: `dagster code-server start` forgets its runs when code is reloaded.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        # Run id -> when its code server first did not answer.
        self._unreachable_since: dict[str, float] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the worker of a started run lives. What nobody here can know counts as alive."""
        process = process_of(self._instance, run)
        if process is not None and process.is_alive():
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if process is not None and not has_lasting_server(run):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its process {process.pid} is gone")
        # The daemon tries a retry once, and that fails while the code server is away: a run whose
        # server can come back is not failed before it does.
        return self._ask_code_server(run.run_id)

    def _ask_code_server(self, run_id: str) -> CheckRunHealthResult:
        client = self._get_grpc_client_for_termination(run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            answer = client.can_cancel_execution(
                CanCancelExecutionRequest(run_id=run_id), timeout=_ASK_SECONDS
            )
        except DagsterUserCodeUnreachableError:
            return self._unreachable(run_id, client.host)
        self._unreachable_since.pop(run_id, None)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"the code server at {client.host} no longer works on it"
        )

    def _unreachable(self, run_id: str, host: str) -> CheckRunHealthResult:
        now = time.monotonic()
        seconds = now - self._unreachable_since.setdefault(run_id, now)
        if seconds < _UNREACHABLE_SECONDS:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"its code server at {host} has not answered for {seconds:.0f} s"
        )
