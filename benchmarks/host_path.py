"""Files to chunks to token ids to tables, with an encoder that costs nothing: the host's share.

    python -m benchmarks.host_path --corpus folder [--shard-bytes 64MiB] [--copies 10]

Each measurement is a process of its own, with the optional extra `fast` and without. It goes
through the stages one by one as a run of Dagster does. CPU seconds say more than wall clock where
other work has the machine: with both cores free, `cpu / cores` is the least a stage can take.
`--copies`
writes the corpus that many times over, no two texts alike, to see what memory does as it grows.
Results go to `benchmarks/results/host-path.json`, one entry a corpus, size and shard size.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.device_answers import device_name
from embed_assets.embedding.length_buckets import Batch, plan_batches
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.outcome import Outcome
from embed_assets.shard_claims import ShardClaims
from embed_assets.shard_stream import Result

RESULTS = Path(__file__).parent / "results" / "host-path.json"
Measurement = dict[str, Any]


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="folder of text")
    parser.add_argument("--shard-bytes", default="8MiB")
    parser.add_argument("--copies", type=int, default=1, help="how often the corpus is written")
    parser.add_argument("--repeats", type=int, default=3, help="the median is reported")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(arguments.corpus)
        if arguments.copies > 1:
            corpus = write_copies(corpus, Path(scratch), arguments.copies)
        # In turn, so that whatever else the machine does slows both alike.
        runs = [
            in_own_process(str(corpus.resolve()), arguments.shard_bytes, fast)
            for _ in range(arguments.repeats)
            for fast in (True, False)
        ]
    name = f"{Path(arguments.corpus).name} x{arguments.copies}, shards of {arguments.shard_bytes}"
    entry = {
        "hardware": f"{device_name('cpu')}, load {os.getloadavg()[0]:.1f}",
        "versions": {p: version(p) for p in ("tokenizers", "nanotoken", "polars", "deltalake")},
        "with fast": median([run for run in runs if run["fast"]]),
        "without fast": median([run for run in runs if not run["fast"]]),
    }
    print(json.dumps({name: entry}, indent=1))
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | {name: entry}, indent=1) + "\n")
    print(f"written to {RESULTS}", file=sys.stderr)


def median(runs: list[Measurement]) -> Measurement:
    """The run of the median speed."""
    ordered = sorted(runs, key=lambda run: float(run["mb_per_second"]))
    return ordered[len(ordered) // 2] | {
        "all_mb_per_second": [run["mb_per_second"] for run in ordered],
        "cpu_seconds_median": statistics.median(run["cpu_seconds"] for run in runs),
    }


def write_copies(corpus: Path, folder: Path, n_copies: int) -> Path:
    """The files of a corpus several times over; each paragraph says which copy it is from."""
    for i in range(n_copies):
        for file in sorted(path for path in corpus.rglob("*") if path.is_file()):
            text = file.read_text(encoding="utf-8", errors="replace")
            target = folder / "corpus" / f"copy-{i}" / file.relative_to(corpus)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace("\n\n", f"\n\nCopy {i}. "), encoding="utf-8")
    return folder / "corpus"


def in_own_process(corpus: str, shard_bytes: str, fast: bool) -> Measurement:
    """One measurement."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(corpus, shard_bytes, fast, sender))
    process.start()
    sender.close()
    try:
        result: Measurement = receiver.recv()
    except EOFError:
        raise SystemExit("the process that measures died; see its error above") from None
    finally:
        process.join()
    return result


def _measure(corpus: str, shard_bytes: str, fast: bool, sender: Connection) -> None:
    if not fast:
        # As if the extra were not installed.
        sys.modules["nanotoken"] = None  # type: ignore[assignment]
    from embed_assets import pipeline as stages
    from embed_assets.concurrency import shards_at_once, shards_read_at_once
    from embed_assets.opened_pipeline import OpenedPipeline
    from embed_assets.settings import load_settings
    from embed_assets.shard_stream import embed_shards, side_by_side
    from embed_assets.terminal import quiet_libraries

    quiet_libraries()
    with tempfile.TemporaryDirectory() as tables:
        settings = {"corpus": corpus, "tables": tables, "shard_bytes": shard_bytes}
        opened = OpenedPipeline(load_settings(settings))
        plan = opened.plan()
        opened.chunker()  # Loading the tokenizer is not measured.
        encoder = NoEncoder(opened)
        shards = sorted(opened.pieces)

        def host_stage(
            stage: str,
            run: Callable[..., Outcome],
            at_once: Callable[[int], int] = shards_at_once,
        ) -> Generator[Result]:
            claims, n_at_once = ShardClaims(opened, stage), at_once(opened.settings.shard_bytes)
            return side_by_side(partial(run, pipeline=opened), shards, claims, n_at_once)

        reading = shards_read_at_once
        timed: dict[str, Callable[[], Generator[Result]]] = {
            "raw_corpus": lambda: host_stage("raw_corpus", stages.ingest_shard, reading),
            "chunks": lambda: host_stage("chunks", stages.chunk_shard),
            "embeddings": lambda: embed_shards(
                shards, opened, [lambda: encoder], ShardClaims(opened, "embeddings")
            ),
            "quality_metrics": lambda: host_stage("quality_metrics", stages.measure_shard),
        }
        seconds: dict[str, float] = {}
        cpu_seconds: dict[str, float] = {}
        n_chunks = 0
        for stage, run in timed.items():
            started, cpu = time.perf_counter(), time.process_time()
            for _, outcome in run():
                if isinstance(outcome, Exception):
                    raise outcome
                n_chunks += outcome.n_rows if stage == "chunks" else 0
            seconds[stage] = round(time.perf_counter() - started, 2)
            cpu_seconds[stage] = round(time.process_time() - cpu, 2)
    total = sum(seconds.values())
    to_embeddings = total - seconds["quality_metrics"]
    sender.send(
        {
            "fast": fast,
            "n_bytes": plan.n_bytes,
            "n_shards": len(opened.pieces),
            "n_chunks": n_chunks,
            "seconds": seconds,
            "cpu_seconds_of_stages": cpu_seconds,
            "cpu_seconds": round(sum(cpu_seconds.values()), 2),
            "mb_per_second": round(plan.n_bytes / 1e6 / total, 2),
            "mb_per_second_to_embeddings": round(plan.n_bytes / 1e6 / to_embeddings, 2),
            "peak_memory_mb": round(peak_memory() / 1e6),
        }
    )


def peak_memory() -> int:
    """Bytes that this process held at most, without those of the one that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class NoEncoder:
    """An Encoder whose vectors cost nothing: random ones, made once. Zeros would be refused."""

    device = "cpu"
    precision = "fp32"
    max_tokens_per_batch = 16_384

    def __init__(self, opened: Any) -> None:  # noqa: ANN401  an OpenedPipeline
        from embed_assets.embedding.tokenizer import load_tokenizer

        self.dimension = int(opened.dimension)
        vectors = np.random.default_rng(0).normal(size=(4096, self.dimension))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors.astype(np.float32)
        self._tokenizer = load_tokenizer(opened.model)

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        """Texts of similar length together."""
        return plan_batches(lengths, max_tokens_per_batch)

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, NDArray[np.float32]]]:
        """A unit vector for each row."""
        for batch in batches:
            yield batch, self._vectors[batch.rows % len(self._vectors)]

    def token_ids(self, text: str) -> list[int]:
        """What the model's tokenizer makes of a text."""
        return list(self._tokenizer.encode(text).ids)

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """A unit vector."""
        vector: NDArray[np.float32] = self._vectors[0]
        return vector


if __name__ == "__main__":
    main()
