"""What `tiller bench rivals` shows: shares of vLLM's throughput, rival by rival, and, apart, what rivals publish themselves."""

import statistics
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from tiller.evaluation.plotting import COLOURS, INK, style, write_png

from .arms import PLAIN
from .record import Record, Sample
from .rivals.protocol import EVERYTHING
from .rivals.published import PUBLISHED
from .tables import Table, rate, spread
from .throughput_report import BEHIND

TITLES = {"unsteered": "nobody steered", "add": "one vector for all", "mixed": "every second request",
          "distinct": "a vector for each"}  # fmt: skip
CANT, NOT_RUN = "can't express it", "did not run"


def engines(record: Record) -> dict[str, str]:
    """Titles of the rivals' engines, by the part of their arms' ids before the workload."""
    return {arm.id.rsplit(":", 1)[0]: arm.name for arm in record.arms}


def share(record: Record, arm: str, engine: str, batch: int) -> list[float]:
    """Of unsteered compiled vLLM's tokens a second in the same rounds."""
    return record.shares(arm, f"{engine}:{PLAIN}", batch)


def rival_tables(record: Record) -> list[Table]:
    """The shares, what each rival is, and the published numbers."""
    batch = record.settings["batch"]
    own = [_shares(record, batch), _failures(record, batch), _answers(record, batch), _about(record)]
    return [table for table in own if table.rows] + [published()]


def _shares(record: Record, batch: int) -> Table:
    own = record.settings["lengths"]
    rows = []
    for engine, title in engines(record).items():
        vllm = record.rate(f"{engine}:{PLAIN}", batch)
        cells = [_cell(record, engine, workload, batch) for workload in EVERYTHING]
        rows.append([title, rate(vllm), *cells])
        ours = [_summary(share(record, f"{engine}:tiller:{workload}", engine, batch)) for workload in EVERYTHING]
        if any(ours):
            rows.append(["  Tiller in the same rounds", "", *ours])
    title = (
        f"{record.settings['model']}, {record.machine.gpu or record.machine.cpu}: {batch} at once, {own['prompt']} + "
        f"{own['answer']} tokens, {record.settings['rounds']} rounds; shares of unsteered compiled vLLM"
    )
    header = ["engine", "vLLM, tokens/s", *(TITLES[workload] for workload in EVERYTHING)]
    return Table(title, header, rows, frozenset())


def _cell(record: Record, engine: str, workload: str, batch: int) -> str:
    arm = f"{engine}:{workload}"
    if arm not in {entry.id for entry in record.arms}:
        return CANT
    if arm in record.failed(batch):
        return NOT_RUN
    return _summary(share(record, arm, engine, batch))


def _failures(record: Record, batch: int) -> Table:
    """Errors, one row for all workloads of an engine that failed alike."""
    found: dict[tuple[str, str], list[str]] = {}
    for arm, error in record.failed(batch).items():
        engine, workload = arm.rsplit(":", 1)
        found.setdefault((engine, error), []).append(TITLES[workload])
    names = engines(record)
    rows = [[names[engine], ", ".join(own), error] for (engine, error), own in found.items()]
    return Table("What did not run, and why", ["engine", "workloads", "error"], rows, frozenset({1, 2}))


def _summary(ratio: list[float]) -> str:
    return f"{statistics.median(ratio):.3f} ({spread(ratio)})" if ratio else ""


def _answers(record: Record, batch: int) -> Table:
    """Whether what was timed was steered."""
    rows = []
    for engine, title in engines(record).items():
        for workload in EVERYTHING:
            last = _last(record, f"{engine}:{workload}", batch)
            if last is not None and last.like_ours is not None:
                changed = "" if last.changed is None else f"{last.changed:.0%}"
                rows.append([title, TITLES[workload], changed, f"{last.like_ours:.0%}"])
    header = ["engine", "workload", "steered answers that changed", "answers equal to Tiller's"]
    return Table("Were the answers steered?", header, rows, frozenset({1}))


def _last(record: Record, arm: str, batch: int) -> Sample | None:
    samples = record.of(arm, batch)
    return samples[max(samples)] if samples else None


def _about(record: Record) -> Table:
    notes = {arm.id.rsplit(":", 1)[0]: arm.note for arm in record.arms}
    rows = [[title, str(record.facts.get(engine, {}).get("vllm", "")), notes[engine]] for engine, title in
            engines(record).items()]  # fmt: skip
    return Table("How each was run", ["engine", "vLLM", "how"], rows, frozenset({1, 2}))


def published() -> Table:
    """Quoted, and kept apart: nothing of it was measured on the machine of the other tables."""
    rows = [[entry.who, entry.setup, entry.number] for entry in PUBLISHED]
    title = "Published by others of their own work, in their own set-ups; not measured here"
    return Table(title, ["who", "set-up", "number"], rows, frozenset({1, 2}))


def show_rivals(record: Record, console: Console) -> None:
    for table in rival_tables(record):
        table.show(console)


def draw_rivals(record: Record) -> Figure:
    """A row for each engine, a column for each workload: its share of vLLM's tokens a second, and Tiller's beside it."""
    batch = record.settings["batch"]
    names = engines(record)
    longest = 1.2
    with style():
        figure = Figure(figsize=(2.8 + 2.3 * len(EVERYTHING), 1.6 + 0.62 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(EVERYTHING), squeeze=False, sharex=True, sharey=True)[0]
        for panel, workload in zip(panels, EVERYTHING, strict=True):
            for place, engine in enumerate(names):
                for shift, arm, colour in (
                    (-0.19, f"{engine}:{workload}", COLOURS[1]),
                    (0.19, f"{engine}:tiller:{workload}", COLOURS[0]),
                ):
                    ratio = share(record, arm, engine, batch)
                    ratio = [] if arm in record.failed(batch) else ratio
                    if ratio:
                        longest = max(longest, *ratio)
                        panel.barh(place + shift, statistics.median(ratio), height=0.34, color=colour)
                        panel.plot([min(ratio), max(ratio)], [place + shift] * 2, color=INK, linewidth=1.2)
                    elif ":tiller:" not in arm:
                        known = arm in {entry.id for entry in record.arms}
                        why = NOT_RUN if known else CANT
                        panel.text(0.03, place + shift, why, va="center", fontsize=7.5, bbox=BEHIND)
            panel.axvline(1.0, color=INK, linewidth=0.8, linestyle="--")
            panel.set_axisbelow(True)
            panel.set_title(TITLES[workload])
            panel.set_xlabel("share of vLLM's tokens/s")
        panels[0].set_xlim(0, 1.04 * longest)
        panels[0].set_yticks(range(len(names)), list(names.values()))
        panels[0].set_ylim(len(names) - 0.45, -0.55)
        handles = [panels[0].barh(-9, 1, color=colour) for colour in (COLOURS[1], COLOURS[0])]
        figure.legend(handles, ["the rival", "Tiller in the same rounds"], loc="outside lower center", ncols=2)
        figure.suptitle(
            f"{record.settings['model']}, {batch} at once, {record.machine.gpu or record.machine.cpu}: "
            "shares of unsteered compiled vLLM, median and range over rounds"
        )
    return figure


def save_rival_plot(record: Record, file: Path) -> None:
    """Draws `record` into a PNG."""
    write_png(draw_rivals(record), file)
