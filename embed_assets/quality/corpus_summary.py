"""The metrics of all shards as one number each: sums, extremes and means with the right weights."""

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

_SUMMED = ("documents", "chunks", "tokens", "rejected", "embedding_bytes")
_SHARES_OF_CHUNKS = ("non_finite_share", "duplicate_text_share", "near_duplicate_share")


def corpus_summary(shards: pl.DataFrame) -> dict[str, float]:
    """Metric name -> value over all rows of `shards`: shard, and one column per metric.

    Leaves out what no shard has, and means whose weights are all zero.
    """
    n_chunks = metric_column(shards, "chunks")
    summary: dict[str, float] = {"shards": float(shards.height)}
    for name in _SUMMED:
        if name in shards.columns:
            summary[name] = float(np.nansum(metric_column(shards, name)))
    for name, extreme in (("coverage", min), ("norm_min", min), ("norm_max", max)):
        values = metric_column(shards, name)
        if np.isfinite(values).any():
            summary[name] = float(extreme(values[np.isfinite(values)]))
    for name in _SHARES_OF_CHUNKS:
        summary |= _weighted_mean(name, metric_column(shards, name), n_chunks)
    tokens = metric_column(shards, "tokens")
    reused = np.nan_to_num(metric_column(shards, "reused_share"), nan=0.0)
    summary |= _weighted_mean("reused_share", metric_column(shards, "reused_share"), tokens)
    # Only tokens that went through the model have padding and took time.
    embedded = tokens * (1.0 - reused)
    summary |= _weighted_mean("padding_waste", metric_column(shards, "padding_waste"), embedded)
    # All tokens over all seconds, where a shard's seconds are tokens / tokens_per_second: the
    # weighted harmonic mean. An arithmetic one would let a small, fast shard hide a slow one.
    speed = metric_column(shards, "tokens_per_second")
    slowness = np.divide(1.0, speed, out=np.full_like(speed, np.nan), where=speed > 0)
    for mean in _weighted_mean("tokens_per_second", slowness, embedded).values():
        summary["tokens_per_second"] = 1.0 / mean
    return summary


def metric_column(shards: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """One metric of every shard (n,), NaN where a shard lacks it."""
    if name not in shards.columns:
        return np.full(shards.height, np.nan)
    return shards[name].cast(pl.Float64).fill_null(math.nan).to_numpy().copy()


def _weighted_mean(
    name: str, values: NDArray[np.float64], weights: NDArray[np.float64]
) -> dict[str, float]:
    known = np.isfinite(values) & np.isfinite(weights) & (weights > 0)
    if not known.any():
        return {}
    return {name: float(np.average(values[known], weights=weights[known]))}
