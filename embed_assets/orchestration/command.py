"""What `embed-assets run` and `embed-assets ui` do with Dagster."""

import os
import socket
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.utils import make_new_run_id

from embed_assets.errors import InputError, SettingsError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.orchestration.build import build_pipeline
from embed_assets.orchestration.environment import dagster_home
from embed_assets.orchestration.partitions import (
    contiguous_runs,
    range_tags,
    register_shards,
)
from embed_assets.orchestration.pool_waiting import is_blocked_by_pool
from embed_assets.orchestration.project import (
    current_project,
    declared_pipelines,
    open_instance,
    prepared_home,
)
from embed_assets.orchestration.run_processes import end_dead_runs, this_process
from embed_assets.progress_bar import ProgressBar
from embed_assets.run_summary import (
    print_interrupted,
    print_nothing_to_do,
    print_plan,
    print_summary,
    print_unread,
)
from embed_assets.settings import PipelineSettings
from embed_assets.staleness import STAGES, own_stages
from embed_assets.terminal import quiet_libraries

# What a shell gives for a process that Ctrl-C ended: 128 + SIGINT.
_INTERRUPTED = 130
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_pipeline(
    settings: PipelineSettings, *, is_declared: bool, force: bool, started_at: datetime
) -> int:
    """Bring a pipeline's tables up to date. Returns the exit code: 0 done, 1 some shards failed,
    130 interrupted.

    A declared pipeline's runs are recorded where the UI shows them; one made up on the command
    line has no assets in the UI, so its runs are kept in memory alone. Documents that another
    declared pipeline reads are brought up to date first; its vectors are left as they are.
    """
    quiet_libraries()
    pipeline = OpenedPipeline(settings, started_at=started_at)
    pipeline.check_device()
    try:
        unread = _refresh_documents(settings, started_at) if settings.documents_of else {}
    except KeyboardInterrupt:
        return _INTERRUPTED
    pipeline.check_fits()
    plan = pipeline.plan()
    pipeline.claim()
    stale = pipeline.stale_shards()
    work = {s: stale.get(s) for s in sorted(pipeline.pieces)} if force else dict(stale)
    print_plan(settings, plan, work)
    if not work:
        print_nothing_to_do(pipeline)
        print_unread(settings, unread)
        return 1 if unread else 0
    n_bytes = {s: sum(piece.n_bytes for piece in pipeline.pieces[s]) for s in work}
    bar = ProgressBar(n_bytes, started_at)
    with open_instance() if is_declared else dg.DagsterInstance.ephemeral() as instance:
        end_dead_runs(instance)
        definitions = build_pipeline(settings, observer=bar)
        runner = _Runner(settings, definitions, instance, force)
        runner.record_shards(pipeline)
        try:
            with bar:
                for shards in contiguous_runs(
                    work, sorted(pipeline.pieces), settings.shards_per_run
                ):
                    runner.run_stages(shards, own_stages(settings), bar)
        except KeyboardInterrupt:
            left = set(work) - bar.embedded if force else _without_vectors(pipeline)
            print_interrupted(work, left, force=force)
            return _INTERRUPTED
        report_error = runner.refresh_report() if pipeline.tables.embeddings.states() else None
    print_unread(settings, unread)
    print_summary(pipeline, bar, report_error)
    return 1 if unread or bar.failures or report_error else 0


def _refresh_documents(settings: PipelineSettings, started_at: datetime) -> dict[str, str]:
    """Read what changed of the corpus of the pipeline whose documents these settings embed.

    Returns the shards that could not be read, with the reasons. Nothing is done where that pipeline
    is declared in another project.
    """
    first = declared_pipelines().get(settings.documents_of or "")
    if first is None or first.tables_root != settings.documents_tables:
        return {}
    pipeline = OpenedPipeline(first, started_at=started_at)
    pipeline.check_fits()
    plan = pipeline.plan()
    pipeline.claim()
    found = pipeline.stale_shards()
    work = {shard: why for shard, why in found.items() if why.stage == STAGES[0]}
    if not (work or plan.shards.removed):
        return {}
    print_plan(first, plan, work)
    bar = ProgressBar({s: sum(p.n_bytes for p in pipeline.pieces[s]) for s in work}, started_at)
    with open_instance() as instance:
        runner = _Runner(first, build_pipeline(first, observer=bar), instance, force=False)
        runner.record_shards(pipeline)
        with bar:
            for shards in contiguous_runs(work, sorted(pipeline.pieces), first.shards_per_run):
                runner.run_stages(shards, STAGES[:1], bar)
    return {shard: reason for shard, (_, reason) in bar.failures.items()}


def _without_vectors(pipeline: OpenedPipeline) -> set[str]:
    """The shards that are to be embedded yet."""
    return {s for s, why in pipeline.stale_shards().items() if why.stage != STAGES[-1]}


