import numpy as np
import pytest
from scipy.stats import linregress, spearmanr

from tiller.evaluation.trend import mean_rank_correlation, mean_slope, rank_correlations, slopes

ALPHAS = np.array([-2.0, -1.0, 0.0, 3.0])


def test_each_cluster_has_scipys_slope_and_rank_correlation() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(6), 2)
    values = rng.normal(size=(4, 12))
    means = values.reshape(4, 6, 2).mean(2)
    np.testing.assert_allclose(slopes(ALPHAS, values, clusters), [linregress(ALPHAS, m).slope for m in means.T])
    np.testing.assert_allclose(
        rank_correlations(ALPHAS, values, clusters), [spearmanr(ALPHAS, m).statistic for m in means.T]
    )


def test_a_line_is_found_whatever_level_each_cluster_has() -> None:
    levels = np.random.default_rng(1).normal(0, 50, size=10)
    assert mean_slope(ALPHAS, 0.5 * ALPHAS[:, None] + levels, np.arange(10)) == pytest.approx((0.5, 0.5, 0.5))
    assert mean_rank_correlation(ALPHAS, np.exp(ALPHAS[:, None]) + levels, np.arange(10)).low == pytest.approx(1.0)


def test_missing_and_flat_clusters() -> None:
    values = np.array([[1.0, 5.0, np.nan], [2.0, 5.0, np.nan], [3.0, 5.0, 7.0], [np.nan, 5.0, np.nan]])
    assert slopes(ALPHAS, values, np.arange(3))[:2] == pytest.approx([linregress(ALPHAS[:3], [1, 2, 3]).slope, 0.0])
    assert np.isnan(slopes(ALPHAS, values, np.arange(3))[2])
    assert rank_correlations(ALPHAS, values, np.arange(3))[:2] == pytest.approx([1.0, 0.0])
