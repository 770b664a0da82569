"""The last part of `tiller demo`: steered episodes on its engine, and a sweep over scenes, judged without a model to ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tiller.engine.config import Config
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sweep import EngineVoices, play_and_report
from tiller.evaluation.sweep_targets import arms_of, targets_of

from .ask import Speaker
from .findings_view import show_findings
from .judges.registry import default_names, make_judges
from .manifest import identity
from .outcome_report import Findings
from .plan import arms_of as profile_arms
from .plan import make_units
from .settings import settings_of
from .unit import Unit
from .world import load_world

NUM_SCENES = 24
EPISODE_TURNS, SWEEP_TURNS = 6, 4
SWEPT, ALPHAS = ("french", "hostile"), (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0)  # of the profile's own strength


@dataclass(frozen=True)
class Booted:
    """What judges that ask no model need, on an engine that is there already."""

    config: Config
    llm: Any

    @property
    def model(self) -> str:
        return identity(self.config)

    def engine(self) -> Any:
        return self.llm

    def speaker(self, endpoint: str | None) -> tuple[Callable[[], Speaker], str]:
        raise InputError("the demo's judges ask no model", "judge")

    def resolve(self, path: str) -> str:
        return self.config.resolve(path)

    async def close(self) -> None:
        """There are no connections."""


def run_episodes(llm: Any, config: Config, console: Console, out: Path, num_scenes: int = NUM_SCENES) -> list[str]:
    """Plays `num_scenes` scenes unsteered and under every profile to `out`/episodes, then SWEPT over ALPHAS to `out`/sweep.

    Both agents speak from `llm`. Gives what the runs failed to show, empty where all is well. Runs that are there already
    go on where they were.
    """
    protocol = settings_of(config).protocol
    scenes = load_world(settings_of(config).data).scenes(num_scenes)
    models = (identity(config),) * 2
    targets = targets_of(config, profiles=[name for name in SWEPT if name in config.profiles])
    plans = {
        "episodes": make_units(scenes, profile_arms(config), protocol.lasting(EPISODE_TURNS), models=models),
        "sweep": make_units(scenes, arms_of(targets, ALPHAS), protocol.lasting(SWEEP_TURNS), models=models),
    }
    return [
        problem for name, units in plans.items() for problem in _play(llm, config, console, out / name, name, units)
    ]


def problems_of(found: Findings) -> list[str]:
    """What must not be: units that failed, receipts that don't add up, alpha 0 unlike unsteered, invalid actions.

    Missing figures are no failure of the run: a silent agent has no tone.
    """
    return [problem for problem in found.problems if not problem.endswith("figures are missing")]


def _play(llm: Any, config: Config, console: Console, out: Path, name: str, units: Sequence[Unit]) -> list[str]:
    console.print(f"playing {len(units)} episodes to {out}", highlight=False, soft_wrap=True)
    resources = Booted(config, llm)
    judges = make_judges(default_names({}), {}, resources)
    voices = EngineVoices(config, engine=resources.engine)
    sitting, found = play_and_report(out, f"demo {name}", config, units, voices, judges, resources.close, console)
    if found is None:
        return [f"{name} stopped: {sitting.ending.reason}"]
    show_findings(console, found, out)
    return [f"{name}: {problem}" for problem in problems_of(found)]
