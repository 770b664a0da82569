"""Answers on the terminal: the unsteered one beside the steered one, and the receipt below."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


def show_pairs(console: Console, records: Sequence[dict[str, Any]]) -> None:
    """`records` as `generate.record_of` makes them."""
    for record in records:
        console.print(Text(_last_words(record["prompt"]), style="bold"))
        sides = [("unsteered", "dim", record["baseline_output"]), ("steered", "blue", record["steered_output"])]
        row = Table.grid(expand=True, padding=(0, 1))
        panels = [Panel(Text(text), title=name, border_style=style) for name, style, text in sides if text is not None]
        for _ in panels:
            row.add_column(ratio=1)
        row.add_row(*panels)
        console.print(row)
        for line in receipt_lines(record):
            console.print(Text(line, style="dim"))


def receipt_lines(record: dict[str, Any]) -> list[str]:
    receipt = record["receipt"]
    if receipt is None:
        return ["receipt: nothing was asked for, nothing was steered"]
    lines = [
        f"receipt: {receipt['tokens_in_scope']} tokens in scope = {receipt['tokens_steered']} steered + "
        f"{receipt['tokens_cached']} cached; mean delta norm {receipt['mean_delta_norm']:.3g}"
    ]
    for feature in receipt["features"]:
        line = f"feature {feature['id']} ({feature['op']})"
        unsteered = record["baseline_feature_values"].get(str(feature["id"]))
        if unsteered is not None:
            line += f": mean activation {unsteered:.3g} in the unsteered answer"
        if feature["mean_before"] is not None:
            line += f"; {feature['mean_before']:.3g} -> {feature['mean_after']:.3g} in the steered one"
            line += f", active at {feature['share_active']:.0%} of tokens"
        lines.append(line)
    return lines


def _last_words(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
