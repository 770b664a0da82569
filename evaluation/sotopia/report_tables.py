"""The tables of a run's report."""

from collections.abc import Sequence

from tiller.evaluation.holdout import HeldOut
from tiller.evaluation.report import Table

from .cells import NONE, alpha, bounds, interval, number, p_value
from .effects import Effect, Trend
from .health import ArmHealth
from .measures import Design, Measure
from .tradeoff import Tradeoff
from .unit import Arm

LEVEL = 0.05
STAR = "*"


def matrix(
    measures: Sequence[Measure], effects: Sequence[Sequence[Effect]], design: Design, with_intervals: bool = True
) -> Table:
    """Arms by measures: the unsteered means, then paired differences; starred where Holm's p is below LEVEL."""
    rows = []
    for arm, entry in enumerate(design.arms):
        own = [column[arm] for column in effects]
        cells = [_mean_or_delta(e, arm == design.baseline, with_intervals) for e in own]
        rows.append([entry.name, *cells])
    highlight = frozenset() if design.baseline is None else frozenset({design.baseline})
    return Table(["arm", *(measure.label for measure in measures)], rows, highlight)


def details(measure: Measure, effects: Sequence[Effect], design: Design) -> Table:
    """All there is to one measure, folded."""
    header = (
        "arm", "n", "missing", "mean [95%]", "not 0", "difference [95%]", "Student's 95%", "p", "Holm's p",
        "against alpha 0", "worst case",
    )  # fmt: skip
    rows = [
        [
            e.arm.name, str(e.num), str(e.num_missing), interval(e.mean, 3), _share(e.nonzero),
            interval(e.delta, 3, sign=True), bounds(e.student, 3) if e.student.value == e.student.value else NONE,
            p_value(e.p), p_value(e.p_holm), interval(e.delta_zero, 3, sign=True), bounds(e.worst, 3),
        ]
        for e in effects
    ]  # fmt: skip
    highlight = frozenset() if design.baseline is None else frozenset({design.baseline})
    return Table(header, rows, highlight, caption=f"{measure.label}, judge {measure.judge}", folded=True)


def trend_table(measures: Sequence[Measure], trends: Sequence[Sequence[Trend]]) -> Table:
    rows = [
        [trend.target, measure.label, interval(trend.slope, 3, sign=True), interval(trend.rank, 2, sign=True)]
        for measure, own in zip(measures, trends, strict=True)
        for trend in own
    ]
    return Table(("target", "measure", "slope per alpha [95%]", "rank correlation [95%]"), rows)


def composite_table(tradeoff: Tradeoff, design: Design) -> Table:
    """Means, both products and the harmonic mean of every arm."""
    header = ("arm", tradeoff.behaviour.label, "fluency", "product of means", "mean of products", "harmonic mean")
    rows = [
        [
            c.arm.name, interval(c.behaviour), interval(c.fluency), interval(c.products.of_means, 3),
            interval(c.products.mean_of, 3), interval(c.harmonic, 3),
        ]
        for c in tradeoff.compromises
    ]  # fmt: skip
    highlight = frozenset() if design.baseline is None else frozenset({design.baseline})
    return Table(header, rows, highlight, caption=f"{tradeoff.behaviour.label} and fluency on 0 to 1", folded=True)


def held_out_table(tradeoffs: Sequence[Tradeoff], design: Design) -> Table:
    """The alpha chosen on one half of the scenarios and what it gains on the other, both ways."""
    rows = [
        [target, tradeoff.behaviour.label, half, *_held_out_cells(way, design.arms)]
        for tradeoff in tradeoffs
        for target, ways in tradeoff.chosen.items()
        for half, way in zip(("first", "second"), ways, strict=True)
    ]
    header = (
        "target", "behaviour", "chosen on half", "alpha", "gain there", "gain on the other half [95%]", "scenarios there",
    )  # fmt: skip
    return Table(header, rows)


def health_table(health: Sequence[ArmHealth]) -> Table:
    header = (
        "arm", "planned", "complete", "failed", "unfinished", "turns per episode", "how they ended", "cut actions",
        "same words as unsteered", "tokens steered + cached = in scope", "receipts add up", "mean delta norm",
    )  # fmt: skip
    return Table(header, [_health_cells(h) for h in health])


def missing_table(measures: Sequence[Measure], design: Design) -> Table | None:
    """Why figures are missing, by measure and arm; None where none is."""
    rows = [
        [arm.name, measure.label, measure.judge, cause, str(count)]
        for measure in measures
        for arm, causes in zip(design.arms, measure.causes, strict=True)
        for cause, count in sorted(causes.items())
    ]
    return (
        Table(("arm", "measure", "judge", "why", "missing"), rows, caption="Missing figures", folded=True)
        if rows
        else None
    )


def _health_cells(h: ArmHealth) -> list[str]:
    endings = ", ".join(f"{cause.replace('_', ' ')} {count}" for cause, count in h.causes.most_common())
    return [
        h.arm.name, str(h.num_planned), str(h.num_complete), str(h.num_failed), str(h.num_unfinished),
        interval(h.turns, 1), endings or NONE, f"{h.num_cut} of {h.num_turns}",
        NONE if h.num_same is None else f"{h.num_same} of {h.num_compared}",
        f"{h.tokens_steered} + {h.tokens_cached} = {h.tokens_in_scope}" if h.num_receipts else NONE,
        f"{h.num_receipts_adding_up} of {h.num_receipts}" if h.num_receipts else NONE,
        number(h.mean_delta_norm) if h.num_receipts else NONE,
    ]  # fmt: skip


def _held_out_cells(way: HeldOut, arms: Sequence[Arm]) -> list[str]:
    return [
        alpha(arms[way.chosen].alpha), number(way.seen, 3, sign=True), interval(way.unseen, 3, sign=True),
        str(way.num_clusters),
    ]  # fmt: skip


def _mean_or_delta(effect: Effect, is_baseline: bool, with_intervals: bool) -> str:
    if is_baseline:
        return interval(effect.mean) if with_intervals else number(effect.mean.value)
    text = interval(effect.delta, sign=True) if with_intervals else number(effect.delta.value, sign=True)
    return text + STAR if effect.p_holm < LEVEL else text


def _share(value: float) -> str:
    return NONE if value != value else f"{value:.0%}"
