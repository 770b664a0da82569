"""The figures of a run's report: dose and response, differences of arms, behaviour against fluency."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiller.evaluation.labels import place_labels
from tiller.evaluation.plotting import COLOURS, INK, MARKERS, MUTED, PAPER, new_figure, plot_intervals, style
from tiller.evaluation.stats import Interval

from .cells import alpha
from .effects import Effect
from .measures import Design, Measure
from .tradeoff import Compromise, Tradeoff, front
from .unit import UNSTEERED

WIDTH, HEIGHT = 4.3, 3.2


def dose_response(measure: Measure, effects: Sequence[Effect], design: Design, targets: Sequence[str]) -> Figure:
    """Means against alpha, a line a target, with 95% bands; the unsteered mean as a dashed line with its own band."""
    with style():
        figure, (panel,) = new_figure(1, WIDTH, HEIGHT)
        _unsteered_line(panel, effects, design)
        for i, target in enumerate(targets):
            own = [effects[row] for row in design.arms_of(target)]
            alphas = [float(effect.arm.alpha or 0.0) for effect in own]
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            plot_intervals(panel, alphas, [effect.mean for effect in own], target, colour, marker=marker)
        panel.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
        panel.set(title=measure.label, xlabel="alpha", ylabel=_y_label(measure))
        _legend(figure, panel)
    return figure


def differences(measure: Measure, effects: Sequence[Effect], design: Design) -> Figure:
    """Paired differences from the unsteered arm with 95% intervals, an arm a row, zero marked."""
    own = [effect for i, effect in enumerate(effects) if i != design.baseline and not np.isnan(effect.delta.value)]
    with style():
        figure, (panel,) = new_figure(1, WIDTH, 1.15 + 0.34 * len(own))
        panel.axvline(0, color=INK, linewidth=1.0, zorder=1)
        for row, effect in enumerate(own):
            _whisker(panel, effect.delta, row, COLOURS[0])
        panel.set_yticks(range(len(own)), [effect.arm.name for effect in own])
        panel.set_ylim(len(own) - 0.4, -0.6)
        panel.set(title=measure.label, xlabel=f"difference from unsteered{_in_units(measure)}")
        panel.grid(visible=False, axis="y")
        panel.margins(x=0.12)
    return figure


def pareto(tradeoff: Tradeoff, design: Design) -> Figure:
    """Every arm by its fluency and behaviour, labelled by alpha, with both intervals; the front of the best ones."""
    points = np.array([[c.fluency.value, c.behaviour.value] for c in tradeoff.compromises])
    with style():
        figure, (panel,) = new_figure(1, 5.4, 4.2)
        on_front = front(points)
        panel.plot(*points[on_front].T, color=MUTED, linewidth=5, alpha=0.25, solid_capstyle="round", zorder=0)
        texts: list[tuple[float, float, str, str]] = []
        lines: list[list[tuple[float, float]]] = []
        for label, colour, marker, own in _series(tradeoff, design):
            _cloud(panel, own, label, colour, marker)
            texts += [(c.fluency.value, c.behaviour.value, _point_label(c), colour) for c in own]
            lines.append([(c.fluency.value, c.behaviour.value) for c in own if c.arm.alpha is not None])
        panel.set(
            title=f"{tradeoff.behaviour.label} against fluency", xlabel=_named(tradeoff.fluency),
            ylabel=_named(tradeoff.behaviour),
        )  # fmt: skip
        panel.margins(0.12)
        _legend(figure, panel)
        place_labels(figure, panel, [text for text in texts if not np.isnan(text[:2]).any()], lines)
    return figure


def _series(tradeoff: Tradeoff, design: Design) -> list[tuple[str, str, str, list[Compromise]]]:
    """(label, colour, marker, points): the unsteered arm, each target by rising alpha, arms without an alpha."""
    all_points = tradeoff.compromises
    series = [
        (
            target,
            COLOURS[i % len(COLOURS)],
            MARKERS[i % len(MARKERS)],
            [all_points[row] for row in design.arms_of(target)],
        )
        for i, target in enumerate(design.targets)
    ]
    plain = [c for c in all_points if c.arm.alpha is None and c.arm.name != UNSTEERED.name]
    if plain:
        series.append(("arms", COLOURS[0], "o", plain))
    if design.baseline is not None:
        series.append((UNSTEERED.name, INK, "*", [all_points[design.baseline]]))
    return series


def _cloud(panel: Axes, points: Sequence[Compromise], label: str, colour: str, marker: str) -> None:
    for c in points:
        x, y = c.fluency, c.behaviour
        panel.plot([x.low, x.high], [y.value, y.value], color=colour, linewidth=0.8, alpha=0.45)
        panel.plot([x.value, x.value], [y.low, y.high], color=colour, linewidth=0.8, alpha=0.45)
    swept = len(points) > 1 and points[0].arm.alpha is not None
    panel.plot(
        [c.fluency.value for c in points], [c.behaviour.value for c in points], color=colour, marker=marker,
        markersize=9 if marker == "*" else 5, markeredgecolor=PAPER, markeredgewidth=0.6,
        linewidth=1.0 if swept else 0, linestyle=":", label=label, zorder=3,
    )  # fmt: skip


def _point_label(c: Compromise) -> str:
    if c.arm.alpha is not None:
        return "" if c.arm.alpha == 0 else alpha(c.arm.alpha)
    return "" if c.arm.name == UNSTEERED.name else c.arm.name


def _unsteered_line(panel: Axes, effects: Sequence[Effect], design: Design) -> None:
    if design.baseline is not None and not np.isnan(effects[design.baseline].mean.value):
        mean = effects[design.baseline].mean
        panel.axhspan(mean.low, mean.high, color=MUTED, alpha=0.12, linewidth=0, zorder=0)
        panel.axhline(mean.value, color=MUTED, linewidth=1.2, linestyle="--", label=UNSTEERED.name, zorder=1)


def _whisker(panel: Axes, interval: Interval, row: int, colour: str) -> None:
    panel.plot([interval.low, interval.high], [row, row], color=colour, linewidth=1.8, solid_capstyle="round")
    panel.plot(interval.value, row, "o", color=colour, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.8)


def _y_label(measure: Measure) -> str:
    return measure.metric.unit or _range(measure) or measure.metric.label


def _named(measure: Measure) -> str:
    """Name and unit, for an axis whose title doesn't say what it is."""
    return measure.label if (unit := _y_label(measure)) == measure.metric.label else f"{measure.label} ({unit})"


def _range(measure: Measure) -> str:
    low, high = measure.metric.low, measure.metric.high
    return f"score, {low:g} to {high:g}" if low is not None and high is not None else ""


def _in_units(measure: Measure) -> str:
    unit = measure.metric.unit
    return f", {unit}" if unit and not unit.startswith("-") else ", points"


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if len(labels) > 1:
        columns = 3 if max(map(len, labels)) < 14 else 2
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), columns))
