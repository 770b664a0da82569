"""Tables of the benchmarks, for the terminal and as Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

LEAST_WIDTH = 150  # below it numbers would be broken over lines


class Table(NamedTuple):
    """Cells as they are shown; the first column, and those in `prose`, hold words."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: frozenset[int] = frozenset()

    def markdown(self) -> str:
        """A GitHub table under a heading."""
        rule = ["---" if self._words(i) else "---:" for i in range(len(self.header))]
        lines = [f"| {' | '.join(_escaped(cells))} |" for cells in (self.header, rule, *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, ""])

    def show(self, console: Console) -> None:
        wide = Console(width=max(console.width, LEAST_WIDTH), file=console.file)
        wide.print(f"\n{self.title}", style="bold", highlight=False, markup=False, soft_wrap=True)
        table = RichTable(box=SIMPLE_HEAD)
        for index, name in enumerate(self.header):
            words = self._words(index)
            table.add_column(name, justify="left" if words else "right", no_wrap=index not in self.prose)
        for row in self.rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        wide.print(table)

    def _words(self, index: int) -> bool:
        return index == 0 or index in self.prose


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Least and greatest."""
    return f"{min(values):.{digits}f} .. {max(values):.{digits}f}" if values else ""


def rate(value: float | None) -> str:
    """Tokens a second; empty for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
