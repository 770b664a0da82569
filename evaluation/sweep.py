"""A sweep: units over targets, alphas, scenes or prompts and seeds, played, judged and reported as one run."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from tiller.engine.config import Config

from .inputs import Messages
from .sotopia.ask import Speaker
from .sotopia.judges.judge import Judge
from .sotopia.local import LocalSpeaker
from .sotopia.manifest import make_manifest
from .sotopia.outcome_report import Findings, write_run_report
from .sotopia.protocol import Protocol
from .sotopia.run import Sitting
from .sotopia.run import run as play
from .sotopia.score import score_run
from .sotopia.score_progress import progress_bars
from .sotopia.speakers import Voices
from .sotopia.unit import Arm, Unit

Close = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class EngineVoices(Voices):
    """The config's model on an engine that somebody else ends, started by `engine` when it is first needed."""

    engine: Callable[[], Any] | None = None

    @contextmanager
    def _own(self) -> Iterator[Speaker]:
        assert self.engine is not None
        yield LocalSpeaker(self.engine())


def prompt_units(
    prompts: Sequence[str | Messages], arms: Sequence[Arm], protocol: Protocol, seeds: Sequence[int], model: str
) -> list[Unit]:
    """Arms of one prompt and seed stand together: they share its prefix where steering leaves the prompt alone."""
    chats = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    return [
        Unit(prompt=chat, protocol=protocol, arm=arm, seed=seed, models=(model, ""))
        for chat, seed, arm in product(chats, seeds, arms)
    ]


def play_and_report(
    out: Path,
    command: str,
    config: Config,
    units: Sequence[Unit],
    voices: Voices,
    judges: Sequence[Judge],
    close: Close,
    console: Console,
    retry_failed: bool = False,
) -> tuple[Sitting, Findings | None]:
    """Plays what is left, judges what is not judged, and writes tables and report; None where the run ended before."""
    manifest = make_manifest(command, config, units, voices.models)
    sitting = play(out, manifest, units, voices, console, retry_failed=retry_failed)
    if sitting.ending.state != "done":
        return sitting, None
    judge(out, judges, close)
    return sitting, write_run_report(out)


def judge(out: Path, judges: Sequence[Judge], close: Close) -> None:
    """Each unit once by each judge; `close` ends the judges' connections."""

    async def score() -> None:
        try:
            with progress_bars() as show:
                await score_run(out, judges, show)
        finally:
            await close()

    asyncio.run(score())
