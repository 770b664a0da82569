"""What the runner of Sotopia episodes costs: its tokens a second against the engine's own on the very same prompts.

    tiller bench episodes [--in-flight 1,8,64] [--rounds 3] [--config demo]

For each number of episodes in flight an engine is started that takes as many requests at a time. A round plays the
episodes through the runner, journal on disk included, then gives the engine all prompts of that run at once, with the same
schemas, seeds and steering; whoever comes second in one round comes first in the next. Both start with an empty prefix cache,
and both must give the same answers. Episodes are short: places run empty at a run's end alone, and a few long episodes would
make a benchmark all end. A share is the median over rounds of runner / engine. "One episode at a time" is the row
of 1 in flight.
"""

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from tiller.engine import load_config
from tiller.engine.config import Config
from tiller.evaluation.boot import boot
from tiller.evaluation.plotting import write_png
from tiller.evaluation.sotopia.ask import Ask, Reply, Speaker
from tiller.evaluation.sotopia.journal import Journal
from tiller.evaluation.sotopia.local import LocalSpeaker
from tiller.evaluation.sotopia.plan import arms_of, make_units
from tiller.evaluation.sotopia.progress import Progress
from tiller.evaluation.sotopia.runner import run_units
from tiller.evaluation.sotopia.settings import settings_of
from tiller.evaluation.sotopia.unit import Unit
from tiller.evaluation.sotopia.world import load_world

from .episodes_report import draw, tables
from .machine import busy_cores, machine
from .record import command, our_code

EPISODES_PER_PLACE = 4  # so that the window slides, as it does for hours in a real run
MAX_TURNS = 4
Sample = dict[str, Any]


@dataclass
class Recording:
    """A speaker that remembers what it was asked and answered."""

    speaker: Speaker
    heard: list[tuple[Ask, Reply]] = field(default_factory=list)

    async def ask(self, ask: Ask) -> Reply:
        reply = await self.speaker.ask(ask)
        self.heard.append((ask, reply))
        return reply

    async def close(self) -> None: ...


def measure(console: Console, config: str, in_flight: tuple[int, ...], rounds: int, out: Path) -> None:
    """Measures every number in `in_flight` and writes OUT/<machine>/episodes.json and .png."""
    loaded = load_config(config)
    place = {**machine(), "busy_cores": busy_cores()}
    report: dict[str, Any] = {"kind": "episodes", "machine": place, "command": command(), "code": our_code()}
    report |= {"settings": {"config": config, "rounds": rounds}, "samples": []}
    folder = out / report["machine"]["name"]
    folder.mkdir(parents=True, exist_ok=True)
    for places in in_flight:
        report["samples"] += _measure_one(loaded, places, rounds)
        (folder / "episodes.json").write_text(json.dumps(report, indent=1) + "\n")
        write_png(draw(report), folder / "episodes.png")
    for table in tables(report):
        table.show(console)
    console.print(f"[dim]{folder / 'episodes.json'}[/dim]")


def _measure_one(config: Config, places: int, rounds: int) -> list[Sample]:
    """Samples of the runner and of the bare engine with `places` requests at a time; the first round warms up."""
    units = _units(config, EPISODES_PER_PLACE * places)
    samples = []
    with boot(config, max_num_seqs=places) as llm:
        heard = _play(llm, units, places)[1]
        for number in track(range(rounds), description=f"{places} in flight"):
            for contender in ("runner", "engine") if number % 2 else ("engine", "runner"):
                llm.llm.reset_prefix_cache()
                sample = _play(llm, units, places)[0] if contender == "runner" else _answer_bare(llm, heard)
                samples.append({"round": number, "contender": contender, "in_flight": places, **sample})
    for sample in samples:
        assert sample["tokens"] == samples[0]["tokens"], "the runner and the engine were not given the same work"
    return samples


def _units(config: Config, num: int) -> list[Unit]:
    """The first `num` of every scene under every arm, with as many seeds as that takes."""
    scenes, arms = load_world(None).scenes(), arms_of(config)
    protocol = settings_of(config).protocol
    short = protocol.lasting(min(MAX_TURNS, protocol.max_turns))
    seeds = range(-(-num // (len(scenes) * len(arms))))
    return make_units(scenes, arms, short, seeds=list(seeds))[:num]


def _play(llm: Any, units: list[Unit], places: int) -> tuple[Sample, list[tuple[Ask, Reply]]]:
    """The runner as `tiller sotopia run` has it."""
    speaker = Recording(LocalSpeaker(llm))
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        journal.start({}, units)
        clock = _Clock()
        ending = asyncio.run(run_units(journal, (speaker, speaker), places, Progress(len(units))))
        taken = clock.read()
        assert ending.state == "done"
        failed = [outcome for outcome in journal.outcomes().values() if outcome.status == "failed"]
        assert not failed, f"{len(failed)} episodes failed, the first by {failed[0].cause}: {failed[0].detail}"
    tokens = sum(reply.completion_tokens for _, reply in speaker.heard)
    return {**taken, "tokens": tokens, "turns": len(speaker.heard), "episodes": len(units)}, speaker.heard


def _answer_bare(llm: Any, heard: list[tuple[Ask, Reply]]) -> Sample:
    """All asks of a run in one call of the engine."""
    speaker = LocalSpeaker(llm)
    asks = [ask for ask, _ in heard]
    params = [speaker.params(ask) for ask in asks]
    clock = _Clock()
    outputs = llm.chat([ask.messages for ask in asks], params, steering=[ask.steering for ask in asks], use_tqdm=False)
    taken = clock.read()
    assert [output.outputs[0].text for output in outputs] == [reply.text for _, reply in heard], "the answers differ"
    return {**taken, "tokens": sum(len(output.outputs[0].token_ids) for output in outputs), "turns": len(asks)}


class _Clock:
    """Seconds on the wall, and of this process on its processors, which other work on the machine does not add to."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> Sample:
        return {"seconds": time.perf_counter() - self.wall, "cpu_seconds": time.process_time() - self.cpu}
