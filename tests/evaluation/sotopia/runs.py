"""Runs in this process: episodes of the demo's environments by given speakers, and what they export."""

import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tiller.engine.config import load_config
from tiller.evaluation.sotopia.ask import Ask, Reply, Speaker
from tiller.evaluation.sotopia.export import EPISODES
from tiller.evaluation.sotopia.manifest import make_manifest
from tiller.evaluation.sotopia.plan import arms_of, make_units
from tiller.evaluation.sotopia.run import Sitting, run
from tiller.evaluation.sotopia.settings import settings_of
from tiller.evaluation.sotopia.world import load_world

Hook = Callable[[], Awaitable[None]]
MODELS = ("one", "one")


@dataclass
class Given:
    """Stands for Voices: a speaker that is there already, for both agents."""

    speaker: Speaker
    max_in_flight: int = 64

    @contextmanager
    def speakers(self) -> Iterator[tuple[Speaker, Speaker]]:
        yield self.speaker, self.speaker


class KilledAfter:
    """A speaker that kills a process once it has given so many answers, and looks around before it closes."""

    def __init__(self, speaker: Speaker, num_answers: int, kill: Hook, at_end: Hook) -> None:
        self.speaker, self._left, self._kill, self._at_end = speaker, num_answers, kill, at_end

    async def ask(self, ask: Ask) -> Reply:
        reply = await self.speaker.ask(ask)
        self._left -= 1
        if self._left == 0:
            await self._kill()
        return reply

    async def close(self) -> None:
        try:
            await self._at_end()
        finally:
            await self.speaker.close()


def play(out: Path, speaker: Speaker, scenarios: int, max_turns: int, arms: tuple[str, ...] = ()) -> Sitting:
    config = load_config("demo")
    protocol = settings_of(config).protocol.model_copy(update={"max_turns": max_turns})
    units = make_units(load_world(None).scenes(scenarios), arms_of(config, arms), protocol, models=MODELS)
    manifest = make_manifest("test", config, units, MODELS)
    with open(os.devnull, "w") as nowhere:
        return run(out, manifest, units, Given(speaker), Console(file=nowhere))  # type: ignore[arg-type]


def exported(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / EPISODES).read_text().splitlines()]
