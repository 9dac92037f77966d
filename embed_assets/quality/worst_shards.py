"""The shards to look at first, and why. Pure."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from embed_assets.quality.checks import MIN_CHUNKS_FOR_RANK
from embed_assets.quality.corpus_summary import metric_column

#: `limit` is what the value is held against, null where there is no limit.
WORST_SHARDS: Final = pl.Schema(
    {"shard": pl.String, "reason": pl.String, "value": pl.String, "limit": pl.String}
)

_MOST_PER_REASON = 3
# A shard this much slower than the median had more than noise in its way.
_SLOW = 0.7


@dataclass(frozen=True)
class _Reason:
    """A reason to look at shards: its value by shard, NaN where a shard has none."""

    name: str
    values: Mapping[str, float]
    shown: str
    limit: str | None = None
    highest_first: bool = True

    def rows(self) -> list[tuple[str, str, str, str | None]]:
        """Rows of WORST_SHARDS, worst first."""
        known = [(key, value) for key, value in self.values.items() if math.isfinite(value)]
        known.sort(key=lambda item: item[1], reverse=self.highest_first)
        return [
            (key, self.name, self.shown.format(value), self.limit)
            for key, value in known[:_MOST_PER_REASON]
        ]


def worst_shards(
    shards: pl.DataFrame,
    distances: Mapping[str, float],
    limits: Mapping[str, float],
) -> pl.DataFrame:
    """Up to three shards for each reason, worst first, with the columns of WORST_SHARDS.

    `shards` has shard and one column per metric; `distances` are cosine distances of mean vectors
    to the corpus's; `limits` has min_effective_rank_share, max_duplicate_share and
    max_centroid_distance.
    """
    rows = [row for reason in _reasons(shards, distances, limits) for row in reason.rows()]
    return pl.DataFrame(rows, schema=WORST_SHARDS, orient="row")


def _reasons(
    shards: pl.DataFrame, distances: Mapping[str, float], limits: Mapping[str, float]
) -> Iterator[_Reason]:
    rejected = _above(_by_shard(shards, "rejected"), 0.0)
    yield _Reason("files or records rejected", rejected, "{:,.0f}")
    uncovered = _below(_by_shard(shards, "coverage"), 1.0)
    yield _Reason("chunks without a vector", uncovered, "{:.1%} covered", "100%")
    if len(distances) > 1:
        limit = f"at most {limits['max_centroid_distance']:g}"
        yield _Reason(
            "mean vector far from the corpus's", distances, "cosine distance {:.3f}", limit
        )
    repeats = _above(_by_shard(shards, "duplicate_text_share"), 0.0)
    limit = f"at most {limits['max_duplicate_share']:.0%}"
    yield _Reason("repeated texts", repeats, "{:.1%} of chunks", limit)
    large = shards.filter(metric_column(shards, "chunks") >= MIN_CHUNKS_FOR_RANK)
    ranks = _by_shard(large, "effective_rank_share")
    limit = f"at least {limits['min_effective_rank_share']:.0%}"
    yield _Reason("least effective rank", ranks, "{:.1%} of the most", limit, highest_first=False)
    speeds = _by_shard(shards, "tokens_per_second")
    known = [value for value in speeds.values() if value > 0 and math.isfinite(value)]
    if known:
        median = float(np.median(known))
        slow, limit = _below(speeds, _SLOW * median), f"median {median:,.0f}"
        yield _Reason("slow", slow, "{:,.0f} tokens/s", limit, highest_first=False)


def _by_shard(shards: pl.DataFrame, metric: str) -> dict[str, float]:
    keys = shards["shard"].cast(pl.String).to_list()
    return dict(zip(keys, metric_column(shards, metric).tolist(), strict=True))


def _above(values: Mapping[str, float], least: float) -> dict[str, float]:
    return {key: value for key, value in values.items() if value > least}


def _below(values: Mapping[str, float], most: float) -> dict[str, float]:
    return {key: value for key, value in values.items() if value < most}
