"""Steered turns on the terminal: each moment's last line, and below it the unsteered action beside every steered one."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tiller.evaluation.generate_view import receipt_lines

from .actions import render_action


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
        for result in here:
            _show(console, result)


def _show(console: Console, result: dict[str, Any]) -> None:
    sides = [("unsteered", "dim", "baseline_action"), (spec_title(result["steering"]), "blue", "steered_action")]
    row = Table.grid(expand=True, padding=(0, 1))
    for _ in sides:
        row.add_column(ratio=1)
    row.add_row(*(Panel(Text(said(result["agent"], result[k])), title=Text(n), border_style=s) for n, s, k in sides))
    console.print(row)
    for line in receipt_lines(result):
        console.print(Text(line, style="dim"))


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
