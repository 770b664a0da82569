"""What `tiller demo` shows: one table and three curves per trait, on the terminal, as a picture and as a page."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from .demo import MAX_UNSTEERED, MIN_STEERED, Point, Row, Trait, failures
from .features import Separation
from .plotting import COLOURS, legend_below, new_figure, plot_intervals, style, write_png
from .report import Report, Section, Table
from .stats import Interval

TERMINAL_HEADER = ("alpha", "French", "tone", "fluency", "distinct", "delta", "steered", "cached")
HEADER = (
    "alpha", "answers", "French", "tone", "fluency (nats/token)", "distinct-2", "mean delta norm",
    "tokens steered", "cached", "in scope",
)  # fmt: skip
SIDES = {"french": "French", "tone": "warm (alpha > 0) and hostile (alpha < 0)"}
NUM_SAMPLES = 2


def cells(point: Point) -> list[str]:
    """One row of the page's table, under HEADER."""
    shown = [_percent(point.french), _number(point.tone), _number(point.fluency)]
    return [f"{point.alpha:g}", str(point.num_answers), *shown, *_rest(point)]


def terminal_cells(point: Point) -> list[str]:
    """One row of the terminal's table, under TERMINAL_HEADER, for a terminal of 80 columns."""
    shown = [_percent(point.french), f"{point.tone.value:+.2f}", f"{point.fluency.value:.2f}"]
    return [f"{point.alpha:g}", *shown, *_rest(point)[:-1]]


def _rest(point: Point) -> list[str]:
    tokens = (point.tokens_steered, point.tokens_cached, point.tokens_in_scope)
    return [f"{point.distinct_2:.2f}", f"{point.mean_delta_norm:.2f}", *map(str, tokens)]


def terminal_table(trait: str, points: Sequence[Point]) -> RichTable:
    table = RichTable(title=f"Steering {SIDES[trait]}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in TERMINAL_HEADER:
        table.add_column(name, justify="right", no_wrap=True)
    for point in points:
        table.add_row(*terminal_cells(point), style="bold" if point.alpha == 0 else None)
    return table


def draw(points: Sequence[Point]) -> Figure:
    """French share, tone and fluency against alpha, one line a trait."""
    with style():
        figure, panels = new_figure(3)
        for colour, trait in zip(COLOURS, dict.fromkeys(point.trait for point in points), strict=False):
            own = sorted((point for point in points if point.trait == trait), key=lambda point: point.alpha)
            alphas = [point.alpha for point in own]
            label = "French features added" if trait == "french" else "warm (right) or hostile (left) features added"
            plot_intervals(panels[0], alphas, [p.french for p in own], label, colour, scale=100)
            plot_intervals(panels[1], alphas, [p.tone for p in own], label, colour)
            plot_intervals(panels[2], alphas, [p.fluency for p in own], label, colour)
        titles = ("Answers in French", "Tone", "Fluency")
        y_labels = ("share of answers", "-1 hostile, +1 warm", "mean log-probability, nats per token")
        for panel, title, y_label in zip(panels, titles, y_labels, strict=True):
            panel.set(title=title, xlabel="alpha", ylabel=y_label)
            panel.axvline(0, color="#9aa5b1", linewidth=0.8, zorder=0)
        panels[0].set_ylim(-3, 103)
        panels[0].yaxis.set_major_formatter(PercentFormatter())
        panels[1].set_ylim(-1.05, 1.05)
        legend_below(figure, panels[0])
    return figure


def write_report(
    out: Path, traits: Sequence[Trait], rows: Sequence[Row], points: Sequence[Point], facts: dict[str, str]
) -> None:
    """Writes `out`/report.html and its main picture `out`/steering.png."""
    figure, problems = draw(points), failures(points)
    write_png(figure, out / "steering.png")
    Report(
        title="Tiller demo: one batch, every strength",
        summary=(
            f"{len(rows)} answers of one small model, steered by features of its sparse autoencoder at every alpha "
            "below, unsteered ones among them, were generated in one continuous batch of vLLM."
        ),
        verdict="; ".join(problems) if problems else "steering works: " + _effect(points),
        passed=not problems,
        facts=list(facts.items()),
        sections=[
            Section(
                title="What alpha does",
                text=(
                    "Alpha is in units of a feature's mean activation where it is active. Bands are 95% intervals: "
                    "Wilson's for shares, Student's for means. Tone is (warm - hostile) / (warm + hostile) words. "
                    "Fluency is the mean log-probability of an answer's tokens under the unsteered model, given the "
                    "same prompt; a change of language alone already costs some."
                ),
                figure=figure,
                alt="French share, tone and fluency against alpha",
            ),
            *(_trait_section(trait, rows, points) for trait in traits),
            _features_section(traits),
        ],
    ).write(out / "report.html")


def _trait_section(trait: Trait, rows: Sequence[Row], points: Sequence[Point]) -> Section:
    own = [point for point in points if point.trait == trait.name]
    highlight = frozenset(i for i, point in enumerate(own) if point.alpha == 0)
    shown = [row for row in rows if row.trait == trait.name and row.prompt_index < NUM_SAMPLES]
    samples = [[f"{row.alpha:g}", str(row.prompt_index), row.answer.text] for row in shown]
    unsteered = frozenset(i for i, row in enumerate(shown) if row.alpha == 0)
    return Section(
        title=f"Steering {SIDES[trait.name]}",
        tables=[
            Table(HEADER, [cells(point) for point in own], highlight),
            Table(("alpha", "prompt", "answer"), samples, unsteered, wrap=frozenset({2})),
        ],
        note="Tokens steered and cached add up to the tokens in scope; the highlighted rows were not steered.",
    )


def _features_section(traits: Sequence[Trait]) -> Section:
    rows = [
        [push.name, "add" if part.sign > 0 else "take away", *_feature_cells(part.feature)]
        for trait in traits
        for push in trait.pushes
        for part in push.parts
    ]
    header = ("for", "", "feature", "AUROC", "texts", "tokens", "mean there", "mean elsewhere", "where active")
    return Section(
        title="The features, found by the demo itself",
        text=(
            "Every feature of the dictionary was ranked by how well its mean activation over a labelled line tells "
            "lines of the trait, or of its opposite, from all others. The best ones then steered a few prompts that the "
            "sweep doesn't use, alone and together, and those that did most for the trait at the least loss of fluency "
            "were kept."
        ),
        tables=[Table(header, rows)],
    )


def _feature_cells(f: Separation) -> list[str]:
    return [
        str(f.id), _number(Interval(f.auroc, f.auroc_low, f.auroc_high)), f"{f.text_density:.0%}",
        f"{f.token_density:.1%}", f"{f.mean_positive:.3f}", f"{f.mean_negative:.3f}", f"{f.active_mean_positive:.2f}",
    ]  # fmt: skip


def _effect(points: Sequence[Point]) -> str:
    french = [point for point in points if point.trait == "french"]
    best = min((p for p in french if p.french.value > MIN_STEERED), key=lambda point: abs(point.alpha))
    plain = next(point for point in french if point.alpha == 0)
    return (
        f"{plain.french.value:.0%} French unsteered (below {MAX_UNSTEERED:.0%}), {best.french.value:.0%} at alpha "
        f"{best.alpha:g} (above {MIN_STEERED:.0%})"
    )


def _percent(interval: Interval) -> str:
    return f"{interval.value:.0%} [{interval.low:.0%}, {interval.high:.0%}]"


def _number(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
