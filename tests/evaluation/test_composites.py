import numpy as np
import pytest
from scipy.stats import hmean

from tiller.evaluation.composites import harmonic, products


def test_harmonic_is_scipys_and_zero_with_a_zero() -> None:
    a, b, c = np.random.default_rng(0).uniform(0.1, 2, size=(3, 8))
    np.testing.assert_allclose(harmonic(a, b, c), hmean([a, b, c]))
    np.testing.assert_allclose(harmonic(a, a), a)
    assert harmonic(np.array([0.0]), np.array([2.0])) == [0.0]
    assert np.isnan(harmonic(np.array([np.nan]), np.array([0.0]))).all()


def test_the_two_products_differ_by_the_covariance() -> None:
    a, b = np.random.default_rng(1).uniform(size=(2, 40))
    found = products(a, b, np.arange(40))
    assert found.mean_of.value - found.of_means.value == pytest.approx(np.cov(a, b, ddof=0)[0, 1])


def test_a_behaviour_that_costs_all_coherence_scores_in_one_of_them_alone() -> None:
    """Half of the answers are on topic, the other half readable: no answer is both."""
    a = np.tile([1.0, 0.0], 20)
    found = products(a, 1 - a, np.repeat(np.arange(20), 2))
    assert found.mean_of == (0.0, 0.0, 0.0) and found.of_means.value == 0.25


def test_products_use_units_that_have_both() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 2.0]), np.array([2.0, 9.0, np.nan, 1.0])
    assert products(a, b, np.arange(4)).mean_of.value == 2.0
    assert np.isnan(products(a * np.nan, b, np.arange(4)).of_means).all()
