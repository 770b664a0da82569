"""What `tiller bench serve` shows: a table for each load, and a picture of throughput and waiting times."""

import statistics
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiller.evaluation.plotting import COLOURS, INK, style

from .tables import Table, rate, spread

WAITS = ("ttft", "tpot")
PERCENTILES = (50, 95, 99)


def values(report: dict[str, Any], load: str, arm: str, key: str) -> list[float]:
    """One number a round, in the order of rounds."""
    return [sample[key] for sample in report["samples"] if sample["load"] == load and sample["arm"] == arm]


def shares(report: dict[str, Any], load: str, arm: str, plain: str) -> list[float]:
    """Output tokens a second over plain vLLM's in the same round."""
    own, theirs = (values(report, load, name, "output_throughput") for name in (arm, plain))
    return [mine / other for mine, other in zip(own, theirs, strict=True)]


def load_names(report: dict[str, Any]) -> list[str]:
    return [load["name"] for load in report["settings"]["loads"]]


def tables(report: dict[str, Any], aims: dict[str, float | None], plain: str) -> list[Table]:
    """One a load: medians over rounds, shares with their least and greatest."""
    header = ["arm", "tokens/s", "share", "min .. max", "aim", *_wait_headers(), "front end"]
    own, settings = [], report["settings"]
    for load in load_names(report):
        rows = [_row(report, load, arm, aims[arm], plain) for arm in aims if values(report, load, arm, "duration")]
        title = (
            f"{settings['config']}, {load}, {settings['prompt_len']} + {settings['max_tokens']} tokens: medians over rounds, "
            "waits in ms as p50/p95/p99, front end in CPU ms a request"
        )
        own.append(Table(title, header, rows))
    costs = [[edits, *(f"{value:.3f}" for value in cost.values())] for edits, cost in report["submission_ms"].items()]
    first = next(iter(report["submission_ms"].values()))
    return [*own, Table("submission of a spec, CPU ms a request", ["spec of", *first], costs)]


def _row(report: dict[str, Any], load: str, arm: str, aim: float | None, plain: str) -> list[str]:
    ratio = shares(report, load, arm, plain)
    waits = ["/".join(_short(_median(report, load, arm, f"p{p}_{w}_ms")) for p in PERCENTILES) for w in WAITS]
    return [
        arm, rate(_median(report, load, arm, "output_throughput")), f"{statistics.median(ratio):.3f}", spread(ratio),
        "" if aim is None else f">= {aim}", *waits, f"{_median(report, load, arm, 'front_end_ms'):.2f}",
    ]  # fmt: skip


def _wait_headers() -> list[str]:
    return [wait.upper() for wait in WAITS]


def _median(report: dict[str, Any], load: str, arm: str, key: str) -> float:
    return statistics.median(values(report, load, arm, key))


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def draw(report: dict[str, Any], plain: str) -> Figure:
    """A column a load. Above, throughput as a share of plain vLLM's; below, time to the first token and per token."""
    loads, arms = load_names(report), list(dict.fromkeys(sample["arm"] for sample in report["samples"]))
    arms.sort(key=lambda arm: arm != plain)
    with style():
        figure = Figure(figsize=(1.8 + 2.3 * len(loads), 6.2), layout="constrained")
        panels = figure.subplots(3, len(loads), squeeze=False, sharey=True)
        for column, load in enumerate(loads):
            _shares(panels[0][column], report, load, arms, plain)
            for row, wait in enumerate(WAITS, start=1):
                _waits(panels[row][column], report, load, arms, wait)
            panels[0][column].set_title(load)
        for panel in panels[:, 0]:
            panel.set_yticks(range(len(arms)), arms)
            panel.set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _shares(panel: Axes, report: dict[str, Any], load: str, arms: list[str], plain: str) -> None:
    for place, arm in enumerate(arms):
        ratio = shares(report, load, arm, plain)
        panel.barh(place, statistics.median(ratio), height=0.6, color=COLOURS[0] if arm != plain else "#9aa5b1")
        panel.plot([min(ratio), max(ratio)], [place, place], color=INK, linewidth=1.2)
    panel.set_axisbelow(True)
    panel.axvline(1.0, color=INK, linewidth=0.8, linestyle="--")
    panel.set_xlim(0, None)
    panel.set_xlabel("share of plain tokens/s")


def _waits(panel: Axes, report: dict[str, Any], load: str, arms: list[str], wait: str) -> None:
    for place, arm in enumerate(arms):
        p50, p95, p99 = (_median(report, load, arm, f"p{p}_{wait}_ms") for p in PERCENTILES)
        panel.plot([p50, p99], [place, place], color=COLOURS[1], linewidth=1.2)
        panel.plot(p50, place, "o", color=COLOURS[1], markersize=5)
        panel.plot(p95, place, "|", color=COLOURS[1], markersize=9)
        panel.plot(p99, place, "|", color=COLOURS[1], markersize=5)
    panel.set_xlim(0, None)
    panel.set_xlabel(f"{wait.upper()} in ms: p50, p95, p99")
