"""`tiller sotopia run`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tiller.engine.config import load_config
from tiller.evaluation.options import ConfigOption
from tiller.evaluation.writable import require_writable_folder

from .plan import SEATS, SeatChoice, arms_of, make_units
from .settings import settings_of
from .speakers import choose_voices
from .world import load_world

console = Console()
EXIT_CODES = {"done": 0, "failing": 1, "interrupted": 130}


def run(
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command goes on with it.", file_okay=False)],
    config: ConfigOption = "demo",
    scenarios: Annotated[int | None, typer.Option(min=1, help="The first so many environments (default: all).")] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, max=1000, help="Turns of both agents at most.")] = None,
    seat: Annotated[SeatChoice, typer.Option(help="Which agent is steered; each: first, then second.")] = "first",
    seeds: Annotated[int, typer.Option(min=1, help="Times that every episode is played, with seeds from 0 on.")] = 1,
    arm: Annotated[list[str], typer.Option(help="Only this arm: unsteered or a profile; may be repeated.")] = [],  # noqa: B006
    data: Annotated[Path | None, typer.Option(help="Folder of profile files.", file_okay=False)] = None,
    agent: Annotated[
        str | None, typer.Option(help="Endpoint that plays the steered agent: a name of the config, or MODEL@URL.")
    ] = None,
    partner: Annotated[str | None, typer.Option(help="Endpoint that plays the other agent.")] = None,
    endpoints: Annotated[
        str | None, typer.Option(help="URLs or names, with commas, that serve the config's model.")
    ] = None,
    ray: Annotated[int, typer.Option(min=0, help="Run so many replicas of the engine on Ray.")] = 0,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="Episodes at a time (default: as the engine takes).")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Go on with failed episodes too.")] = False,
    episode_logs: Annotated[bool, typer.Option("--episode-logs", help="Write Sotopia's EpisodeLog files too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its tokens; start nothing.")] = False,
) -> None:
    """Play episodes unsteered and under every profile, journaled turn by turn."""
    loaded = load_config(config)
    settings = settings_of(loaded)
    protocol = settings.protocol.lasting(max_turns)
    voices = choose_voices(loaded, config, agent, partner, endpoints, ray)
    scenes = load_world(data or settings.data).scenes(scenarios)
    arms = arms_of(loaded, arm)
    units = make_units(scenes, arms, protocol, SEATS[seat], range(seeds), voices.models)
    if dry_run:
        from .estimate import estimate, load_tokenizer
        from .run_view import show_plan

        show_plan(console, units, estimate(units, load_tokenizer(loaded)), in_flight or voices.max_in_flight, out)
        return
    require_writable_folder(out, "--out")
    from .manifest import make_manifest
    from .run import run as play
    from .run_view import show_sitting

    manifest = make_manifest("sotopia run", loaded, units, voices.models)
    sitting = play(out, manifest, units, voices, console, in_flight, retry_failed, episode_logs)
    show_sitting(console, sitting, out)
    if code := EXIT_CODES[sitting.ending.state]:
        raise typer.Exit(code)
