"""What `tiller bench throughput` shows: a table for each batch size, and a picture of shares with their spread."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator
from rich.console import Console

from tiller.evaluation.plotting import COLOURS, INK, style, write_png

from .arms import DISTINCT, PLAIN
from .record import ArmEntry, Record
from .tables import Table, rate, spread

QUIET = 0.25  # cores at work before the start, at most
GREY = "#9aa5b1"
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # numbers


def title(record: Record) -> str:
    """Model, SAE and machine in a line."""
    own, place = record.settings, record.machine
    sae = [f"F = {own['features']:,}"] if own.get("features") else []
    sae += [f"k = {own['k']}"] if own.get("k") else []
    sae += [own["activation"]] if own.get("activation") else []
    how = "eager" if own["eager"] else "compiled"
    return ", ".join([own["model"], *sae, own["dtype"], how, place.gpu or place.cpu])


def tables(record: Record) -> list[Table]:
    """One a batch size."""
    return [_table(record, batch) for batch in record.batches]


def _table(record: Record, batch: int) -> Table:
    own = record.settings["lengths"]
    rows = [
        _row(record, arm, batch) for arm in record.arms if record.of(arm.id, batch) or arm.id in record.failed(batch)
    ]
    rounds = len(record.of(PLAIN, batch))
    name = f"{title(record)}: {batch} at once, {own['prompt']} + {own['answer']} tokens, {rounds} rounds"
    header = ["arm", "tokens/s", "share", "min .. max", "of", "aim", "reached", "cached"]
    return Table(name, header, rows, frozenset({4}))


def _row(record: Record, arm: ArmEntry, batch: int) -> list[str]:
    if error := record.failed(batch).get(arm.id):
        return [arm.name, "", "", "", f"not run: {error}", "", "", ""]
    ratio = record.shares(arm.id, arm.against, batch)
    of = "" if arm.id == arm.against else record.arm(arm.against).name
    share = [f"{statistics.median(ratio):.3f}", spread(ratio)] if of and ratio else ["1" if not of else "", ""]
    return [arm.name, rate(record.rate(arm.id, batch)), *share, of, *_aim(arm, ratio), _cached(record, arm.id, batch)]


def _aim(arm: ArmEntry, ratio: list[float]) -> tuple[str, str]:
    if arm.aim is None or not ratio:
        return "", ""
    middle = statistics.median(ratio)
    reached = middle <= arm.aim if arm.at_most else middle >= arm.aim
    return f"{'<=' if arm.at_most else '>='} {arm.aim:g}", "yes" if reached else "no"


def _cached(record: Record, arm: str, batch: int) -> str:
    """Prompt tokens served from the prefix cache."""
    return f"{statistics.median(sample.cached_tokens for sample in record.of(arm, batch).values()):,.0f}"


def show(record: Record, console: Console) -> None:
    for table in tables(record):
        table.show(console)
    busy = record.machine.busy_cores or 0.0
    shared = f"; {busy:g} cores were busy before the start: not quiet" if busy > QUIET else ""
    active = record.facts.get("steered", {}).get("active_features")
    console.print(f"active features a token: {active}{shared}", highlight=False)


def overview(records: Sequence[Record]) -> Table:
    """Shares of unsteered vLLM, an arm a row and a result a column."""
    columns = [(record, batch) for record in records for batch in record.batches]
    names = {arm.id: arm.name for record in records for arm in record.arms if arm.id != arm.against}
    rows = [[name, *(_middle(record, arm, batch) for record, batch in columns)] for arm, name in names.items()]
    header = ["arm", *(f"{title(record)}, {batch} at once" for record, batch in columns)]
    return Table("Medians of the shares of vLLM without plugin, asked the same", header, rows)


def _middle(record: Record, arm: str, batch: int) -> str:
    if arm not in {entry.id for entry in record.arms}:
        return ""
    ratio = record.shares(arm, "shared-plain" if arm.startswith("shared") else PLAIN, batch)
    return f"{statistics.median(ratio):.3f}" if ratio else ""


def draw(record: Record) -> Figure:
    """A column for each batch size: shares of vLLM's tokens a second, those behind a shared prompt, and distinct specs."""
    arms = [arm for arm in record.arms if not arm.id.startswith(("shared", "distinct"))]
    shared = [arm for arm in record.arms if arm.id.startswith("shared")]
    has_curve = any(len(_curve(record, batch)) > 1 for batch in record.batches)
    heights = [len(arms) + 1.5, *([len(shared) + 1.5] if shared else []), *([7.0] if has_curve else [])]
    num = len(record.batches)
    with style():
        figure = Figure(figsize=(2.9 + 3.6 * num, 0.9 + 0.27 * sum(heights)), layout="constrained")
        panels = figure.subplots(len(heights), num, squeeze=False, height_ratios=heights, sharey="row")
        for own, batch in zip(panels.T, record.batches, strict=True):
            _bars(own[0], record, batch, arms, PLAIN)
            own[0].set_title(f"{batch} at once")
            if shared:
                _bars(own[1], record, batch, shared, "shared-plain")
                own[1].set_title("512 prompt tokens shared")
            if has_curve:
                _distinct(own[-1], record, batch)
        figure.suptitle(title(record))
    return figure


