"""What the code server of a test's deployment loads: one pipeline, from settings.json beside it.

A run can be asked to stop itself in the middle, so that a test may look, and kill it there.
"""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import dagster as dg

from embed_assets import build_pipeline, load_settings
from embed_assets_tests.faults.failpoints import Fault, install

#: Names of files in the project's folder: settings, a wish to stop, and who took it.
SETTINGS, STOP, STOPPED = "settings.json", "stop.json", "stopped.txt"


def definitions(folder: Path) -> dg.Definitions:
    """As `embed_assets.definitions` makes them, of the pipeline in settings.json."""
    if multiprocessing.parent_process() is not None:
        _stop_if_asked(folder)
    settings = load_settings(json.loads((folder / SETTINGS).read_text()))
    executor = dg.Definitions(executor=dg.in_process_executor)
    return dg.Definitions.merge(build_pipeline(settings), executor)


def _stop_if_asked(folder: Path) -> None:
    """Only in a run's own process, and only in the first that comes by."""
    taken = folder / f"taken-{os.getpid()}.json"
    try:
        (folder / STOP).rename(taken)
    except FileNotFoundError:
        return
    wish = json.loads(taken.read_text())
    install(Fault(wish["table"], wish["step"], wish["nth"], signal.SIGSTOP))
    (folder / STOPPED).write_text(str(os.getpid()))