class _Runner:
    """Runs jobs of one pipeline in this process."""

    def __init__(
        self,
        settings: PipelineSettings,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        force: bool,
    ) -> None:
        self._name = settings.name
        self._shards_owner = settings.shards_owner
        self._definitions = definitions
        self._instance = instance
        self._force = force

    def record_shards(self, pipeline: OpenedPipeline) -> None:
        """Register the shards as partitions: by the manifest's asset, where it is our own."""
        if self._shards_owner == self._name:
            self._must(f"{self._name}_shards")
        else:
            register_shards(self._instance, self._shards_owner, pipeline.pieces)

    def run_stages(self, shards: Sequence[str], wanted: Sequence[str], bar: ProgressBar) -> None:
        """The wanted stages for neighbouring shards; a shard that fails does not stop the others.

        In Dagster a failed step holds up everything downstream, so the shards that got through go
        on in a run of their own.
        """
        waiting, stages = [list(shards)], list(wanted)
        while waiting and stages:
            failed_stages = [self._run(group, stages, bar) for group in waiting]
            failed_stage = next((stage for stage in failed_stages if stage), None)
            if failed_stage is None:
                return
            stages = stages[stages.index(failed_stage) + 1 :]
            left = {shard for group in waiting for shard in group} - bar.failures.keys()
            waiting = contiguous_runs(left, shards, len(shards))

    def _run(self, shards: Sequence[str], stages: Sequence[str], bar: ProgressBar) -> str | None:
        """Run some stages over a range. Returns the stage in which shards failed, if any."""
        ops = {f"{self._name}__{stage}": {"config": {"force": self._force}} for stage in stages}
        run_id = make_new_run_id()

        def hear(event: dg.EventLogEntry) -> None:
            if event.dagster_event is not None and is_blocked_by_pool(event.dagster_event):
                bar.device_awaited()

        self._instance.add_event_listener(run_id, hear)
        result = self._definitions.resolve_job_def(f"{self._name}_embed").execute_in_process(
            instance=self._instance,
            run_id=run_id,
            tags={**range_tags(shards), **this_process()},
            asset_selection=[dg.AssetKey([self._name, stage]) for stage in stages],
            run_config={**_QUIET, "ops": ops},
            raise_on_error=False,
        )
        if result.success:
            return None
        failed = [
            stage for stage in stages if any(bar.failures.get(s, ("",))[0] == stage for s in shards)
        ]
        if not failed:
            if _was_interrupted(result):
                raise KeyboardInterrupt
            raise InputError(_first_failure(result))
        return failed[0]

    def refresh_report(self) -> str | None:
        """Run the quality report. Returns what went wrong, if anything."""
        try:
            self._must(f"{self._name}_report")
        except InputError as error:
            return str(error)
        return None

    def _must(self, job: str) -> None:
        """Run an unpartitioned job. Raises InputError with the first failure's reason."""
        result = self._definitions.resolve_job_def(job).execute_in_process(
            instance=self._instance,
            tags=this_process(),
            run_config=_QUIET,
            raise_on_error=False,
        )
        if not result.success:
            raise InputError(_first_failure(result))


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C ended the run: Dagster turns it into a failure."""
    failures = [e.job_failure_data for e in result.all_events if e.is_job_failure]
    stopped = RunFailureReason.UNEXPECTED_TERMINATION
    return any(failure.failure_reason is stopped for failure in failures)


def _first_failure(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            told = event.step_failure_data.user_failure_data
            error = event.step_failure_data.error
            if told is not None and told.description:
                return told.description
            return error.message.strip().splitlines()[0] if error else str(event.message)
    return "the run failed before its first step"


def open_ui(port: int, *, read_only: bool = False) -> None:
    """Replace this process by `dagster dev` on 127.0.0.1, with the project's own instance.

    `dagster dev` has no read-only mode, so that is the web server alone, without a daemon.
    """
    project = current_project()
    if project is None:
        raise InputError(
            "there is no Dagster project here: run this in one (`create-dagster project NAME` "
            "makes it), or in a checkout of embed_assets"
        )
    _refuse_taken_port(port)
    home = prepared_home(dagster_home() or project.root / ".dagster")
    os.environ["DAGSTER_HOME"] = str(home)
    # From the home folder: beside the project's dagster.yaml, Dagster would warn that it is not
    # the one in force, which it is, through a link.
    os.chdir(home)
    # Dagster tells of every beta and superseded function it uses itself, at each load.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:Function `,ignore:Parameter `,ignore:Class `")
    workspace = project.root / "workspace.yaml"
    where = (
        ["-w", str(workspace)]
        if workspace.is_file()
        else ["-m", project.definitions_module, "-d", str(project.source)]
    )
    command = ["dagster-webserver", "--read-only"] if read_only else ["dagster", "dev"]
    program = Path(sys.executable).parent / command[0]
    os.execv(program, [*command, *where, "-h", "127.0.0.1", "-p", str(port)])


def _refuse_taken_port(port: int) -> None:
    # `dagster dev` would go on without its web server.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"port {port} of 127.0.0.1 cannot be had: {error}; give another by --port"
            ) from error
