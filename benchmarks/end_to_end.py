"""Text to published tables, against `SentenceTransformer.encode` over the same chunk texts.

    make bench CORPUS=folder

Groups of shards are measured in turn: ours through all four stages, as a Dagster run takes them,
then the peer, in a process of its own, over a sample of the same chunk texts. So whatever else the
machine does slows both alike, and the ratio holds where the seconds do not. Results go to
`benchmarks/results/` as JSON and are printed as one table.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl

from embed_assets.embedding.device_answers import device_name
from embed_assets.embedding.model import open_model
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.pipeline import chunk_shard, ingest_shard, measure_shard
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.shard_claims import ShardClaims
from embed_assets.shard_stream import embed_shards
from embed_assets.terminal import quiet_libraries

RESULTS = Path(__file__).parent / "results"


@dataclass
class Result:
    """What was measured. Seconds are wall time; memory is the peak of this process alone."""

    corpus: str
    n_files: int
    n_bytes: int
    n_chunks: int = 0
    n_tokens: int = 0
    n_embedded_tokens: int = 0
    n_padded_tokens: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    forward_seconds: float = 0.0
    peer_tokens: int = 0
    peer_seconds: float = 0.0
    peak_memory_bytes: int = 0
    group_ratios: list[float] = field(default_factory=list)
    precision: str = ""
    hardware: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Text to published tables."""
        return sum(self.stage_seconds.values())


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="bundled:python-docs", help="folder of text")
    parser.add_argument("--shard-bytes", default="2MiB", help="how much is measured in turn")
    parser.add_argument("--group", type=int, default=3, help="shards of ours between two of peers")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "int8"])
    parser.add_argument("--peer-share", type=float, default=0.25, help="of the chunks, 0 to 1")
    parser.add_argument("--name", default="end_to_end", help="name of the result's file")
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as tables:
        settings = load_settings(
            {
                "corpus": arguments.corpus,
                "tables": tables,
                "shard_bytes": arguments.shard_bytes,
                "precision": arguments.precision,
            }
        ).located(Path.cwd())
        result = measure(settings, arguments.peer_share, arguments.group)
    result.corpus = Path(arguments.corpus).name
    print(table(result))
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{arguments.name}.json"
    target.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(f"written to {target}", file=sys.stderr)


def measure(settings: PipelineSettings, peer_share: float, group: int) -> Result:
    """Run groups of shards through the stages and a sample of each through the peer, in turn."""
    opened = OpenedPipeline(settings)
    plan = opened.plan()
    opened.prepare()
    result = Result(settings.corpus, plan.n_files, plan.n_bytes, hardware=device_name("cpu"))
    result.precision = opened.precision
    result.versions = {
        name: version(name) for name in ("torch", "sentence-transformers", "deltalake", "polars")
    }
    opened.encoder()  # Loading is not measured, on either side.
    peer = Peer(settings)
    shards = sorted(opened.pieces)
    for first in range(0, len(shards), group):
        some = shards[first : first + group]
        ours = run_shards(opened, some, result)
        texts = pl.concat([opened.tables.chunks.read(s, ["text", "n_tokens"]) for s in some])
        sample = texts.sample(fraction=peer_share, seed=first, shuffle=True)
        if sample.height:
            seconds = peer.encode(sample["text"].to_list())
            n_tokens = int(sample["n_tokens"].sum())
            result.peer_seconds += seconds
            result.peer_tokens += n_tokens
            result.group_ratios.append(round(ours / (n_tokens / seconds), 3))
            done = f"{first + len(some)}/{len(shards)} shards"
            print(f"{done}: ratio {result.group_ratios[-1]:.2f}", file=sys.stderr, flush=True)
    peer.close()
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    result.peak_memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return result


def run_shards(opened: OpenedPipeline, shards: list[str], result: Result) -> float:
    """All stages for some shards, text to published metrics. Returns tokens per second."""
    started = time.perf_counter()
    stages: dict[str, Callable[[], list[Outcome]]] = {
        "raw_corpus": lambda: [ingest_shard(shard, opened) for shard in shards],
        "chunks": lambda: [chunk_shard(shard, opened) for shard in shards],
        "embeddings": lambda: embedded(opened, shards),
        "quality_metrics": lambda: [measure_shard(shard, opened) for shard in shards],
    }
    n_tokens = 0
    for stage, run in stages.items():
        stage_started = time.perf_counter()
        outcomes = run()
        seconds = time.perf_counter() - stage_started
        result.stage_seconds[stage] = result.stage_seconds.get(stage, 0.0) + seconds
        if stage == "embeddings":
            n_tokens = int(sum(outcome.numbers["tokens"] for outcome in outcomes))
            result.n_chunks += sum(outcome.n_rows for outcome in outcomes)
            result.n_tokens += n_tokens
            for outcome in outcomes:
                # Fewer than all: equal texts in a shard are embedded once.
                result.n_embedded_tokens += int(outcome.numbers["embedded_tokens"])
                result.n_padded_tokens += int(outcome.numbers["padded_tokens"])
                result.forward_seconds += outcome.numbers["seconds"]
    return n_tokens / (time.perf_counter() - started)


def embedded(opened: OpenedPipeline, shards: list[str]) -> list[Outcome]:
    """The embeddings stage. Raises what stopped a shard."""
    outcomes = []
    claims = ShardClaims(opened, "embeddings")
    for _, outcome in embed_shards(shards, opened, [opened.encoder], claims):
        if isinstance(outcome, Exception):
            raise outcome
        outcomes.append(outcome)
    return outcomes


class Peer:
    """`SentenceTransformer.encode` with its defaults, in a process of its own."""

    def __init__(self, settings: PipelineSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        folder = str(open_model(settings).folder)
        self._process = context.Process(target=_serve_peer, args=(folder, theirs), daemon=True)
        self._process.start()
        self.encode(["warm up"] * 64)

    def encode(self, texts: list[str]) -> float:
        """Seconds that it takes over these texts."""
        self._pipe.send(texts)
        return float(self._pipe.recv())

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _serve_peer(folder: str, pipe: Connection) -> None:
    from sentence_transformers import SentenceTransformer

    quiet_libraries()
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    while (texts := pipe.recv()) is not None:
        started = time.perf_counter()
        model.encode(texts)
        pipe.send(time.perf_counter() - started)


def table(result: Result) -> str:
    """The result as Markdown."""
    ours = result.n_tokens / result.seconds
    peer = result.peer_tokens / result.peer_seconds if result.peer_seconds else 0.0
    rows = {
        "corpus": f"{result.corpus}: {result.n_files:,} files, {result.n_bytes / 1e6:.1f} MB, "
        f"{result.n_chunks:,} chunks, {result.n_tokens / 1e6:.2f}M tokens",
        "text to published tables": f"{ours:,.0f} tokens/s",
        "SentenceTransformer.encode, its defaults": f"{peer:,.0f} tokens/s",
        "ratio": f"{ours / peer:.2f}" if peer else "not measured",
        "precision": result.precision,
        "not the encoder loop": f"{1 - result.forward_seconds / result.seconds:.1%}",
        "padding waste": f"{1 - result.n_embedded_tokens / result.n_padded_tokens:.1%}",
        "peak memory": f"{result.peak_memory_bytes / 1e9:.2f} GB",
        "hardware": result.hardware,
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())])


if __name__ == "__main__":
    main()
