"""The cluster bootstrap and its Student check, against closed forms, against each other and against known truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import t, ttest_1samp

from tiller.evaluation.bootstrap import (
    cluster_interval,
    cluster_test,
    cluster_totals,
    indices_of,
    mean_draws,
    percentiles,
    resamples,
    student_interval,
)

NAN = float("nan")


def test_resamples_are_whole_clusters_and_seeded() -> None:
    drawn = resamples(7, 500, seed=1)
    assert drawn.shape == (500, 7) and (drawn.sum(1) == 7).all()
    assert (drawn == resamples(7, 500, seed=1)).all() and (drawn != resamples(7, 500, seed=2)).any()


def test_draws_are_what_concatenating_the_drawn_clusters_gives() -> None:
    rng = np.random.default_rng(0)
    values, clusters = rng.normal(size=(2, 20)), rng.integers(0, 5, 20)
    values[0, 3] = NAN
    draws = mean_draws(values, clusters, 50, seed=3)
    for draw, counts in zip(draws, resamples(5, 50, 3), strict=True):
        rows = np.concatenate([np.tile(values[:, clusters == c], int(k)) for c, k in enumerate(counts)], axis=1)
        np.testing.assert_allclose(draw, np.nanmean(rows, axis=1), rtol=1e-6)


def test_clusters_of_one_give_students_test() -> None:
    values = np.random.default_rng(1).normal(0.3, size=15)
    own = cluster_test(values, np.arange(15))
    known = ttest_1samp(values, 0)
    assert own.p == pytest.approx(known.pvalue)
    assert student_interval(values, np.arange(15))[1:] == pytest.approx(tuple(known.confidence_interval()))


def test_cluster_error_is_the_sandwich_of_a_regression_on_one() -> None:
    """Bread and meat of ordinary least squares with a constant alone, written out with matrices."""
    rng = np.random.default_rng(2)
    clusters = rng.integers(0, 9, 60)
    values = rng.normal(size=60) + rng.normal(size=9)[clusters]
    design = np.ones((60, 1))
    rest = values - values.mean()
    meat = sum(np.outer(s, s) for s in (design[clusters == c].T @ rest[clusters == c] for c in range(9)))
    bread = np.linalg.inv(design.T @ design)
    assert cluster_test(values, clusters).error ** 2 == pytest.approx((bread @ meat @ bread)[0, 0] * 9 / 8)


def test_copies_of_every_row_change_nothing() -> None:
    """Ten answers that are the same in a scenario are one piece of evidence."""
    rng = np.random.default_rng(3)
    values, clusters = rng.normal(size=12), np.arange(12)
    copied, own = np.repeat(values, 10), np.repeat(clusters, 10)
    assert cluster_test(copied, own)[:3] == pytest.approx(cluster_test(values, clusters)[:3])
    assert cluster_interval(copied, own) == pytest.approx(cluster_interval(values, clusters), abs=1e-6)


@given(shift=some.floats(-5, 5), scale=some.floats(0.1, 9))
def test_intervals_move_and_stretch_with_the_values(shift: float, scale: float) -> None:
    rng = np.random.default_rng(4)
    values, clusters = rng.normal(size=30), rng.integers(0, 8, 30)
    for make in (cluster_interval, student_interval):
        moved = make(scale * values + shift, clusters)
        assert moved == pytest.approx([scale * bound + shift for bound in make(values, clusters)], abs=1e-4)


def test_bootstrap_and_student_agree_where_both_must() -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(200), 3)
    values = rng.normal(size=600) + rng.normal(size=200)[clusters]
    bootstrap, student = cluster_interval(values, clusters), student_interval(values, clusters)
    assert bootstrap.high - bootstrap.low == pytest.approx(student.high - student.low, rel=0.03)


def test_both_cover_the_truth_where_values_of_a_cluster_are_alike() -> None:
    """A half of the variance is between 40 clusters. Forgetting them covers the truth about 3 times in 4."""
    rng, num_runs = np.random.default_rng(6), 400
    clusters = np.repeat(np.arange(40), 4)
    values = rng.normal(size=(num_runs, 160)) + rng.normal(size=(num_runs, 40))[:, clusters]
    draws = mean_draws(values, clusters, 1000)
    bootstrap = [percentiles(draws[:, i], 0.0) for i in range(num_runs)]
    student = [student_interval(row, clusters) for row in values]
    naive = [student_interval(row, np.arange(160)) for row in values]
    covered = [np.mean([i.low <= 0 <= i.high for i in found]) for found in (bootstrap, student, naive)]
    assert 0.90 <= covered[0] <= 0.98 and 0.92 <= covered[1] <= 0.98 and covered[2] < 0.85


def test_missing_values_are_left_out_and_counted() -> None:
    values, clusters = np.array([1.0, NAN, 3.0, NAN, 5.0, 7.0]), np.array([0, 0, 1, 2, 3, 3])
    sums, counts = cluster_totals(values, clusters)
    assert sums.tolist() == [1, 3, 0, 12] and counts.tolist() == [1, 1, 0, 2]
    kept = ~np.isnan(values)
    assert cluster_interval(values, clusters) == cluster_interval(values[kept], clusters[kept])
    assert cluster_test(values, clusters).num_clusters == 3


def test_one_cluster_says_nothing_of_others() -> None:
    values, clusters = np.array([1.0, 2.0]), np.array([0, 0])
    for interval in (cluster_interval(values, clusters), student_interval(values, clusters)):
        assert interval.value == 1.5 and np.isnan([interval.low, interval.high]).all()
    assert np.isnan(cluster_test(values, clusters).p)
    assert np.isnan(cluster_interval(np.array([NAN]), np.array([0]))).all()


def test_equal_values_are_no_proof_beyond_their_signs() -> None:
    assert cluster_test(np.full(5, 2.0), np.arange(5))[1:] == (0.0, 2 / 2**5, 5)
    assert cluster_test(np.zeros(5), np.arange(5)).p == 1.0


def test_names_become_indices() -> None:
    assert indices_of(["b", "a", "b", "c"]).tolist() == [1, 0, 1, 2]


def test_student_bounds_are_ts() -> None:
    values = np.array([1.0, 2.0, 4.0])
    half = t.ppf(0.975, 2) * np.std(values, ddof=1) / 3**0.5
    assert student_interval(values, np.arange(3)).high == pytest.approx(values.mean() + half)
