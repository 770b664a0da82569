"""How figures look: one style, colours that the colour-blind can tell apart, and SVG that follows a page's light or dark."""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .stats import Interval

INK, MUTED, GRID, PAPER = "#1f2933", "#66727f", "#d9dee5", "#ffffff"
COLOURS = ("#0072b2", "#d55e00", "#00856a", "#a4508b", "#8a6a00", "#3d6fd1")  # after Okabe and Ito, 2008
MARKERS = ("o", "s", "^", "D", "v", "P")
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper"} | {c: f"c{i}" for i, c in enumerate(COLOURS)}
STYLE: dict[Any, Any] = {
    "figure.facecolor": PAPER, "axes.facecolor": "none",
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlepad": 8, "axes.edgecolor": GRID, "xtick.major.size": 0, "ytick.major.size": 0,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "legend.frameon": False,
    "svg.hashsalt": "tiller", "svg.fonttype": "path", "figure.dpi": 150, "savefig.bbox": "tight",
}  # fmt: skip


def style() -> AbstractContextManager[None]:
    """Inside it figures are drawn in the reports' style; nothing global stays touched."""
    return matplotlib.rc_context(STYLE)


def new_figure(num_panels: int, width: float = 3.8, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A row of panels."""
    figure = Figure(figsize=(width * num_panels, height), layout="constrained")
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def legend_below(figure: Figure, panel: Axes) -> None:
    """One legend for all panels, under them, with the entries of `panel`."""
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def plot_intervals(
    panel: Axes,
    x: Sequence[float],
    y: Sequence[Interval],
    label: str,
    colour: str,
    scale: float = 1.0,
    marker: str = "o",
) -> None:
    """A line through the estimates with a band for their intervals."""
    low, high = [scale * i.low for i in y], [scale * i.high for i in y]
    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.plot(x, [scale * i.value for i in y], color=colour, label=label, marker=marker, markersize=3.5, linewidth=1.6)


def svg_of(figure: Figure) -> Markup:
    """The figure as an inline <svg>, the same bytes for the same data, its colours those of the page around it."""
    text = _svg(figure, transparent=True)
    for colour, name in VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(text[text.index("<svg") :])


def write_svg(figure: Figure, path: Path) -> None:
    """A file of its own, on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_svg(figure), encoding="utf-8")


def _svg(figure: Figure, transparent: bool = False) -> str:
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=transparent)
    return buffer.getvalue()


def write_png(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Software": None})
