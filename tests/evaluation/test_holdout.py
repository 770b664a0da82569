import numpy as np
import pytest

from tiller.evaluation.holdout import choose_and_report, halves


def test_halves_part_the_clusters_and_are_seeded() -> None:
    for num in (2, 7, 24):
        assert halves(num).sum() == num // 2
    assert (halves(24, 1) == halves(24, 1)).all() and (halves(24, 1) != halves(24, 2)).any()


def test_no_scenario_is_on_both_sides_and_both_directions_are_told() -> None:
    clusters = np.repeat(np.arange(6), 3)
    first = halves(6)[clusters]
    gains = np.zeros((3, 18))
    gains[1, first], gains[2, ~first] = 1.0, 1.0  # the first half likes arm 1, the second arm 2
    one, other = choose_and_report(gains, clusters)
    assert (one.chosen, one.seen, one.unseen.value, one.num_clusters) == (1, 1.0, 0.0, 3)
    assert (other.chosen, other.seen, other.unseen.value, other.num_clusters) == (2, 1.0, 0.0, 3)


def test_choosing_and_reporting_on_one_sample_flatters_and_this_does_not() -> None:
    """Twenty arms that do nothing: the best of them seems to gain, its other half shows that it doesn't."""
    rng, seen, unseen = np.random.default_rng(0), [], []
    for _ in range(200):
        for way in choose_and_report(rng.normal(size=(20, 30)), np.arange(30), num_draws=20):
            seen.append(way.seen)
            unseen.append(way.unseen.value)
    assert np.mean(seen) > 0.3 and abs(np.mean(unseen)) < 0.05


def test_missing_gains() -> None:
    gains = np.full((2, 4), np.nan)
    assert np.isnan(choose_and_report(gains, np.arange(4))[0].seen)
    gains[1] = 0.5
    assert choose_and_report(gains, np.arange(4))[0].chosen == 1
    assert choose_and_report(gains, np.arange(4))[0].unseen.value == pytest.approx(0.5)
