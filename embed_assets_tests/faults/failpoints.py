"""Steps of the write path at which a run can be made to die or to stop, by real signals.

Every commit of every table passes through `delta_files.commit`; these are its steps.
"""

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from deltalake import DeltaTable, write_deltalake

from embed_assets.tables import delta_files
from embed_assets.tables.durable import sync_commit

#: In order: before anything is written; a data file is there but no commit; the commit is there
#: but not yet brought to the disk; all done, but nobody told.
STEPS = ("before", "data", "committed", "synced")


@dataclass(frozen=True)
class Fault:
    """Send `signum` to oneself at the nth time that a table's commit comes to a step."""

    table: str
    step: str
    nth: int = 1
    signum: int = signal.SIGKILL

    def __str__(self) -> str:
        return f"{signal.Signals(self.signum).name} at {self.table}:{self.step}:{self.nth}"


def install(fault: Fault | None, steps_file: Path | None = None) -> None:
    """From now on, in this process: count steps, note them in a file, and strike at the fault."""
    seen: Counter[tuple[str, str]] = Counter()

    def reach(table: str, step: str) -> None:
        seen[table, step] += 1
        if steps_file is not None:
            with steps_file.open("a") as file:
                file.write(f"{table} {step} {seen[table, step]}\n")
        if fault is not None and (table, step, seen[table, step]) == (
            fault.table,
            fault.step,
            fault.nth,
        ):
            os.kill(os.getpid(), fault.signum)

    def watched_write(table: DeltaTable, *arguments: object, **options: object) -> None:
        folder = Path(table.table_uri.removeprefix("file://"))
        reach(folder.name, "before")
        written = threading.Event()
        watch = threading.Thread(target=wait_for_data, args=(folder, written), daemon=True)
        watch.start()
        try:
            write_deltalake(table, *arguments, **options)  # type: ignore[call-overload]
        finally:
            written.set()
            watch.join()
        reach(folder.name, "committed")

    def wait_for_data(folder: Path, written: threading.Event) -> None:
        """Reach "data" as soon as a new file is seen, at the latest when all is written."""
        before = set(folder.rglob("*.parquet*"))
        while not written.is_set() and not set(folder.rglob("*.parquet*")) - before:
            time.sleep(0.0005)
        reach(folder.name, "data")

    def watched_sync(table: DeltaTable, uri: str) -> None:
        sync_commit(table, uri)
        if table.version() > 0:
            reach(Path(uri).name, "synced")

    mock.patch.object(delta_files, "write_deltalake", watched_write).start()
    mock.patch.object(delta_files, "sync_commit", watched_sync).start()
