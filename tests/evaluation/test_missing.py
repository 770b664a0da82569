import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from tiller.evaluation.missing import differs, worst_case

SCORES = some.lists(some.integers(0, 10), min_size=3, max_size=8)


@given(data=some.data(), values=SCORES)
def test_bounds_hold_whatever_the_missing_values_were(data: some.DataObject, values: list[int]) -> None:
    arm = np.array(values, dtype=float)
    baseline = np.array(data.draw(some.lists(some.integers(0, 10), min_size=len(arm), max_size=len(arm))), dtype=float)
    truth = float((arm - baseline).mean())
    gone = np.array(data.draw(some.lists(some.booleans(), min_size=len(arm), max_size=len(arm))))
    bounds = worst_case(np.where(gone, np.nan, arm), baseline, 0, 10)
    assert bounds.low - 1e-9 <= truth <= bounds.high + 1e-9
    assert abs(bounds.high - bounds.low - 10 * gone.mean()) < 1e-9


def test_nothing_missing_leaves_no_doubt() -> None:
    assert worst_case(np.array([3.0, 4.0]), np.array([1.0, 1.0]), 0, 10) == (2.5, 2.5, 2.5)


def test_missingness_differs_by_arm() -> None:
    missing = np.array([[True, False], [True, False]])
    assert not differs(missing) and differs(np.array([[True, False], [False, True]]))
