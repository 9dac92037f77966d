"""The corpus at a glance: numbers over all shards, checks, pictures, and the shards to look at.

Made from the metrics of every shard and a bounded sample of chunks. How it reads in Markdown is in
`report_markdown.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.cost import cost_numbers
from embed_assets.quality.check_summary import CheckSummary, summarized
from embed_assets.quality.checks import (
    BLOCKING_CHECKS,
    WARNING_CHECKS,
    Finding,
    centroid_distances,
    metric_findings,
    shards_near_centroid,
)
from embed_assets.quality.corpus_summary import corpus_summary, metric_column
from embed_assets.quality.drift import ModelDrift
from embed_assets.quality.metrics import spread_metrics
from embed_assets.quality.vectors import embedding_matrix, row_norms, sample_directions
from embed_assets.quality.worst_shards import worst_shards
from embed_assets.settings import PipelineSettings

#: Fewer sampled vectors than this say too little about a shard's mean: k vectors with a mean
#: cosine c lie at about 1 - sqrt(c / (c + (1 - c) / k)) by chance. With c = 0.02, as low as sound
#: models go, that is 0.86 for one vector and 0.29 for fifty.
MIN_VECTORS_FOR_MEAN = 50


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed since before: `corpus` numbers under one fingerprint, and against `model`."""

    corpus: Mapping[str, float]
    model: ModelDrift | None

    def numbers(self) -> dict[str, float]:
        """All of them by name."""
        return {**self.corpus, **(self.model.numbers() if self.model else {})}


@dataclass(frozen=True, slots=True)
class Report:
    """What `quality_report` shows.

    `summary` maps metric name to value; `checks` are of all shards that stand; `plots` maps name
    to PNG; `worst_shards` has the columns of WORST_SHARDS.
    """

    summary: dict[str, float]
    checks: tuple[CheckSummary, ...]
    plots: dict[str, bytes]
    worst_shards: pl.DataFrame


def corpus_report(
    metrics: pl.DataFrame,
    sample: pl.DataFrame,
    settings: PipelineSettings,
    *,
    findings: Sequence[Finding] = (),
    drift: Drift | None = None,
) -> Report:
    """Report on a corpus.

    `metrics` has shard, metric and value, each shard and metric once. `sample` has shard,
    source_group (top-level folder), n_tokens and embedding for chunks of all shards: some 10,000
    rows are plenty, and a shard needs MIN_VECTORS_FOR_MEAN of them to be compared with the rest.
    `findings` are those of the blocking checks.
    """
    shards = metrics.pivot(on="metric", index="shard", values="value")
    vectors = embedding_matrix(sample["embedding"])
    means = _shard_means(sample["shard"], vectors)
    spread = {k: v for k, v in spread_metrics(vectors).items() if v is not None}
    cost = _cost(shards, settings.price_per_hour)
    all_findings = (
        *findings,
        *metric_findings(metrics, settings),
        *shards_near_centroid(means, settings),
    )
    return Report(
        summary=corpus_summary(shards) | cost | spread | (drift.numbers() if drift else {}),
        checks=tuple(summarized([*BLOCKING_CHECKS, *WARNING_CHECKS], all_findings)),
        plots=_plots(shards, sample, vectors, drift.model if drift else None),
        worst_shards=worst_shards(shards, centroid_distances(means), settings.model_dump()),
    )


def _cost(shards: pl.DataFrame, price_per_hour: float | None) -> dict[str, float]:
    """What the runs cost that last made the vectors of each shard."""
    seconds = metric_column(shards, "device_seconds")
    # Shards from before device time was kept count in neither sum.
    known = np.isfinite(seconds)
    tokens = np.nan_to_num(metric_column(shards, "embedded_tokens"))
    if not known.any():
        return {}
    total = float(seconds[known].sum())
    return {
        "device_seconds": total,
        **cost_numbers(total, float(tokens[known].sum()), price_per_hour),
    }


def _shard_means(shards: pl.Series, vectors: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Mean direction (d,) of each shard with at least MIN_VECTORS_FOR_MEAN sampled vectors."""
    rows = pl.DataFrame({"shard": shards}).with_row_index("row")
    means = {}
    for (shard,), part in rows.group_by("shard", maintain_order=True):
        directions = sample_directions(vectors[part["row"].to_numpy()])
        if len(directions) >= MIN_VECTORS_FOR_MEAN:
            means[str(shard)] = directions.mean(axis=0, dtype=np.float64).astype(np.float32)
    return means


def _plots(
    shards: pl.DataFrame,
    sample: pl.DataFrame,
    vectors: NDArray[np.float32],
    drift: ModelDrift | None,
) -> dict[str, bytes]:
    from embed_assets.quality import plots

    pictures = {
        "vector_map": plots.vector_map_plot(vectors, sample["source_group"].to_list()),
        "pairwise_similarity": plots.pairwise_similarity_plot(vectors),
        "token_lengths": plots.token_lengths_plot(sample["n_tokens"].to_numpy()),
        "norms": plots.norms_plot(row_norms(vectors)),
    }
    by_shard = shards.sort("shard")
    speed = metric_column(by_shard, "tokens_per_second")
    if np.isfinite(speed).any():
        pictures["throughput"] = plots.throughput_plot(by_shard["shard"].to_list(), speed)
    if drift is not None:
        pictures["drift"] = plots.drift_plot(drift)
    return pictures
