"""Self-contained HTML reports: sections of text, tables and pictures in one file that loads nothing from anywhere."""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .stats import Interval

INK, GRID = "#1f2933", "#d9dee5"
COLOURS = ("#2563eb", "#d9480f", "#2b8a3e", "#7048e8")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlepad": 8, "axes.edgecolor": GRID, "xtick.major.size": 0, "ytick.major.size": 0,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "legend.frameon": False,
    "svg.hashsalt": "tiller", "svg.fonttype": "path", "figure.dpi": 150, "savefig.bbox": "tight",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; `highlight` are indices of rows that stand out, `wrap` of columns that hold prose."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    highlight: frozenset[int] = frozenset()
    wrap: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with, in this order, text, a picture, tables and a note."""

    title: str
    text: str = ""
    figure: Figure | None = None
    alt: str = ""
    tables: Sequence[Table] = ()
    note: str = ""

    @property
    def svg(self) -> Markup | None:
        return None if self.figure is None else svg_of(self.figure)


@dataclass(frozen=True, kw_only=True)
class Report:
    """One page; `facts` are short (label, value) pairs at its top, `passed` colours the verdict, None leaves it out."""

    title: str
    summary: str
    verdict: str = ""
    passed: bool | None = None
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default_factory=list)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEMPLATE.render(report=self), encoding="utf-8")


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
    panel: Axes, x: Sequence[float], y: Sequence[Interval], label: str, colour: str, scale: float = 1.0
) -> None:
    """A line through the estimates with a band for their intervals."""
    low, high = [scale * i.low for i in y], [scale * i.high for i in y]
    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.plot(x, [scale * i.value for i in y], color=colour, label=label, marker="o", markersize=3.5, linewidth=1.6)


def svg_of(figure: Figure) -> Markup:
    """The figure as an inline <svg>, the same bytes for the same data."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])


def write_png(figure: Figure, path: Path) -> None:
    with style():
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Software": None})


TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ report.title }}</title>
<style>
:root { color-scheme: light; }
body { margin: 0; background: #f4f6f8; color: #1f2933; font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { margin: 0 0 6px; font-size: 28px; } h2 { margin: 0 0 8px; font-size: 19px; }
p { margin: 0 0 12px; max-width: 76ch; }
section { background: #fff; border: 1px solid #d9dee5; border-radius: 8px; padding: 20px 22px; margin-top: 20px; }
.verdict { display: inline-block; padding: 4px 12px; border-radius: 14px; font-weight: 600; }
.passed { background: #d3f9d8; color: #1b5e2b; } .failed { background: #ffe3e3; color: #a51111; }
dl { display: flex; flex-wrap: wrap; gap: 10px 34px; margin: 18px 0 0; }
dt { font-size: 12px; color: #5b6875; } dd { margin: 0; font-weight: 600; font-size: 17px; }
figure { margin: 12px 0; overflow-x: auto; } figure svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 5px 9px; text-align: right; white-space: nowrap; border-bottom: 1px solid #e9edf1; vertical-align: top; }
th { color: #5b6875; font-weight: 600; border-bottom: 2px solid #d9dee5; }
th:first-child, td:first-child, .prose { text-align: left; } td.prose { white-space: normal; min-width: 22em; }
tr.highlight { background: #eef4ff; }
.note { color: #5b6875; font-size: 13px; }
</style>
</head>
<body><main>
<h1>{{ report.title }}</h1>
<p>{{ report.summary }}</p>
{% if report.passed is not none %}
<span class="verdict {{ 'passed' if report.passed else 'failed' }}">{{ report.verdict }}</span>
{% endif %}
{% if report.facts %}
<dl>{% for label, value in report.facts %}<div><dt>{{ label }}</dt><dd>{{ value }}</dd></div>{% endfor %}</dl>
{% endif %}
{% for section in report.sections %}
<section>
<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.svg %}<figure role="img" aria-label="{{ section.alt or section.title }}">{{ section.svg }}</figure>{% endif %}
{% for table in section.tables %}
<div class="scroll"><table>
<thead><tr>{% for cell in table.header %}<th{% if loop.index0 in table.wrap %} class="prose"{% endif %}>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr{% if loop.index0 in table.highlight %} class="highlight"{% endif %}>{% for cell in row %}<td{% if loop.index0 in table.wrap %} class="prose"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
{% if section.note %}<p class="note">{{ section.note }}</p>{% endif %}
</section>
{% endfor %}
</main></body></html>
""")  # noqa: E501
