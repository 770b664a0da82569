"""From a run's scores to matrices, effects and health: nothing is lost, nothing is made up."""

from collections import Counter

import numpy as np
import pytest

from tiller.evaluation.bootstrap import cluster_interval, cluster_test
from tiller.evaluation.multiple_tests import holm
from tiller.evaluation.sotopia.effects import effects_of, held_out, trends_of
from tiller.evaluation.sotopia.health import health_of, is_zero, problems_of
from tiller.evaluation.sotopia.measures import design_of, measures_of
from tiller.evaluation.sotopia.results import Results, collect
from tiller.evaluation.sotopia.tradeoff import front, tradeoffs_of
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm, Unit

from .made_run import record, score, scores, swept, units


def results_of(given: list[Unit], left_out: int = 0) -> Results:
    return collect(given, [record(unit) for unit in given[left_out:]], scores(given[left_out:]), {})


@pytest.fixture(scope="module")
def results() -> Results:
    return results_of(units([UNSTEERED, *swept("warm"), *swept("cold")]))


def test_the_design_pairs_units_that_differ_in_their_arm_alone(results: Results) -> None:
    design = design_of(results)
    assert design.arms[0] == UNSTEERED and len(design.arms) == 13
    assert len(design.pairs) == 24 and design.num_clusters == 12 and design.planned.all()
    assert [design.arms[i].alpha for i in design.arms_of("warm")] == [-2, -1, 0, 1, 2, 4]
    for unit in results.units:
        arm, pair = design.cell[unit.unit_id]
        assert design.arms[arm] == unit.arm and design.pairs[pair] == unit.pair_id


def test_measures_are_the_scores_by_role(results: Results) -> None:
    design = design_of(results)
    measures = measures_of(results, design)
    assert [m.key for m in measures] == [
        "words.tone.agent", "fluency.mean_logprob.agent", "sotopia.goal.agent", "sotopia.goal.partner",
    ]  # fmt: skip
    partner = measures[3]
    for found in results.scores:
        if found.metric == "goal" and found.seat == 1:
            assert partner.values[design.cell[found.unit_id]] == found.value


def test_the_second_seat_is_the_agent_where_it_is_steered_and_both_are_averaged() -> None:
    arms = [UNSTEERED, *swept("warm", [1.0])]
    for seat, key, expected in (("second", "agent", 7.0), ("second", "partner", 3.0), ("both", "agent", 5.0)):
        given = [unit.model_copy(update={"seat": seat}) for unit in units(arms, 2, (0,))]
        given = [Unit(**{name: getattr(unit, name) for name in Unit.model_fields}) for unit in given]
        found = collect(given, [], [score(u, "goal", v, s) for u in given for s, v in ((0, 3.0), (1, 7.0))], {})
        measure = next(m for m in measures_of(found, design_of(found)) if m.role == key)
        assert (measure.values == expected).all()


def test_a_seat_without_a_score_makes_the_unit_missing_not_half() -> None:
    (unit,) = [u.model_copy(update={"seat": "both"}) for u in units([UNSTEERED], 1, (0,))]
    unit = Unit(**{name: getattr(unit, name) for name in Unit.model_fields})
    found = collect([unit], [record(unit)], [score(unit, "goal", 3.0, 0), score(unit, "goal", None, 1)], {})
    (measure,) = measures_of(found, design_of(found))
    assert np.isnan(measure.values).all() and measure.causes == [Counter({"judge: bad_reply": 1})]


def test_repeats_of_a_judgement_are_averaged_and_judges_of_one_name_told_apart() -> None:
    (unit,) = units([UNSTEERED], 1, (0,))
    first, again, other = (score(unit, "goal", v) for v in (4.0, 6.0, 9.0))
    again = again.model_copy(update={"judge_id": f"{first.judge_id}#1"})
    found = collect([unit], [], [first, again], {})
    assert measures_of(found, design_of(found))[0].values.item() == 5.0
    other = other.model_copy(update={"judge_id": "another-id"})
    found = collect([unit], [], [first, other], {})
    assert {m.judge: m.values.item() for m in measures_of(found, design_of(found))} == {
        "words@words-": 4.0, "words@anothe": 9.0,
    }  # fmt: skip


def test_every_missing_figure_has_a_cause() -> None:
    given = units([UNSTEERED, *swept("warm", [0.0, 1.0])], 3, (0,))
    ended = [record(given[0], cause="timeout"), *(record(unit) for unit in given[2:])]
    judged = [s for s in scores(given[3:]) if s.metric == "tone"] + [score(given[2], "tone", None)]
    found = collect(given, ended, judged, {})
    design = design_of(found)
    (measure,) = measures_of(found, design)
    assert measure.causes == [
        Counter({"failed: timeout": 1}), Counter({"unfinished": 1}), Counter({"judge: bad_reply": 1}),
    ]  # fmt: skip
    assert int(np.isnan(measure.values).sum()) == sum(c.total() for c in measure.causes)
    problems = problems_of(health_of(found, design), [measure])
    assert problems[:2] == ["1 units failed", "1 units are not finished"] and "3 of 9 figures are missing" in problems


