"""Steered turns on the terminal: each moment's last line, and below it the unsteered action beside the steered ones."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tiller.evaluation.generate_view import receipt_lines

from .actions import render_action

PANEL_WIDTH = 40  # characters that a panel should at least have


def show_turns(console: Console, results: Sequence[dict[str, Any]]) -> None:
    """`results` as `turn.steer_moments` makes them."""
    for _, group in groupby(results, key=lambda result: (result["record_idx"], result["turn_idx"])):
        here = list(group)
        _show_moment(console, here[0])
        for row in rows_of(_panels(here), console.width):
            console.print(row)
        for result in here:
            first, *others = receipt_lines(result)
            console.print(Text("\n  ".join([f"{result['way']}: {first}", *others]), style="dim"))


def _show_moment(console: Console, result: dict[str, Any]) -> None:
    where = result["codename"] or result["environment_id"]
    console.print(Text(f"record {result['record_idx']}, turn {result['turn_idx']}, {where}", style="bold"))
    if result["last_turn"] is not None:
        console.print(Text(f"  {result['last_turn']}"))
    if result["recorded_action"] is not None:
        console.print(Text(f"  recorded: {said(result['agent'], result['recorded_action'])}", style="dim"))


def _panels(results: Sequence[dict[str, Any]]) -> list[Panel]:
    """The unsteered action of one moment, and all steered ones."""
    sides = [("unsteered", "dim", results[0]["baseline_action"])]
    sides += [(result["way"], "blue", result["steered_action"]) for result in results]
    agent = results[0]["agent"]
    return [
        Panel(Text(said(agent, action)), title=Text(name, no_wrap=True, overflow="ellipsis"), border_style=style)
        for name, style, action in sides
    ]


def rows_of(panels: Sequence[Panel], width: int) -> list[Table]:
    """Panels side by side, as many as are readable at `width` characters."""
    num = min(len(panels), max(2, width // PANEL_WIDTH))
    rows = []
    for start in range(0, len(panels), num):
        row = Table.grid(expand=True, padding=(0, 1))
        for _ in range(num):
            row.add_column(ratio=1)
        row.add_row(*panels[start : start + num])
        rows.append(row)
    return rows


def said(name: str, action: dict[str, Any] | None) -> str:
    """An action as the transcript has it."""
    if action is None:
        return f"{name}: max_tokens ended the answer before its action"
    return render_action(name, action["action_type"], action["argument"])
