"""What a run came to, on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from tiller.evaluation.report import Table

from .outcome_report import Findings
from .report_tables import held_out_table, matrix

MAX_COLUMNS = 5
FILES = "report.html, figures/, summary.csv, episodes.parquet, turns.parquet and scores.parquet"


def show_findings(console: Console, found: Findings, out: Path) -> None:
    """Arms by dimension, the alphas that were chosen, and what a reader must know before the numbers."""
    shown = [i for i in found.shown if found.measures[i].metric.kind != "form"][:MAX_COLUMNS]
    if shown:
        title = "Unsteered means, then paired differences; * Holm's p below 0.05"
        measures, effects = [found.measures[i] for i in shown], [found.effects[i] for i in shown]
        _show(console, title, matrix(measures, effects, found.design, with_intervals=False))
    held = held_out_table(found.tradeoffs, found.design)
    if held.rows:
        _show(console, "Alpha chosen on one half of the scenarios, reported on the other", held)
    for problem in found.problems:
        console.print(f"note: {problem}", style="yellow", highlight=False)
    console.print(f"wrote {FILES} to {out}", highlight=False, soft_wrap=True)


def _show(console: Console, title: str, given: Table) -> None:
    table = RichTable(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(given.header):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in given.rows:
        table.add_row(*row)
    console.print(table)
