"""What `tiller bench episodes` shows: a table, and a picture of both rates by the number of episodes in flight."""

import statistics
from typing import Any

from matplotlib.figure import Figure

from tiller.evaluation.plotting import COLOURS, INK, style

from .tables import Table, rate, spread

AIM, AIM_FROM = 0.90, 64  # share of the engine's own rate, from so many episodes in flight


def places_of(report: dict[str, Any]) -> list[int]:
    return sorted({sample["in_flight"] for sample in report["samples"]})


def values(report: dict[str, Any], contender: str, places: int, per: str, over: str = "seconds") -> list[float]:
    """`per` (tokens, turns) a second, one number a round, in the order of rounds."""
    own = [s for s in report["samples"] if (s["contender"], s["in_flight"]) == (contender, places)]
    return [sample[per] / sample[over] for sample in sorted(own, key=lambda sample: sample["round"])]


def shares(report: dict[str, Any], places: int, over: str = "seconds") -> list[float]:
    """The runner's tokens a second over the engine's own in the same round."""
    own, bare = (values(report, contender, places, "tokens", over) for contender in ("runner", "engine"))
    return [mine / theirs for mine, theirs in zip(own, bare, strict=True)]


def tables(report: dict[str, Any]) -> list[Table]:
    """One row for each number of episodes in flight."""
    rows = [_row(report, places) for places in places_of(report)]
    header = [
        "in flight",
        "turns/s",
        "tokens/s",
        "engine's tokens/s",
        "share",
        "min .. max",
        "CPU share",
        "aim",
        "times 1",
    ]
    return [Table("Episodes through the runner, against the engine alone on the same prompts", header, rows)]


def _row(report: dict[str, Any], places: int) -> list[str]:
    own, bare = (_median(report, contender, places, "tokens") for contender in ("runner", "engine"))
    ratio = shares(report, places)
    first = _median(report, "runner", places_of(report)[0], "tokens")
    return [
        str(places), f"{_median(report, 'runner', places, 'turns'):.1f}", rate(own), rate(bare),
        f"{statistics.median(ratio):.3f}", spread(ratio), f"{statistics.median(shares(report, places, 'cpu_seconds')):.3f}",
        f">= {AIM}" if places >= AIM_FROM else "", f"{own / first:.1f}" if places_of(report)[0] == 1 else "",
    ]  # fmt: skip


def _median(report: dict[str, Any], contender: str, places: int, per: str) -> float:
    return statistics.median(values(report, contender, places, per))


def draw(report: dict[str, Any]) -> Figure:
    """Tokens a second, median and range over rounds."""
    places = places_of(report)
    with style():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        panel = figure.subplots()
        for contender, name, colour in (("engine", "the engine alone", INK), ("runner", "the runner", COLOURS[0])):
            rates = [values(report, contender, number, "tokens") for number in places]
            panel.plot(places, [statistics.median(r) for r in rates], color=colour, marker="o", label=name)
            panel.fill_between(places, [min(r) for r in rates], [max(r) for r in rates], color=colour, alpha=0.15)
        panel.set_xscale("log", base=2)
        panel.set_xticks(places, [str(number) for number in places])
        panel.set_ylim(bottom=0)
        panel.set_xlabel("episodes in flight")
        panel.set_ylabel("output tokens a second")
        panel.set_title(f"{report['settings']['config']}, {report['machine']['gpu'] or report['machine']['cpu']}")
        panel.legend()
    return figure