def test_effects_are_paired_and_adjusted_within_a_target(results: Results) -> None:
    design = design_of(results)
    measure = measures_of(results, design)[0]
    effects = effects_of(measure, design)
    rows = [row for row in design.arms_of("warm") if design.arms[row].alpha != 0]
    for row in rows:
        delta = measure.values[row] - measure.values[0]
        assert effects[row].delta == cluster_interval(delta, design.clusters)
        assert effects[row].p == cluster_test(delta, design.clusters).p
    np.testing.assert_allclose([effects[row].p_holm for row in rows], holm([effects[row].p for row in rows]))
    assert np.isnan(effects[0].delta.value) and np.isnan(effects[design.arms_of("warm")[2]].p_holm)
    zero = design.arms_of("warm")[2]
    assert effects[rows[-1]].delta_zero.value == pytest.approx((measure.values[rows[-1]] - measure.values[zero]).mean())


def test_the_truth_is_found(results: Results) -> None:
    """Tone rises with warm's alpha and falls with cold's; goal has no effect in any arm."""
    design = design_of(results)
    tone, _, goal, _ = measures_of(results, design)
    warm, cold = trends_of(tone, design)
    assert warm.slope.low > 0.15 and cold.slope.high < -0.15 and warm.rank.low > 0.7
    effects = effects_of(tone, design)
    assert all((e.p_holm < 0.01) == (e.arm.alpha != 0) for e in effects[1:])
    assert all(not e.p_holm < 0.05 for e in effects_of(goal, design))


def test_worst_case_only_where_arms_miss_different_pairs() -> None:
    given = units([UNSTEERED, *swept("warm", [1.0])], 4, (0,))
    full = results_of(given)
    tone = measures_of(full, design_of(full))[0]
    assert effects_of(tone, design_of(full))[1].worst is None
    holed = collect(given, [record(u) for u in given], [s for s in full.scores if s.unit_id != given[1].unit_id], {})
    effect = effects_of(measures_of(holed, design_of(holed))[0], design_of(holed))[1]
    assert effect.worst is not None and effect.worst.low < effect.delta.value < effect.worst.high
    assert effect.worst.high - effect.worst.low == pytest.approx(2 / 4)  # one of four pairs, over a range of 2


def test_tradeoffs_prefer_an_alpha_that_keeps_fluency(results: Results) -> None:
    design = design_of(results)
    (tradeoff,) = tradeoffs_of(measures_of(results, design), design)
    assert {design.arms[way.chosen].alpha for way in tradeoff.chosen["warm"]} <= {1.0, 2.0}
    best = tradeoff.compromises[tradeoff.chosen["warm"][0].chosen]
    assert best.products.mean_of.value > tradeoff.compromises[0].products.mean_of.value
    few = results_of(units([UNSTEERED, *swept("warm")], 3))
    assert held_out(measures_of(few, design_of(few))[0].values, design_of(few), "warm") is None


def test_a_value_outside_its_range_means_another_metric_of_that_name() -> None:
    given = units([UNSTEERED, *swept("warm", [1.0])], 3, (0,))
    odd = [score(unit, "french", -0.5 + i / 10) for i, unit in enumerate(given)]
    found = collect(given, [], odd + [s for s in scores(given) if s.metric == "mean_logprob"], {})
    design = design_of(found)
    measures = measures_of(found, design)
    assert (measures[0].metric.low, measures[0].metric.high, measures[0].metric.kind) == (None, None, "behaviour")
    (tradeoff,) = tradeoffs_of(measures, design)
    assert tradeoff.behaviour.metric.scaled(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 0.5, 1]


def test_the_front_holds_what_nothing_beats() -> None:
    points = np.array([[0.0, 3.0], [1.0, 2.0], [1.0, 1.0], [2.0, 2.0], [3.0, 0.0], [np.nan, 9.0], [2.5, -1.0]])
    assert front(points).tolist() == [0, 3, 4]
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(60, 2))
    beaten = [(((cloud >= p).all(1)) & ((cloud > p).any(1))).any() for p in cloud]
    assert sorted(front(cloud)) == np.flatnonzero(~np.array(beaten)).tolist()


def test_alpha_zero_that_speaks_differently_and_receipts_that_do_not_add_up_are_problems() -> None:
    given = units([UNSTEERED, *swept("warm", [0.0])], 3, (0,))
    ended = [record(unit) for unit in given]
    odd = (
        ended[1]
        .turns[0]
        .model_copy(update={"text": "else", "receipt": {**ended[1].turns[0].receipt, "tokens_cached": 0}})
    )
    ended[1] = ended[1].model_copy(update={"turns": [odd, *ended[1].turns[1:]]})
    found = collect(given, ended, [], {})
    health = health_of(found, design_of(found))
    assert (health[1].num_same, health[1].num_compared) == (2, 3)
    assert problems_of(health, []) == ["1 receipts do not add up", "1 of 3 units of warm 0 differ from unsteered"]


def test_only_additions_must_do_nothing_at_alpha_zero() -> None:
    def arm(steering: dict[str, object]) -> Arm:
        return Arm(name="a", alpha=0.0, target="a", steering=steering)

    assert is_zero(arm({"features": [{"id": 1, "value": 0.0}], "vectors": [{"name": "v", "alpha": 0.0}]}))
    assert not is_zero(arm({"features": [{"id": 1, "op": "set", "value": 0.0}]}))
    assert not is_zero(arm({"features": [{"id": 1, "value": 0.0}], "error_term": False}))
