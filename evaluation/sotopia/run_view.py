"""What `tiller sotopia run` says before and after a run."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .estimate import Estimate
from .export import EPISODES, ArmTotals
from .progress_view import duration
from .run import Sitting
from .unit import Unit

MARKS = {"done": "green", "interrupted": "yellow", "failing": "red", "broken": "red"}


def show_plan(console: Console, units: Sequence[Unit], estimate: Estimate, in_flight: int, out: Path) -> None:
    """The axes of the plan, who speaks, and the estimate."""
    table = Table("", "", show_header=False, box=None)
    episodes = units[0].scene is not None
    table.add_row("episodes" if episodes else "answers", f"{len(units)}: {_axes(units)}")
    table.add_row("arms", ", ".join(dict.fromkeys(unit.arm.name for unit in units)))
    table.add_row("agent" if episodes else "model", units[0].models[1 if units[0].seat == "second" else 0])
    if episodes:
        table.add_row("partner", units[0].models[0 if units[0].seat == "second" else 1])
    table.add_row("turns", f"at most {estimate.calls:,}, {in_flight} {'episodes' if episodes else 'prompts'} in flight")
    table.add_row("prompts", f"about {estimate.prompt_tokens:,} tokens if all turns are used, before prefix caching")
    table.add_row("answers", f"about {estimate.answer_tokens:,} tokens, at most {estimate.most_answer_tokens:,}")
    table.add_row("out", str(out))
    console.print(table, soft_wrap=True)


def _axes(units: Sequence[Unit]) -> str:
    counted = {
        "scenes" if units[0].scene else "prompts": len({unit.scene or unit.cluster for unit in units}),
        "arms": len({unit.arm.name for unit in units}),
        "seats": len({unit.seat for unit in units}),
        "seeds": len({unit.seed for unit in units}),
    }
    counts = [f"{num} {name if num > 1 else name[:-1]}" for name, num in counted.items()]
    return " x ".join(counts)


def show_sitting(console: Console, sitting: Sitting, out: Path) -> None:
    """One row an arm, why it ended where it did not end by itself, and what to do next."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("arm")
    for name in ("episodes", "failed", "turns", "ended by", "tokens", "steered + cached = in scope"):
        table.add_column(name, justify="left" if name == "ended by" else "right")
    for totals in sitting.totals:
        table.add_row(*_cells(totals))
    console.print(table)
    console.print(_rate(sitting), highlight=False)
    ending = sitting.ending
    if ending.state == "done":
        console.print(f"wrote {out / EPISODES}", highlight=False, soft_wrap=True)
        failed = sum(totals.failed for totals in sitting.totals)
        if failed:
            console.print(f"{failed} episodes failed; the same command with --retry-failed goes on with them")
        console.print(
            f"next: tiller sotopia score --out {out}, then tiller sotopia report --out {out}",
            highlight=False,
            soft_wrap=True,
        )
        return
    retry = " with --retry-failed" if ending.state == "failing" else ""
    left = sitting.progress.total - sitting.progress.done
    console.print(
        f"[{MARKS[ending.state]}]{ending.reason}[/]; {left} of {sitting.progress.total} episodes are left, "
        f"the same command{retry} goes on", highlight=False, soft_wrap=True,
    )  # fmt: skip


def _cells(totals: ArmTotals) -> list[str]:
    causes = ", ".join(f"{cause} {num}" for cause, num in totals.causes.most_common())
    receipts = f"{totals.tokens_steered:,} + {totals.tokens_cached:,} = {totals.tokens_in_scope:,}"
    return [
        totals.arm, str(totals.units), str(totals.failed), f"{totals.turns:,}", causes, f"{totals.completion_tokens:,}",
        receipts if totals.tokens_in_scope else "",
    ]  # fmt: skip


def _rate(sitting: Sitting) -> str:
    progress = sitting.progress
    seconds = progress.seconds
    return (
        f"this time {progress.turns:,} turns and {progress.completion_tokens:,} tokens in {duration(seconds)}: "
        f"{progress.turns / max(seconds, 1e-3):.1f} turns/s, {progress.completion_tokens / max(seconds, 1e-3):.0f} tokens/s"
    )