def _bars(panel: Axes, record: Record, batch: int, arms: list[ArmEntry], against: str) -> None:
    for place, arm in enumerate(arms):
        ratio = record.shares(arm.id, against, batch)
        if not ratio:
            why = "failed" if arm.id in record.failed(batch) else "not measured"
            panel.text(0.02, place, why, va="center", color=GREY, fontsize=8)
            continue
        middle = statistics.median(ratio)
        panel.barh(place, middle, height=0.62, color=_colour(arm, against))
        panel.plot([min(ratio), max(ratio)], [place, place], color=INK, linewidth=1.2)
        panel.text(max(*ratio, middle) + 0.02, place, f"{middle:.2f}", va="center", fontsize=8, bbox=BEHIND)
    panel.axvline(1.0, color=INK, linewidth=0.8, linestyle="--")
    panel.set_axisbelow(True)
    panel.set_yticks(range(len(arms)), [arm.name for arm in arms])
    panel.set_ylim(len(arms) - 0.4, -0.6)
    panel.set_xlim(0, max(1.25, panel.get_xlim()[1]))
    panel.set_xlabel("share of vLLM's tokens/s (median, range over rounds)")


def _colour(arm: ArmEntry, against: str) -> str:
    if arm.at_most:
        return COLOURS[1]
    return GREY if arm.id == against else COLOURS[0]


def _curve(record: Record, batch: int) -> list[tuple[int, list[float]]]:
    found = [(num, record.shares(f"distinct-{num}", PLAIN, batch)) for num in DISTINCT]
    return [(num, ratio) for num, ratio in found if ratio]


def _distinct(panel: Axes, record: Record, batch: int) -> None:
    """Throughput against the number of distinct specs in the batch."""
    panel.set_ylabel("share of vLLM's tokens/s")
    panel.set_xlabel("distinct specs in the batch")
    panel.axhline(1.0, color=INK, linewidth=0.8, linestyle="--")
    curve = _curve(record, batch)
    if not curve:
        return
    numbers = [num for num, _ in curve]
    panel.set_xscale("log", base=2)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks(numbers, [str(num) for num in numbers])
    middle = [statistics.median(ratio) for _, ratio in curve]
    panel.fill_between(numbers, [min(r) for _, r in curve], [max(r) for _, r in curve], color=COLOURS[0], alpha=0.15)
    panel.plot(numbers, middle, color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.6)
    panel.set_ylim(0, max(1.25, 1.05 * max(max(ratio) for _, ratio in curve)))


def save_plot(record: Record, file: Path) -> None:
    """Draws `record` into a PNG."""
    write_png(draw(record), file)
