import numpy as np
import pytest
from scipy.stats import norm, t

from tiller.evaluation.stats import auroc, auroc_interval, auroc_variance, distinct, mean_interval, wilson_interval


@pytest.mark.parametrize("seed", range(4))
def test_auroc_counts_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, size=(30, 3)).astype(float)  # many ties
    positive = np.arange(30) % 3 == 0
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    np.testing.assert_allclose(auroc(scores, positive), ((pairs > 0) + 0.5 * (pairs == 0)).mean((0, 1)))


def test_auroc_variance_is_hanley_and_mcneils() -> None:
    """Their paper's example: 51 abnormal and 58 normal images, area 0.893, standard error 0.032."""
    assert auroc_variance(0.893, 51, 58) ** 0.5 == pytest.approx(0.032, abs=5e-4)


@pytest.mark.parametrize("value", [0.05, 0.5, 0.893, 0.99])
def test_auroc_interval_holds_what_the_value_does_not_reject(value: float) -> None:
    interval = auroc_interval(value, 51, 58)
    assert 0 < interval.low < value < interval.high < 1
    for bound in (interval.low, interval.high):
        assert abs(value - bound) == pytest.approx(norm.ppf(0.975) * auroc_variance(bound, 51, 58) ** 0.5)


def test_auroc_interval_at_the_edge() -> None:
    perfect, worst = auroc_interval(1.0, 40, 40), auroc_interval(0.0, 40, 40)
    assert perfect.high == 1.0 and 0.85 < perfect.low < 1.0
    assert (worst.low, worst.high) == pytest.approx((0.0, 1 - perfect.low))


def test_auroc_interval_covers_the_truth() -> None:
    """Positive scores one standard deviation above negative ones: the truth is Phi(1 / sqrt(2))."""
    rng, truth, num_runs = np.random.default_rng(0), norm.cdf(2**-0.5), 400
    positive = np.arange(60) < 30
    scores = rng.normal(size=(60, num_runs)) + positive[:, None]
    intervals = [auroc_interval(float(value), 30, 30) for value in auroc(scores, positive)]
    assert 0.92 <= np.mean([i.low <= truth <= i.high for i in intervals]) <= 0.98


@pytest.mark.parametrize(
    ("hits", "num", "low", "high"), [(0, 32, 0.0, 0.1072), (8, 10, 0.4902, 0.9433), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_interval_published_values(hits: int, num: int, low: float, high: float) -> None:
    interval = wilson_interval(hits, num)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert interval.value == hits / num


def test_mean_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0, 7.0]
    expected = t.interval(0.95, 3, loc=np.mean(values), scale=np.std(values, ddof=1) / 2)
    assert mean_interval(values) == pytest.approx((3.5, *expected))
    assert mean_interval([2.0]) == (2.0, 2.0, 2.0)


def test_distinct() -> None:
    assert distinct([1, 2, 1, 2, 1]) == 0.5
    assert distinct([1, 2, 3]) == 1.0
    assert distinct([1]) is None
