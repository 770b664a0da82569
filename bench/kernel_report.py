"""What `tiller bench kernels` shows: a table on the terminal and a picture of time against tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from tiller.evaluation.plotting import COLOURS, INK, style, write_png

from .contenders import NAMES
from .operations import OPERATIONS
from .tables import Table

COLOUR_OF = dict(zip(NAMES, COLOURS, strict=False))
LABELS = {
    "tiller": "Tiller (Triton)", "eager": "eager torch, same semantics", "compiled": "torch.compile of it",
    "dense": "dense float32, three passes", "topk+gather": "encode, torch.topk, gather",
}  # fmt: skip


def show(report: dict[str, Any]) -> None:
    """The device's ceilings, and the tables."""
    console = Console(width=120)
    console.print(f"Triton kernels: {report['triton']}", style="bold", highlight=False)
    console.print(f"floor at {ceilings(report)}", highlight=False, soft_wrap=True)
    for table in tables(report):
        table.show(console)


def ceilings(report: dict[str, Any]) -> str:
    """What the roofline's floor is made of."""
    rates = report["rates"]
    return f"{rates['bandwidth'] / 1e12:.3g} TB/s, {rates['peak'] / 1e12:.3g} TFLOP/s ({rates['source']})"


def tables(report: dict[str, Any]) -> list[Table]:
    """One an operation: medians, how many times the first contender each takes, and how many times the floor that one."""
    found = []
    for name in [operation.name for operation in OPERATIONS]:
        own = [result for result in report["results"] if result["operation"] == name]
        if own:
            found.append(_table(name, sorted(own, key=lambda r: (-r["d_sae"], r["tokens"]))))
    return found


def _table(name: str, results: Sequence[dict[str, Any]]) -> Table:
    timed = [key for key in NAMES if any(key in result["contenders"] for result in results)]
    rows = []
    for result in results:
        own, base = result["contenders"], result["ratios_against"]
        cells = [_cell(own.get(key), key == base) for key in timed]
        over = f"{1 / own[base]['share_of_floor']:.3g}"
        rows.append([str(result["d_sae"]), str(result["tokens"]), _us(result["floor_us"]), *cells, over])
    title = f"{name}, microseconds (x {results[0]['ratios_against']})"
    return Table(title, ["F", "T", "floor", *timed, "x floor"], rows)


def _cell(entry: dict[str, Any] | None, is_base: bool) -> str:
    if entry is None:
        return "-"
    return _us(entry["median_us"]) if is_base else f"{_us(entry['median_us'])} ({entry['ratio']:.3g})"


def _us(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def draw(report: dict[str, Any]) -> Figure:
    """Time against T, an operation a row and a dictionary size a column; quartiles as bands, the floor as a dashed line."""
    results = report["results"]
    names = [operation.name for operation in OPERATIONS if any(r["operation"] == operation.name for r in results)]
    sizes = sorted({result["d_sae"] for result in results})
    with style():
        figure = Figure(figsize=(1.2 + 3.1 * max(len(sizes), 2), 0.9 + 2.3 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), len(sizes), squeeze=False, sharex=True, sharey="row")
        for row, name in enumerate(names):
            for column, d_sae in enumerate(sizes):
                own = [r for r in results if r["operation"] == name and r["d_sae"] == d_sae]
                _panel(panels[row][column], sorted(own, key=lambda r: r["tokens"]))
                panels[row][column].set_title(f"{name}, F = {d_sae:,}")
            panels[row][0].set_ylabel("microseconds")
        for panel in panels[-1]:
            panel.set_xlabel("tokens")
        entries: dict[str, Any] = {}
        for panel in panels.flat:
            handles, labels = panel.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3)
        figure.suptitle(_title(report))
    return figure


def _panel(panel: Axes, results: Sequence[dict[str, Any]]) -> None:
    panel.set(yscale="log")
    panel.set_xscale("log", base=2)
    panel.set_xticks([r["tokens"] for r in results], labels=[str(r["tokens"]) for r in results])
    panel.minorticks_off()
    panel.plot(
        [r["tokens"] for r in results], [r["floor_us"] for r in results], "--", color=INK, label="roofline floor"
    )
    for name in NAMES:
        own = [(r["tokens"], r["contenders"][name]) for r in results if name in r["contenders"]]
        if not own:
            continue
        tokens, entries = zip(*own, strict=True)
        low, middle, high = ([entry[key] for entry in entries] for key in ("q1_us", "median_us", "q3_us"))
        panel.fill_between(tokens, low, high, color=COLOUR_OF[name], alpha=0.15, linewidth=0)
        panel.plot(tokens, middle, color=COLOUR_OF[name], label=LABELS[name], marker="o", markersize=3.5, linewidth=1.6)


def _title(report: dict[str, Any]) -> str:
    own, place = report["settings"], report["machine"]
    where = place["gpu"] if report["device"] == "cuda" else place["cpu"]
    made = f"d_model {own['d_model']}, k {own['k']}, {own['dtype']}"
    return f"{where}, {made}" + ("" if report["device"] == "cuda" else "\nTriton kernels not timed: no CUDA device")


def save_plot(report: dict[str, Any], file: Path) -> None:
    """Draws `report` into a PNG."""
    write_png(draw(report), file)
