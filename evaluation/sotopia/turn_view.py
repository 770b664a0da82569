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
        first = here[0]
        title = (
            f"record {first['record_idx']}, turn {first['turn_idx']}, {first['codename'] or first['environment_id']}"
        )
        console.print(Text(title, style="bold"))
        if first["last_turn"] is not None:
            console.print(Text(f"  {first['last_turn']}"))
        if first["recorded_action"] is not None:
            console.print(Text(f"  recorded: {said(first['agent'], first['recorded_action'])}", style="dim"))
        arms = [("unsteered", "dim", first["baseline_action"])]
        arms += [(spec_title(result["steering"]), "blue", result["steered_action"]) for result in here]
        panels = [Panel(Text(said(first["agent"], act)), title=Text(name), border_style=s) for name, s, act in arms]
        for row in rows_of(panels, console.width):
            console.print(row)
        for result in here:
            lines = receipt_lines(result)
            console.print(Text(f"{spec_title(result['steering'])}: {lines[0]}", style="dim"))
            for line in lines[1:]:
                console.print(Text(f"  {line}", style="dim"))


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


def spec_title(spec: dict[str, Any]) -> str:
    """What a spec does, in a few characters."""
    edits = [f"{edit['id']} {_change(edit.get('op', 'add'), edit.get('value'))}" for edit in spec.get("features", [])]
    return ", ".join([*edits, *(f"{v['name']} {v['alpha']:g}" for v in spec.get("vectors", []))]) or "steered"


def _change(op: str, value: float | None) -> str:
    signs = {"add": "+=", "set": "=", "scale": "*=", "min": ">=", "max": "<="}
    return op if value is None else f"{signs[op]} {value:g}"
