"""How far a run is: counts, rates and the time left, for people and for machines."""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiller.evaluation.atomic import atomic_writer

from .episode_record import Outcome, TurnRecord

REFRESH_SECONDS = 1.0
RATE_SECONDS = 60.0  # rates are those of the last minute


@dataclass
class Progress:
    """Counts of the whole run (`done`, `failed`, `causes`) and of this sitting (turns and tokens)."""

    total: int
    done: int = 0
    failed: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    turns: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    state: str = "running"  # then draining, and at the end how it ended
    notices: Callable[[], list[str]] = list  # what speakers wait for
    _ended_turns: int = 0
    _ended: int = 0
    _began: float = field(default_factory=time.monotonic)
    _samples: deque[tuple[float, int, int]] = field(default_factory=deque)  # time, turns, completion tokens

    def begin(self, outcomes: dict[str, Outcome]) -> None:
        """Counts what earlier sittings ended; this one's clock starts."""
        self._began = time.monotonic()
        for outcome in outcomes.values():
            self._count(outcome)

    def turn(self, turn: TurnRecord) -> None:
        self.turns += 1
        self.prompt_tokens += turn.prompt_tokens
        self.completion_tokens += turn.completion_tokens

    def end(self, outcome: Outcome, num_turns: int) -> None:
        """A unit has ended after `num_turns` turns of this sitting."""
        self._count(outcome)
        self._ended += 1
        self._ended_turns += num_turns

    def _count(self, outcome: Outcome) -> None:
        self.done += 1
        self.failed += outcome.status == "failed"
        self.causes[outcome.cause] += 1

    def rates(self) -> tuple[float, float]:
        """Turns and answered tokens per second."""
        if not self._samples:
            return 0.0, 0.0
        then, turns, tokens = self._samples[0]
        seconds = max(time.monotonic() - then, 1e-3)
        return (self.turns - turns) / seconds, (self.completion_tokens - tokens) / seconds

    def seconds_left(self) -> float | None:
        """By this sitting's turns per unit and the rate just now; None while these are not known."""
        rate, _ = self.rates()
        if not self._ended or not rate:
            return None
        expected = (self.total - self.done) * self._ended_turns / self._ended
        return max(0.0, expected - (self.turns - self._ended_turns)) / rate

    @property
    def seconds(self) -> float:
        """Since the start of this sitting's first unit."""
        return time.monotonic() - self._began

    def sample(self) -> None:
        """Notes the counts for the rates; once a second or so."""
        now = time.monotonic()
        self._samples.append((now, self.turns, self.completion_tokens))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()

    def status(self) -> dict[str, Any]:
        """Everything, as JSON data."""
        turn_rate, token_rate = self.rates()
        left = self.seconds_left()
        return {
            "state": self.state, "episodes_done": self.done, "episodes_total": self.total, "failed": self.failed,
            "causes": dict(self.causes), "in_flight": self.in_flight, "turns": self.turns,
            "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens,
            "turns_per_second": round(turn_rate, 2), "tokens_per_second": round(token_rate, 1),
            "seconds": round(self.seconds, 1),
            "seconds_left": None if left is None else round(left), "notices": self.notices(),
            "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }  # fmt: skip


async def report(progress: Progress, path: Path, show: Callable[[Progress], None]) -> None:
    """Rewrites the status file at `path` and calls `show` every second, until cancelled."""
    while True:
        progress.sample()
        write_status(progress, path)
        show(progress)
        await asyncio.sleep(REFRESH_SECONDS)


def write_status(progress: Progress, path: Path) -> None:
    with atomic_writer(path, durable=False) as file:
        json.dump(progress.status(), file, indent=1, ensure_ascii=False)
