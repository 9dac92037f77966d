"""The shards to look at first, and why. Pure."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.quality.checks import MIN_CHUNKS_FOR_RANK
from embed_assets.quality.corpus_summary import metric_column

#: `limit` is what the value is held against, null where there is no limit.
WORST_SHARDS: Final = pl.Schema(
    {"shard": pl.String, "reason": pl.String, "value": pl.String, "limit": pl.String}
)

_MOST_PER_REASON = 3
# A shard this much slower than the median had more than noise in its way.
_SLOW = 0.7


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
    keys = shards["shard"].cast(pl.String).to_list()
    n_chunks = metric_column(shards, "chunks")
    rows: list[tuple[str, str, str, str | None]] = []

    def add(
        reason: str,
        values: Mapping[str, float],
        shown: str,
        limit: str | None = None,
        *,
        highest_first: bool = True,
    ) -> None:
        known = [(key, float(value)) for key, value in values.items() if math.isfinite(value)]
        known.sort(key=lambda item: item[1], reverse=highest_first)
        rows.extend(
            (key, reason, shown.format(value), limit) for key, value in known[:_MOST_PER_REASON]
        )

    def column(name: str) -> dict[str, float]:
        return dict(zip(keys, metric_column(shards, name), strict=True))

    rejected = column("rejected")
    add("files or records rejected", _above(rejected, 0.0), "{:,.0f}")
    add("chunks without a vector", _below(column("coverage"), 1.0), "{:.1%} covered", "100%")
    if len(distances) > 1:
        limit = f"at most {limits['max_centroid_distance']:g}"
        add("mean vector far from the corpus's", distances, "cosine distance {:.3f}", limit)
    repeats = _above(column("duplicate_text_share"), 0.0)
    limit = f"at most {limits['max_duplicate_share']:.0%}"
    add("repeated texts", repeats, "{:.1%} of chunks", limit)
    ranks = dict(zip(keys, _where(n_chunks >= MIN_CHUNKS_FOR_RANK, shards), strict=True))
    limit = f"at least {limits['min_effective_rank_share']:.0%}"
    add("least effective rank", ranks, "{:.1%} of the most", limit, highest_first=False)
    speed = column("tokens_per_second")
    known = [value for value in speed.values() if math.isfinite(value) and value > 0]
    if known:
        median = float(np.median(known))
        slow = _below(speed, _SLOW * median)
        add("slow", slow, "{:,.0f} tokens/s", f"median {median:,.0f}", highest_first=False)
    return pl.DataFrame(rows, schema=WORST_SHARDS, orient="row")


def _where(is_known: NDArray[np.bool_], shards: pl.DataFrame) -> NDArray[np.float64]:
    ranks = metric_column(shards, "effective_rank_share")
    ranks[~is_known] = math.nan
    return ranks


def _above(values: Mapping[str, float], least: float) -> dict[str, float]:
    return {key: value for key, value in values.items() if value > least}


def _below(values: Mapping[str, float], most: float) -> dict[str, float]:
    return {key: value for key, value in values.items() if value < most}
