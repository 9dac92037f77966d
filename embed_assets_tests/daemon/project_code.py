"""What the code server of a test's deployment loads: one pipeline, from settings.json beside it.

A run can be asked to hold in the middle, so that a test may look, and kill it there.
"""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import dagster as dg

from embed_assets import build_pipeline, load_settings
from embed_assets_tests.faults.failpoints import Fault, install

#: Files in the project's folder: settings; a wish that a run holds; the id of the process that
#: does; what lets it go on.
SETTINGS, WISH, HELD, GO_ON = "settings.json", "wish.json", "held.txt", "go-on"


def definitions(folder: Path) -> dg.Definitions:
    """As `embed_assets.definitions` makes them, of the pipeline in settings.json."""
    if multiprocessing.parent_process() is not None:
        _hold_if_asked(folder)
    settings = load_settings(json.loads((folder / SETTINGS).read_text()))
    executor = dg.Definitions(executor=dg.in_process_executor)
    return dg.Definitions.merge(build_pipeline(settings), executor)


def _hold_if_asked(folder: Path) -> None:
    """Only in a run's own process, and only in the first that comes by."""
    taken = folder / f"taken-{os.getpid()}.json"
    try:
        (folder / WISH).rename(taken)
    except FileNotFoundError:
        return
    wish = json.loads(taken.read_text())

    def hold(_signum: int, _frame: object) -> None:
        (folder / HELD).write_text(str(os.getpid()))
        # In a signal's handler: what terminates a run ends this wait, as it would end the work.
        while not (folder / GO_ON).exists():
            time.sleep(0.02)

    signal.signal(signal.SIGUSR1, hold)
    install(Fault(wish["table"], wish["step"], wish["nth"], signal.SIGUSR1))
