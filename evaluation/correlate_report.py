"""What `tiller features correlate` writes: a table, a volcano plot for every score, and a page."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from .correlate import Correlate
from .labels import place_labels
from .plotting import COLOURS, MUTED, PAPER, new_figure, style, write_png, write_svg
from .report import Picture, Report, Section, Table
from .sotopia.cells import interval, p_value
from .stats import Interval

LEVEL = 0.05
NUM_LABELLED, NUM_ROWS = 8, 20
SMALLEST = 1e-16  # p below it are drawn there
HEADER = ("feature", "what it means", "r [95%]", "p", "q", "rho [95%]", "q of rho", "active in", "scenarios")


def write_correlates(
    out: Path, found: Sequence[Correlate], labels: Mapping[int, str], facts: Sequence[tuple[str, str]]
) -> None:
    """`out`/correlations.parquet, figures/volcano-*.svg and .png, and report.html."""
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([entry.to_dict() for entry in found]), out / "correlations.parquet")
    scores = by_score(found)
    figures = {name: volcano(name, own) for name, own in scores.items()}
    for name, figure in figures.items():
        write_svg(figure, out / "figures" / f"volcano-{name}.svg")
        write_png(figure, out / "figures" / f"volcano-{name}.png")
    Report(
        title="Features and scores",
        summary=(
            f"{len({entry.feature for entry in found})} features with enough support against {len(scores)} scores. Ids are "
            "rows of the dictionary. A correlation nominates a feature; a sweep shows whether it causes anything."
        ),
        facts=facts,
        sections=[
            Section(
                title="Volcano plots",
                text=(
                    "One point a feature: its correlation with the score, and how sure that is. Coloured: false discovery "
                    f"rate below {LEVEL:g} over all features of the score."
                ),
                pictures=[
                    Picture(figure, f"correlation and p-value of features with {n}") for n, figure in figures.items()
                ],
            ),
            *(Section(title=name, tables=[table(own[:NUM_ROWS], labels)]) for name, own in scores.items()),
            Section(
                title="Method",
                text=(
                    "Activations are read by the engine on each utterance alone, the first token left out, and pooled over "
                    "all that an agent said in an episode. r is Pearson's, rho Spearman's; intervals and p-values come from "
                    "Fisher's z with an error from leaving out one scenario at a time, Student's t with scenarios - 1 "
                    "degrees of freedom. q is Benjamini and Hochberg's, over the features of one score. "
                    "The order is that of rho: one outlying scenario can make or break r."
                ),
            ),
        ],
    ).write(out / "report.html")


def by_score(found: Sequence[Correlate]) -> dict[str, list[Correlate]]:
    scores: dict[str, list[Correlate]] = {}
    for entry in found:
        scores.setdefault(entry.score, []).append(entry)
    return scores


def table(found: Sequence[Correlate], labels: Mapping[int, str]) -> Table:
    return Table(HEADER, [cells(entry, labels.get(entry.feature, "")) for entry in found])


def cells(c: Correlate, label: str) -> list[str]:
    """One row under HEADER."""
    return [
        str(c.feature), label, interval(Interval(c.r, c.r_low, c.r_high), sign=True), p_value(c.p), p_value(c.q),
        interval(Interval(c.rho, c.rho_low, c.rho_high), sign=True), p_value(c.rho_q), f"{c.num_active} of {c.num}",
        str(c.num_clusters),
    ]  # fmt: skip


def volcano(score: str, found: Sequence[Correlate]) -> Figure:
    """rho against -log10 p, the surest labelled by their ids, the false discovery rate's line where one is crossed."""
    own = [entry for entry in found if not isnan(entry.rho_p)]
    x, y = [entry.rho for entry in own], [-np.log10(max(entry.rho_p, SMALLEST)) for entry in own]
    sure = np.array([entry.rho_q < LEVEL for entry in own], dtype=bool)
    with style():
        figure, (panel,) = new_figure(1, 4.6, 3.8)
        panel.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
        for chosen, colour, label in ((~sure, MUTED, "not sure"), (sure, COLOURS[1], f"q < {LEVEL:g}")):
            if chosen.any():
                panel.plot(
                    np.array(x)[chosen], np.array(y)[chosen], "o", color=colour, markersize=4, markeredgecolor=PAPER,
                    markeredgewidth=0.4, label=label,
                )  # fmt: skip
        if sure.any():
            panel.axhline(min(np.array(y)[sure]), color=COLOURS[1], linewidth=0.8, linestyle="--", zorder=0)
        reach = 1.15 * max([0.1, *map(abs, x)])
        panel.set(title=score, xlabel="rank correlation rho", ylabel="$-\\log_{10}$ p", xlim=(-reach, reach))
        panel.set_ylim(bottom=0)
        panel.margins(y=0.12)
        points = list(zip(x, y, strict=True))
        texts = [
            (*point, str(own[i].feature) if i < NUM_LABELLED else "", COLOURS[0]) for i, point in enumerate(points)
        ]
        place_labels(figure, panel, texts[: max(300, NUM_LABELLED)])
    return figure
