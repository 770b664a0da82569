import numpy as np
import pytest
from scipy import stats

from tiller.evaluation.correlation import pearson, spearman, supported


def test_coefficients_are_scipys() -> None:
    rng = np.random.default_rng(0)
    columns, score, clusters = rng.exponential(size=(40, 5)), rng.normal(size=40), rng.integers(0, 10, 40)
    np.testing.assert_allclose(pearson(columns, score, clusters).r, [stats.pearsonr(c, score)[0] for c in columns.T])
    np.testing.assert_allclose(spearman(columns, score, clusters).r, [stats.spearmanr(c, score)[0] for c in columns.T])


def test_the_error_is_that_of_leaving_each_cluster_out() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), 4)
    x, y = rng.normal(size=(2, 48)) + rng.normal(size=(2, 12))[:, clusters]
    without = [np.arctanh(stats.pearsonr(x[clusters != c], y[clusters != c])[0]) for c in range(12)]
    z, error = np.arctanh(stats.pearsonr(x, y)[0]), np.sqrt(11 / 12 * ((without - np.mean(without)) ** 2).sum())
    found, half = pearson(x[:, None], y, clusters), stats.t.ppf(0.975, 11) * error
    assert (found.low[0], found.high[0]) == pytest.approx((np.tanh(z - half), np.tanh(z + half)))
    assert found.p[0] == pytest.approx(2 * stats.t.sf(abs(z) / error, 11))


def test_copies_are_no_evidence_and_scale_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 20))
    once, often = (
        pearson(x[:, None], y, np.arange(20)),
        pearson(np.repeat(3 * x + 5, 8)[:, None], np.repeat(y, 8), np.repeat(np.arange(20), 8)),
    )
    for name in ("r", "low", "high", "p"):
        np.testing.assert_allclose(getattr(once, name), getattr(often, name))
    np.testing.assert_allclose(pearson(-x[:, None], y, np.arange(20)).high, -once.low)


@pytest.mark.parametrize("num_clusters", [6, 12, 60])
def test_false_alarms_come_as_often_as_allowed(num_clusters: int) -> None:
    """2000 columns that have nothing to do with the score, both alike within clusters."""
    rng, clusters = np.random.default_rng(3), np.repeat(np.arange(num_clusters), 3)
    columns = rng.normal(size=(len(clusters), 2000)) + rng.normal(size=(num_clusters, 2000))[clusters]
    score = rng.normal(size=len(clusters)) + rng.normal(size=num_clusters)[clusters]
    found = pearson(columns, score, clusters)
    assert 0.03 <= (found.p < 0.05).mean() <= 0.08
    assert 0.92 <= ((found.low <= 0) & (found.high >= 0)).mean() <= 0.97
    assert (found.q < 0.05).sum() <= 2


def test_one_odd_row_is_no_support() -> None:
    columns = np.zeros((12, 3))
    columns[4, 0] = 9.0  # in one row
    columns[[4, 5, 6], 1] = 1.0  # in three rows of one cluster
    columns[[0, 4, 8], 2] = 1.0  # in three rows of three clusters
    clusters = np.repeat(np.arange(3), 4)
    assert supported(columns, clusters, min_rows=3, min_clusters=2).tolist() == [False, False, True]


def test_constants_have_no_correlation_and_lines_are_exact() -> None:
    x = np.arange(6.0)
    found = pearson(np.stack([np.full(6, 0.1), 2 * x], axis=1), x, np.arange(6))
    assert np.isnan([found.r[0], found.p[0], found.q[0]]).all()
    assert (found.r[1], found.low[1], found.p[1]) == (1.0, 1.0, 0.0)
    assert np.isnan(pearson(x[:, None], x, np.array([0, 0, 0, 1, 1, 1])).p).all()
