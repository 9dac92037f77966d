"""The corpus at a glance: numbers over all shards, a few pictures, and the shards to look at.

Made from the metrics of every shard and a bounded sample of chunks. Holds shard keys, numbers and
pictures alone, never text of the corpus, because Markdown in the Dagster UI may load images.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.quality.checks import (
    MIN_CHUNKS_FOR_RANK,
    Finding,
    centroid_distances,
    shards_near_centroid,
)
from embed_assets.quality.corpus_summary import corpus_summary, metric_column
from embed_assets.quality.metrics import spread_metrics
from embed_assets.quality.vectors import embedding_matrix, row_norms, sample_directions
from embed_assets.settings import PipelineSettings

#: Fewer sampled vectors than this say too little about a shard's mean: k vectors with a mean
#: cosine c lie at about 1 - sqrt(c / (c + (1 - c) / k)) by chance. With c = 0.02, as low as sound
#: models go, that is 0.86 for one vector and 0.29 for fifty.
MIN_VECTORS_FOR_MEAN = 50

_N_WORST = 3
WORST_SHARDS = pl.Schema({"shard": pl.String, "reason": pl.String, "value": pl.Float64})


@dataclass(frozen=True, slots=True)
class Report:
    """What `quality_report` shows.

    `summary` maps metric name to value; `plots` maps name to PNG; `worst_shards` has the columns
    of WORST_SHARDS; `findings` are the shards beyond settings.max_centroid_distance.
    """

    summary: dict[str, float]
    plots: dict[str, bytes]
    worst_shards: pl.DataFrame
    findings: tuple[Finding, ...]


def corpus_report(
    metrics: pl.DataFrame, sample: pl.DataFrame, settings: PipelineSettings
) -> Report:
    """Report on a corpus.

    `metrics` has shard, metric and value, each shard and metric once. `sample` has shard,
    source_group (top-level folder), n_tokens and embedding for chunks of all shards: some 10,000
    rows are plenty, and a shard needs MIN_VECTORS_FOR_MEAN of them to be compared with the rest.
    """
    shards = metrics.pivot(on="metric", index="shard", values="value")
    vectors = embedding_matrix(sample["embedding"])
    means = _shard_means(sample["shard"], vectors)
    spread = {k: v for k, v in spread_metrics(vectors).items() if v is not None}
    return Report(
        summary=corpus_summary(shards) | spread,
        plots=_plots(shards, sample, vectors),
        worst_shards=_worst_shards(shards, centroid_distances(means)),
        findings=shards_near_centroid(means, settings),
    )


def report_markdown(report: Report) -> str:
    """Report as Markdown for the Dagster UI, pictures inline as data URLs."""
    parts = [_table(("metric", "value"), [(k, _number(k, v)) for k, v in report.summary.items()])]
    if report.worst_shards.height:
        rows = [
            (_safe(shard), reason, f"{value:.3g}")
            for shard, reason, value in report.worst_shards.iter_rows()
        ]
        parts += ["**Shards to look at first**", _table(("shard", "because of", "value"), rows)]
    if report.findings:
        far = report.findings[0]
        n_shards = f"{len(report.findings)} of the shards compared"
        parts.append(f"Too far from the rest: {n_shards}, first {_safe(far.shard)}: {far.detail}.")
    for name, png in report.plots.items():
        parts.append(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})")
    return "\n\n".join(parts) + "\n"


def _shard_means(shards: pl.Series, vectors: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Mean direction (d,) of each shard with at least MIN_VECTORS_FOR_MEAN sampled vectors."""
    rows = pl.DataFrame({"shard": shards}).with_row_index("row")
    means = {}
    for (shard,), part in rows.group_by("shard", maintain_order=True):
        directions = sample_directions(vectors[part["row"].to_numpy()])
        if len(directions) >= MIN_VECTORS_FOR_MEAN:
            means[str(shard)] = directions.mean(axis=0, dtype=np.float64).astype(np.float32)
    return means


def _worst_shards(shards: pl.DataFrame, distances: Mapping[str, float]) -> pl.DataFrame:
    """Up to `_N_WORST` shards for each reason, worst first."""
    keys = shards["shard"].cast(pl.String).to_list()
    ranks = metric_column(shards, "effective_rank_share")
    ranks[~(metric_column(shards, "chunks") >= MIN_CHUNKS_FOR_RANK)] = math.nan
    repeats = metric_column(shards, "duplicate_text_share")
    repeats[repeats == 0.0] = math.nan
    candidates = (
        ("low effective_rank_share", dict(zip(keys, ranks, strict=True)), False),
        ("high duplicate_text_share", dict(zip(keys, repeats, strict=True)), True),
        ("far from the corpus centroid", distances if len(distances) > 1 else {}, True),
    )
    rows = []
    for reason, values, highest_first in candidates:
        known = [(shard, float(value)) for shard, value in values.items() if math.isfinite(value)]
        known.sort(key=lambda item: item[1], reverse=highest_first)
        rows += [(shard, reason, value) for shard, value in known[:_N_WORST]]
    return pl.DataFrame(rows, schema=WORST_SHARDS, orient="row")


def _plots(
    shards: pl.DataFrame, sample: pl.DataFrame, vectors: NDArray[np.float32]
) -> dict[str, bytes]:
    from embed_assets.quality import plots

    pictures = {
        "vector_map": plots.vector_map_plot(vectors, sample["source_group"].to_list()),
        "pairwise_similarity": plots.pairwise_similarity_plot(vectors),
        "token_lengths": plots.token_lengths_plot(sample["n_tokens"].to_numpy()),
        "norms": plots.norms_plot(row_norms(vectors)),
    }
    speed = metric_column(shards, "tokens_per_second")
    speed = speed[np.isfinite(speed) & (speed > 0)]
    # Below that a histogram is no picture, and the summary says the same.
    if len(speed) >= 10:
        pictures["throughput"] = plots.throughput_plot(speed)
    return pictures


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(name: str, value: float) -> str:
    if name.endswith("_share") or name in {"coverage", "padding_waste"}:
        return f"{value:.2%}"
    if name == "embedding_bytes":
        return f"{value / 2**20:,.1f} MiB"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _safe(key: str) -> str:
    """Shard key with all that is not a key's character cut out, so that it cannot be markup."""
    return re.sub(r"[^A-Za-z0-9_-]", "", key)
