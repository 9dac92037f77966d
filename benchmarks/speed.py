"""Tokens per second of our encoders and of peers over the same chunks, in turn, in one run.

    make bench CORPUS=folder

A round gives the same chunks to each in turn, one process each; what else the machine does slows
all alike, so the ratios hold where the seconds do not. The figure is the median of the rounds.
Peers get texts, as they would; ours get the token ids that chunking stored. Writes
`results/speed.json`, `speed.md` and `speed.png`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.contender import Contender, Running, cosines
from embed_assets.embedding.device_answers import device_name
from embed_assets.embedding.model import open_model
from embed_assets.embedding.openvino_runtime import has_bf16
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.pipeline import chunk_shard, ingest_shard
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.terminal import quiet_libraries

RESULTS = Path(__file__).parent / "results"
_PEER = str(Path(__file__).parent / "peers" / "encode.py")

#: The first is the measure of all others.
CONTENDERS = (
    Contender("SentenceTransformer.encode, its defaults", (_PEER, "sentence-transformers")),
    Contender("the same, batch 8", (_PEER, "sentence-transformers-batch-8")),
    Contender(
        "its OpenVINO backend, batch 8", (_PEER, "sentence-transformers-openvino"), "openvino"
    ),
    Contender("Ray Data, one actor, to Parquet", (_PEER, "ray-data"), "ray"),
    *(
        Contender(f"ours: {name}", ("-m", "benchmarks.ours", precision, backend), is_ours=True)
        for name, precision, backend in (
            ("torch fp32", "fp32", "torch"),
            ("fp32", "fp32", "auto"),
            ("bf16", "bf16", "auto"),
            ("int8", "int8", "auto"),
        )
    ),
)


@dataclass
class Measured:
    """One contender: tokens per second by round, and its vectors beside the first contender's."""

    name: str
    is_ours: bool
    tokens_per_second: list[float] = field(default_factory=list)
    ratio: float = 0.0
    lowest_cosine: float = 0.0
    mean_cosine: float = 0.0


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="bundled:python-docs", help="folder of text")
    parser.add_argument("--chunks", type=int, default=500, help="how many each round embeds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], help="leave out names with this")
    parser.add_argument("--name", default="speed", help="name of the result's files")
    arguments = parser.parse_args()
    quiet_libraries()
    without = list(arguments.without)
    if not has_bf16():
        print("left out: bf16, which this CPU can only emulate", file=sys.stderr)
        without.append("bf16")
    contenders = [c for c in CONTENDERS if not any(part in c.name for part in without)]
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"corpus": arguments.corpus, "tables": f"{folder}/tables"})
        sample, calibration = chunks_of(settings.located(Path.cwd()), arguments.chunks)
        inputs = written(sample, calibration, Path(folder))
        n_tokens = int(sample["n_tokens"].sum())
        measured = measure(contenders, inputs, n_tokens, arguments.rounds)
    result: dict[str, object] = {
        "corpus": Path(arguments.corpus).name,
        "chunks": sample.height,
        "tokens": n_tokens,
        "rounds": arguments.rounds,
        "hardware": device_name("cpu"),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            name: version(name) for name in ("torch", "sentence-transformers", "openvino")
        },
        "contenders": [asdict(contender) for contender in measured],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / f"{arguments.name}.md").write_text(table(result, measured) + "\n")
    (RESULTS / f"{arguments.name}.png").write_bytes(plot(result, measured))
    print(table(result, measured))


def chunks_of(settings: PipelineSettings, n: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A sample of n of a corpus's chunks (text, token_ids, n_tokens), and others to calibrate."""
    opened = OpenedPipeline(settings)
    opened.plan()
    opened.prepare()
    for shard in opened.pieces:
        ingest_shard(shard, opened)
        chunk_shard(shard, opened)
    chunks = opened.tables.chunks.scan().select("text", "token_ids", "n_tokens").collect()
    mixed = chunks.sample(min(chunks.height, n + 300), seed=0, shuffle=True)
    return mixed.head(n), mixed.tail(-n)


def written(sample: pl.DataFrame, calibration: pl.DataFrame, folder: Path) -> dict[str, str]:
    """The files that contenders read: texts for peers, token ids for ours."""
    (folder / "texts.json").write_text(json.dumps(sample["text"].to_list()))
    for name, frame in (("tokens", sample), ("calibration", calibration)):
        rows = TokenRows.from_series(frame["token_ids"])
        np.savez(folder / f"{name}.npz", flat=rows.flat, offsets=rows.offsets)
    return {
        "texts": str(folder / "texts.json"),
        "tokens": str(folder / "tokens.npz"),
        "calibration": str(folder / "calibration.npz"),
    }


def measure(
    contenders: list[Contender], inputs: dict[str, str], n_tokens: int, n_rounds: int
) -> list[Measured]:
    """Rounds over all contenders in turn; those that cannot run here are left out, and named."""
    model = str(open_model(PipelineSettings()).folder)
    running: list[Running] = []
    for contender in contenders:
        try:
            running.append(Running(contender, model))
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            print(f"left out: {contender.name}: {error}", file=sys.stderr)
    measured = [Measured(r.contender.name, r.contender.is_ours) for r in running]
    reference: NDArray[np.float32] | None = None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        for number in range(n_rounds):
            for one, found in zip(running, measured, strict=True):
                seconds = one.encode(inputs, file)
                found.tokens_per_second.append(round(n_tokens / seconds, 1))
                print(f"round {number + 1}: {found.name}: {seconds:.1f} s", file=sys.stderr)
                if number == 0:
                    vectors = np.load(file)
                    reference = vectors if reference is None else reference
                    same = cosines(reference, vectors)
                    found.lowest_cosine = round(float(same.min()), 6)
                    found.mean_cosine = round(float(same.mean()), 6)
    for one in running:
        one.close()
    for found in measured:
        # Round by round: both sides of a ratio met the same load of the machine.
        found.ratio = round(
            statistics.median(
                a / b
                for a, b in zip(found.tokens_per_second, measured[0].tokens_per_second, strict=True)
            ),
            2,
        )
    return measured


def table(result: dict[str, object], measured: list[Measured]) -> str:
    """The result as Markdown."""
    lines = [
        f"{result['chunks']:,} chunks of {result['corpus']}, {result['tokens']:,} tokens, "
        f"median of {result['rounds']} rounds in turn, {result['hardware']}, {result['date']}",
        "",
        "| | tokens/s | ratio | lowest cosine |",
        "| --- | --: | --: | --: |",
    ]
    for one in measured:
        speed = statistics.median(one.tokens_per_second)
        name = f"**{one.name}**" if one.is_ours else one.name
        lines.append(f"| {name} | {speed:,.0f} | {one.ratio:.2f} | {one.lowest_cosine:.5f} |")
    return "\n".join(lines)


def plot(result: dict[str, object], measured: list[Measured]) -> bytes:
    """Ratios as bars, ours in colour."""
    from embed_assets.quality.plot_card import BAR, FAINT, card, name_axes, png

    title = "Speed, encode = 1"
    figure, axes = card(title, f"{result['hardware']}, {result['date']}")
    axes.set_position((0.42, 0.135, 0.55, 0.715))
    names = [one.name for one in measured][::-1]
    ratios = [one.ratio for one in measured][::-1]
    colours = [BAR if one.is_ours else FAINT for one in measured][::-1]
    bars = axes.barh(names, ratios, color=colours)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3, fontsize=9)
    axes.set_xlim(0, 1.12 * max(ratios))
    name_axes(axes, "times as many tokens per second", "")
    return png(figure)


if __name__ == "__main__":
    main()
