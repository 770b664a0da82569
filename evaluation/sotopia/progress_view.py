"""The progress of a run on the terminal; in a log file one line a minute."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .progress import Progress

LOG_SECONDS = 60.0


class Show(Protocol):
    def __call__(self, progress: Progress) -> None: ...


@contextmanager
def progress_view(console: Console) -> Iterator[Show]:
    """What shows a Progress each time it is called."""
    if not console.is_terminal:
        yield _Log(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda progress: live.update(_screen(progress), refresh=True)


class _Log:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOG_SECONDS
        for line in (describe(progress), *progress.notices()):
            self._console.print(escape(line), highlight=False, soft_wrap=True)


def _screen(progress: Progress) -> Table:
    rows = Table.grid()
    rows.add_row(ProgressBar(total=progress.total, completed=progress.done))
    rows.add_row(Text(describe(progress)))
    for notice in progress.notices():
        rows.add_row(Text(notice, style="yellow"))
    return rows


def describe(progress: Progress) -> str:
    """One line: how far, how fast, how long still, and what failed."""
    turn_rate, token_rate = progress.rates()
    left = progress.seconds_left()
    failed = f", {progress.failed} failed" if progress.failed else ""
    state = f"{progress.state}: " if progress.state != "running" else ""
    return (
        f"{state}{progress.done} of {progress.total} episodes{failed}, {turn_rate:.1f} turns/s, "
        f"{token_rate:.0f} tokens/s, {progress.in_flight} in flight"
        + ("" if left is None else f", {duration(left)} left")
    )


def duration(seconds: float) -> str:
    """As in 45 s, 12 min or 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
