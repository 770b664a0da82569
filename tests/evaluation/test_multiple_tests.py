import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import false_discovery_control

from tiller.evaluation.multiple_tests import benjamini_hochberg, holm

P_VALUES = some.lists(some.floats(0, 1), min_size=1, max_size=12)


def rejected_by_holm(p: list[float], level: float) -> list[bool]:
    """The procedure as Holm states it: step down while the k-th smallest is at most level / (m - k)."""
    found = [False] * len(p)
    for k, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] > level / (len(p) - k):
            break
        found[i] = True
    return found


@given(p=P_VALUES, level=some.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_procedure_rejects(p: list[float], level: float) -> None:
    own = holm(p)
    expected = rejected_by_holm(p, level)
    assert all(
        value <= level + 1e-9 if out else value >= level - 1e-9 for value, out in zip(own, expected, strict=True)
    )


@given(p=P_VALUES)
def test_adjusted_values_lie_between_p_and_bonferroni_in_the_order_of_p(p: list[float]) -> None:
    given_p = np.array(p)
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert (adjusted >= given_p - 1e-12).all() and (adjusted <= np.minimum(1, len(p) * given_p) + 1e-12).all()
        assert (np.diff(adjusted[np.argsort(given_p, kind="stable")]) >= 0).all()
    assert (benjamini_hochberg(p) <= holm(p) + 1e-12).all()


@given(p=P_VALUES)
def test_benjamini_hochberg_is_scipys(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), atol=1e-12)


def test_known_values_and_missing_tests() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_gap = holm([0.01, float("nan"), 0.04])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(with_gap[1])
    assert np.isnan(holm([float("nan")])).all() and len(benjamini_hochberg([])) == 0
