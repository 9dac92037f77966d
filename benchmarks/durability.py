"""What trust costs: checkpoints, checksums and fsync as a share of a whole run, and what it saves.

    python -m benchmarks.durability --corpus FOLDER [--then FOLDER | --stand-in] [--json FILE]

Runs the pipeline over a corpus stage by stage in this process and adds up the wall time that goes
into checksums, checkpoints and fsync; then runs again with nothing changed, as a user would. With
`--then`, replaces the corpus by another and counts what is embedded again. With `--stand-in`,
random vectors stand in for the model's, so that a large corpus takes a minute: seconds are then to
be compared with those of a whole run, measured elsewhere.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets import checkpoint_saver, checksums
from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.pipeline import chunk_shard, embed_shard, ingest_shard, measure_shard
from embed_assets.settings import load_settings
from embed_assets.tables import checkpoints, delta_files


class Stopwatch:
    """Wall seconds by name; what runs within another counts for that one alone."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running = False

    def watch(self, owner: object, attribute: str, name: str) -> None:
        """Time every call of a function or method from now on."""
        work: Callable[..., object] = getattr(owner, attribute)

        def timed(*arguments: object, **options: object) -> object:
            if self._running:
                return work(*arguments, **options)
            self._running, began = True, time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                self.seconds[name] += time.perf_counter() - began
                self._running = False

        setattr(owner, attribute, timed)


class StandIn:
    """Random unit vectors at once; all else is the loaded model."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._random = np.random.default_rng(0)

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def encode(
        self, _tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, NDArray[np.float32]]]:
        """Random vectors (len(rows), dimension) of length 1."""
        for batch in batches:
            vectors = self._random.normal(size=(len(batch.rows), self._encoder.dimension))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            yield batch, np.asarray(vectors, dtype=np.float32)


def run_once(corpus: str, tables: str, stand_in: bool, **values: object) -> dict[str, float]:
    """One run in this process. Returns what was embedded and how long it took."""
    settings = load_settings({"corpus": corpus, "tables": tables, **values})
    pipeline = OpenedPipeline(settings)
    began = time.perf_counter()
    pipeline.check_fits()
    pipeline.plan()
    pipeline.claim()
    embedded = chunks = 0.0
    for shard in pipeline.stale_shards():
        ingest_shard(shard, pipeline)
        chunk_shard(shard, pipeline)
        outcome = embed_shard(
            shard,
            pipeline,
            lambda: cast(Encoder, StandIn(pipeline.encoder())) if stand_in else pipeline.encoder(),
        )
        measure_shard(shard, pipeline)
        embedded += outcome.numbers.get("embedded_chunks", 0)
        chunks += outcome.numbers.get("chunks", 0)
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 2), "chunks": chunks, "embedded_chunks": embedded}


def texts(tables: str) -> set[str]:
    """The distinct chunk texts that stand."""
    return set(pl.read_delta(f"{tables}/chunks")["text_hash"])


def n_commits(tables: str) -> int:
    """Commits that added checkpoints."""
    log = Path(tables) / "checkpoints" / "_delta_log"
    return sum('"add"' in file.read_text() for file in log.glob("*.json"))


def no_change(corpus: str, tables: str, **values: object) -> float:
    """Wall seconds of `embed-assets run` where there is nothing to do, start-up included."""
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in values.items()]
    command = [sys.executable, "-m", "embed_assets", "run", "--corpus", corpus, "--tables", tables]
    began = time.perf_counter()
    done = subprocess.run([*command, *flags], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if "nothing to do" not in done.stdout:
        raise SystemExit(f"there was something to do: {done.stdout}")
    return round(seconds, 2)


def measured(corpus: Path, then: Path | None, stand_in: bool) -> dict[str, object]:
    """All figures."""
    stopwatch = Stopwatch()
    stopwatch.watch(checksums, "row_checksums", "checksums")
    stopwatch.watch(checksums, "rows_digest", "checksums")
    stopwatch.watch(delta_files, "sync_commit", "fsync")
    stopwatch.watch(checkpoint_saver.CheckpointSaver, "_save", "checkpoints")
    stopwatch.watch(checkpoints.DeltaCheckpoints, "clear", "checkpoints")
    stopwatch.watch(checkpoints.DeltaCheckpoints, "read", "checkpoints")
    with tempfile.TemporaryDirectory() as folder:
        place, tables = Path(folder) / "corpus", f"{folder}/tables"
        shutil.copytree(corpus, place)
        # As many checkpoints as a whole run of half an hour would make.
        faster = {"checkpoint_seconds": 0.02} if stand_in else {}
        first = run_once(str(place), tables, stand_in, **faster)
        parts = {name: round(spent, 3) for name, spent in stopwatch.seconds.items()}
        share = sum(parts.values()) / first["seconds"]
        figures: dict[str, object] = {
            "corpus": corpus.name,
            "model": "random vectors" if stand_in else "all-MiniLM-L6-v2",
            "checkpoint_commits": n_commits(tables),
            "first_run": first,
            "seconds_by_part": parts,
            "share_of_the_run": round(share, 5),
            "no_change_seconds": no_change(str(place), tables),
        }
        if then is not None:
            before = texts(tables)
            shutil.rmtree(place)
            shutil.copytree(then, place)
            second = run_once(str(place), tables, stand_in)
            figures["then"] = then.name
            figures["second_run"] = second
            figures["texts_that_are_new"] = len(texts(tables) - before)
    return figures


def main() -> None:
    """Measure and print; with --json, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--then", type=Path)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}"
    date = datetime.now(UTC).date().isoformat()
    told = {
        "date": date,
        "machine": machine,
        **measured(arguments.corpus, arguments.then, arguments.stand_in),
    }
    print(json.dumps(told, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
