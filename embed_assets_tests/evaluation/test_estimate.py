"""Intervals: around the value, the same every time, narrower with more cases."""

import numpy as np
import pytest
from scipy import stats

from embed_assets.evaluation.estimate import mean_of, spearman_of

VALUES = np.random.default_rng(1).random(400)


def test_the_interval_of_a_mean_is_near_that_of_the_normal_distribution() -> None:
    estimate = mean_of(VALUES)
    assert estimate == mean_of(VALUES)
    assert estimate.value == pytest.approx(VALUES.mean())
    half = 1.96 * VALUES.std(ddof=1) / 20
    assert estimate.interval is not None
    expected = (VALUES.mean() - half, VALUES.mean() + half)
    assert estimate.interval == pytest.approx(expected, abs=0.1 * half)


def test_spearman_is_scipys_and_lies_in_its_interval() -> None:
    other = np.round(VALUES + np.random.default_rng(2).random(400), 1)
    estimate = spearman_of(VALUES, other)
    assert estimate.value == pytest.approx(stats.spearmanr(VALUES, other).statistic)
    assert estimate.interval is not None
    low, high = estimate.interval
    assert low < estimate.value < high < low + 0.2


def test_few_cases_have_no_interval_and_equal_ones_an_empty_one() -> None:
    assert mean_of(VALUES[:1]).interval is None
    assert mean_of(np.full(20, 0.25)).interval == (0.25, 0.25)
