"""Plays the units of a run, many at a time, each going on from the turns that the journal has of it."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from .ask import Ask, Reply, Speaker
from .episode import play
from .episode_record import Outcome, TurnRecord
from .journal import Journal
from .plan import by_seat
from .progress import Progress, report, write_status
from .progress_view import Show
from .unit import Unit

FAILURES_IN_A_ROW = 20  # end a run: whatever it is, every further unit would meet it too
DRAIN_SECONDS = 30.0  # for turns under way when a run is told to stop
STATUS = "status.json"


@dataclass(frozen=True)
class Ending:
    """Why a sitting ended: `done`, or before by a signal, by failures or by an error; then the same command goes on."""

    state: Literal["done", "interrupted", "failing", "broken"]
    reason: str = ""


class _Drained(Exception):
    """Leaves a unit whose turns are all kept, since the run is to stop."""


async def run_units(
    journal: Journal,
    speakers: tuple[Speaker, Speaker],
    max_in_flight: int,
    progress: Progress,
    show: Show = lambda progress: None,
) -> Ending:
    """Plays what the journal has no outcome of, in plan order, `max_in_flight` units at a time.

    speakers: the agent that the arms steer, and its partner; where both seats are steered, those of seats 0 and 1.
    SIGINT and SIGTERM let the turns under way end, a second one doesn't. Raises JournalError where nothing can be kept,
    and what a speaker raises beyond AskError, in either case after the turns under way.
    """
    run = _Run(journal, speakers, progress)
    with _signals(run.interrupt):
        return await run.finish(max_in_flight, show)


class _Gate:
    """A speaker that is asked only while `check` lets it."""

    def __init__(self, speaker: Speaker, check: Callable[[], None]) -> None:
        self._speaker, self._check = speaker, check

    async def ask(self, ask: Ask) -> Reply:
        self._check()
        return await self._speaker.ask(ask)

    async def close(self) -> None:
        await self._speaker.close()


class _Run:
    def __init__(self, journal: Journal, speakers: tuple[Speaker, Speaker], progress: Progress) -> None:
        outcomes = journal.outcomes()
        self._journal, self._progress = journal, progress
        self._speakers = (_Gate(speakers[0], self._check), _Gate(speakers[1], self._check))
        self._todo = iter([unit for unit in journal.units if unit.unit_id not in outcomes])
        self._ending: Ending | None = None
        self._stopped = asyncio.Event()
        self._failures = 0  # since the last unit that didn't fail
        self._tasks: list[asyncio.Task[None]] = []
        progress.begin(outcomes)

    def interrupt(self) -> None:
        if self._ending is None:
            self._stop(Ending("interrupted", "stopped by a signal"))
            return
        for task in self._tasks:
            task.cancel()

    def _stop(self, ending: Ending) -> None:
        self._ending = self._ending or ending
        self._progress.state = "draining"
        self._stopped.set()

    async def finish(self, max_in_flight: int, show: Show) -> Ending:
        status = self._journal.folder / STATUS
        left = self._progress.total - self._progress.done
        self._tasks = [asyncio.create_task(self._work()) for _ in range(min(max_in_flight, left))]
        watchers = [
            asyncio.create_task(report(self._progress, status, show)),
            asyncio.create_task(self._stopped.wait()),
        ]
        ending = Ending("broken")
        try:
            await self._wait(watchers)
            ending = self._ending or Ending("done")
        finally:
            for task in [*self._tasks, *watchers]:
                task.cancel()
            await asyncio.gather(*self._tasks, *watchers, return_exceptions=True)
            self._progress.state = ending.state
            self._progress.sample()
            with suppress(OSError):  # on a full disk the journal has more to say
                write_status(self._progress, status)
        return ending

    async def _wait(self, watchers: Sequence["asyncio.Task[Any]"]) -> None:
        """Until all units are played or, once anything stops the run, the turns under way have ended."""
        workers = asyncio.gather(*self._tasks)
        workers.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # tasks are asked for it themselves
        await asyncio.wait([workers, *watchers], return_when=asyncio.FIRST_COMPLETED)
        if not workers.done() or workers.cancelled() or workers.exception() is not None:
            self._stop(Ending("interrupted"))
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
        for task in [*self._tasks, *watchers]:
            if task.done() and not task.cancelled():
                task.result()

    async def _work(self) -> None:
        for unit in self._todo:
            self._progress.in_flight += 1
            try:
                await self._play(unit)
            except _Drained:
                return
            finally:
                self._progress.in_flight -= 1
            if self._ending is not None:
                return

    def _check(self) -> None:
        if self._ending is not None:
            raise _Drained

    async def _play(self, unit: Unit) -> None:
        num_turns = 0

        async def keep(turn: TurnRecord) -> None:
            nonlocal num_turns
            await self._journal.keep(unit.unit_id, turn)
            num_turns += 1
            self._progress.turn(turn)

        past = self._journal.turns(unit.unit_id)
        outcome = await play(unit, by_seat(self._speakers, unit.seat), past, keep)
        await self._journal.finish(unit.unit_id, outcome)
        self._progress.end(outcome, num_turns)
        self._watch(outcome)

    def _watch(self, outcome: Outcome) -> None:
        """Stops a run in which nothing succeeds any more."""
        self._failures = self._failures + 1 if outcome.status == "failed" else 0
        if self._failures == FAILURES_IN_A_ROW:
            last = f"the last by {outcome.cause}: {outcome.detail}"
            self._stop(Ending("failing", f"{FAILURES_IN_A_ROW} episodes in a row failed, {last}"))


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
