"""Runs of a pipeline as processes of their own, to be killed, stopped and started again."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.settings import PipelineSettings
from embed_assets.tables.table import Superseded
from embed_assets_tests.faults.failpoints import Fault, install
from embed_assets_tests.small_pipelines import Vectors, WatchedEncoder, run, settings_for

#: Exit codes of a run: done, overtaken by another run, refused with a reason.
DONE, SUPERSEDED, REFUSED = 0, 3, 4

#: One process that has imported everything; each run is forked from it in an instant. There is one
#: such server for all tests, and what it preloads is said here alone.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["torch", "sentence_transformers", "embed_assets_tests.small_pipelines"]
)


class Lab:
    """A corpus and tables in a folder, and what runs over them have done."""

    def __init__(self, folder: Path, model: Path, **values: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.corpus = folder / "corpus"
        # Many small batches, each committed at once: the finest steps that there are.
        fine = {"max_tokens": 16, "max_tokens_per_batch": 64, "checkpoint_seconds": 0}
        self.settings = settings_for(folder, model, **{**fine, **values})

    def start(
        self,
        fault: Fault | None = None,
        *,
        settings: PipelineSettings | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> BaseProcess:
        """A run that has begun. `prepare` runs in it first."""
        process = SERVER.Process(
            target=_run, args=((settings or self.settings), fault, self.folder, prepare)
        )
        process.start()
        return process

    def finish(
        self, fault: Fault | None = None, *, settings: PipelineSettings | None = None
    ) -> int:
        """The exit code of a whole run; minus the signal that ended it."""
        process = self.start(fault, settings=settings)
        process.join(120)
        assert process.exitcode is not None, f"the run with {fault} hangs"
        return process.exitcode

    @property
    def steps(self) -> list[Fault]:
        """Every step that the runs so far have come to, in order, each once."""
        lines = (self.folder / "steps.txt").read_text().splitlines()
        reached = [line.split() for line in dict.fromkeys(lines)]
        return [Fault(table, step, int(nth)) for table, step, nth in reached]

    @property
    def encoded(self) -> list[int]:
        """How many texts each batch so far held, over all runs."""
        path = self.folder / "encoded.txt"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    @property
    def refusal(self) -> str:
        """What the last run that was refused said."""
        return (self.folder / "refusal.txt").read_text()

    def forget(self) -> None:
        """Begin to count anew."""
        for name in ("encoded.txt", "steps.txt", "refusal.txt"):
            (self.folder / name).unlink(missing_ok=True)


def stop_at(lab: Lab, fault: Fault) -> BaseProcess:
    """A run that has stopped itself at a fault, and waits for SIGCONT."""
    process = lab.start(Fault(fault.table, fault.step, fault.nth, signal.SIGSTOP))
    assert process.pid is not None
    deadline = time.monotonic() + 120
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.is_alive(), f"the run did not come to {fault}"
        assert time.monotonic() < deadline, f"the run does not come to {fault}"
        time.sleep(0.01)
    return process


def wake(process: BaseProcess) -> int:
    """Let a stopped run go on, and wait for its exit code."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGCONT)
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _run(
    settings: PipelineSettings,
    fault: Fault | None,
    folder: Path,
    prepare: Callable[[], None] | None,
) -> None:
    if prepare is not None:
        prepare()
    install(fault, folder / "steps.txt")

    def note(vectors: Vectors) -> Vectors:
        with (folder / "encoded.txt").open("a") as file:
            file.write(f"{len(vectors)}\n")
        return vectors

    try:
        run(settings, encoder=WatchedEncoder(OpenedPipeline(settings).encoder(), note))
    except Superseded as overtaken:
        (folder / "refusal.txt").write_text(str(overtaken))
        os._exit(SUPERSEDED)
    except InputError as refused:
        (folder / "refusal.txt").write_text(str(refused))
        os._exit(REFUSED)
    os._exit(DONE)
