"""A measured number with its uncertainty: a bootstrap interval over queries or pairs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Percentile intervals of fewer cases mean nothing, and a resample of them may be constant.
_FEWEST = 10
_RESAMPLES = 9_999
# Resampled numbers held at once: 80 MB.
_NUMBERS_PER_BATCH = 10_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95% bootstrap interval, percentile method; None for fewer than 10 cases."""

    value: float
    interval: tuple[float, float] | None


def mean_of(values: NDArray[np.float64]) -> Estimate:
    """The mean of values (n,), one per query."""
    return Estimate(float(values.mean()), _interval((values,), np.mean))


def spearman_of(first: NDArray[np.float64], second: NDArray[np.float64]) -> Estimate:
    """Spearman's rank correlation of two measurements (n,) of the same cases, -1 to 1."""
    return Estimate(float(_spearman(first, second)), _interval((first, second), _spearman))


def _spearman(
    first: NDArray[np.float64], second: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    # By its definition and not by spearmanr, which cannot take many resamples at once.
    ranks = stats.rankdata(first, axis=axis), stats.rankdata(second, axis=axis)
    correlation: NDArray[np.float64] = stats.pearsonr(*ranks, axis=axis).statistic
    return correlation


def _interval(
    measured: tuple[NDArray[np.float64], ...],
    statistic: Callable[..., object],
) -> tuple[float, float] | None:
    n = len(measured[0])
    if n < _FEWEST:
        return None
    interval = stats.bootstrap(
        measured,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _NUMBERS_PER_BATCH // n),
        method="percentile",
        # Fixed: two runs over the same vectors say the same.
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)
