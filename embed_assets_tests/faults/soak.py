"""Hundreds of kills over a corpus that changes, seeded; counts what was lost. `make soak`.

    python -m embed_assets_tests.faults.soak [--kills 200] [--seed N] [--json FILE]

Each round changes the corpus a little, starts one to three runs at once, and kills each at a step
of the write path or at any moment. A reader looks after every round; every twentieth, a run goes
through in peace, and the tables must hold what a run that nothing disturbed gives.
"""

import argparse
import json
import os
import platform
import random
import signal
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from embed_assets.doctor.child import Child
from embed_assets.doctor.examination import examine
from embed_assets.doctor.finding import Kind
from embed_assets_tests.faults.failpoints import STEPS, Fault
from embed_assets_tests.faults.processes import DONE, SUPERSEDED, Lab
from embed_assets_tests.faults.truth import assert_as_undisturbed, assert_readable
from embed_assets_tests.tiny_models import bert_model

TABLES = ("shards", "raw_corpus", "rejected", "chunks", "checkpoints", "embeddings")
_WORDS = ("apple", "pear", "plum", "sloe", "quince", "medlar", "cherry", "grape", "fig", "date")


@dataclass
class Tally:
    """What became of the kills."""

    seed: int
    kills: int = 0
    kills_at_a_step: int = 0
    kills_at_any_moment: int = 0
    runs: int = 0
    wrong: int = 0
    unreadable: int = 0
    peaceful_runs_compared: int = 0
    seconds: float = 0.0


class Soak:
    """One soak."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._rng = random.Random(seed)
        self._lab = Lab(folder, bert_model(folder / "model"))
        self._lab.corpus.mkdir()
        self.tally = Tally(seed)
        for _ in range(6):
            self._change()

    def round(self) -> None:
        """Change the corpus, run, kill."""
        self._change()
        n_runs = self._rng.choice([1, 2, 3])
        victims = [self._start() for _ in range(n_runs)]
        for process, deadline in victims:
            self._kill(process, deadline)
        try:
            assert_readable(self._lab.settings.tables)
        except AssertionError as error:
            self.tally.unreadable += 1
            print(f"unreadable: {error}")

    def compare(self) -> None:
        """Let a run go through in peace, and hold the tables against the truth."""
        code = self._lab.finish()
        self.tally.peaceful_runs_compared += 1
        try:
            assert code == DONE, f"exit code {code}: {self._lab.refusal}"
            assert_as_undisturbed(self._lab.settings)
            with Child() as child:
                found = examine(self._lab.settings.tables, child)
            bad = [finding for finding in found if finding.kind is not Kind.LEFTOVER]
            assert not bad, str(bad)
            self._lab.forget()
            assert self._lab.finish() == DONE
            assert not self._lab.encoded, "a run with nothing to do has embedded something"
        except AssertionError as error:
            self.tally.wrong += 1
            print(f"wrong: {error}")

    def _start(self) -> tuple[BaseProcess, float | None]:
        if self._rng.random() < 0.5:
            fault = Fault(
                self._rng.choice(TABLES), self._rng.choice(STEPS), self._rng.randint(1, 3)
            )
            return self._lab.start(fault), None
        return self._lab.start(), time.monotonic() + self._rng.uniform(0.02, 1.0)

    def _kill(self, process: BaseProcess, deadline: float | None) -> None:
        if deadline is not None:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
        process.join(120)
        self.tally.runs += 1
        if process.exitcode == -signal.SIGKILL:
            self.tally.kills += 1
            self.tally.kills_at_a_step += deadline is None
            self.tally.kills_at_any_moment += deadline is not None
        elif process.exitcode not in (DONE, SUPERSEDED):
            self.tally.wrong += 1
            print(f"a run ended with {process.exitcode}: {self._lab.refusal}")

    def _change(self) -> None:
        """Add, change, rename or delete a file."""
        files = sorted(self._lab.corpus.iterdir())
        what = self._rng.choice(["add", "change", "change", "rename", "delete"])
        if what == "add" or len(files) < 4:
            self._write(self._lab.corpus / f"{self._rng.randrange(10**6)}.txt")
        elif what == "change":
            self._write(self._rng.choice(files))
        elif what == "rename":
            self._rng.choice(files).rename(self._lab.corpus / f"{self._rng.randrange(10**6)}.txt")
        else:
            self._rng.choice(files).unlink()

    def _write(self, path: Path) -> None:
        words = self._rng.choices(_WORDS, k=self._rng.randint(20, 300))
        # A time of its own: a change within the clock's tick would be a change unseen.
        path.write_text(" ".join(words) + f" {time.time_ns()}.")


def main() -> None:
    """Soak, print the tally, and exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), arguments.seed)
        n_rounds = 0
        while soak.tally.kills < arguments.kills:
            soak.round()
            n_rounds += 1
            if n_rounds % 20 == 0:
                soak.compare()
                print(f"{soak.tally.kills} kills", flush=True)
        soak.compare()
        log = Path(soak._lab.settings.tables) / "embeddings" / "_delta_log"
        print(f"{len(list(log.glob('*.json')))} commits of embeddings")
    soak.tally.seconds = round(time.monotonic() - began, 1)
    told = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        **asdict(soak.tally),
    }
    print(json.dumps(told, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")
    raise SystemExit(1 if soak.tally.wrong or soak.tally.unreadable else 0)


if __name__ == "__main__":
    main()
