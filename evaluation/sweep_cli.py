"""`tiller sweep`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tiller.engine.config import Config, load_config
from tiller.engine.spec import parse_spec

from .inputs import InputError, read_prompts
from .options import ConfigOption, SAEOption, were_given
from .sotopia.plan import SEATS, SeatChoice, make_units
from .sotopia.settings import settings_of
from .sotopia.unit import Arm, Unit
from .sotopia.world import load_world
from .spec_options import require_feature
from .sweep_targets import arms_of, parse_alphas, targets_of
from .writable import require_writable_folder

console = Console()


def sweep(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the sweep; the same command goes on with it.", file_okay=False)],
    alphas: Annotated[
        str, typer.Option(help="Numbers and ranges START:STOP:STEP, with commas; 0 is always among them.")
    ] = "-1:1.5:0.5",
    config: ConfigOption = "demo",
    feature: Annotated[
        list[str], typer.Option(help="ID, or ID=WEIGHT,ID=WEIGHT steered as one; may be repeated.")
    ] = [],  # noqa: B006
    vector: Annotated[list[str], typer.Option(help="A vector of the config; may be repeated.")] = [],  # noqa: B006
    profile: Annotated[
        list[str], typer.Option(help="A profile of the config, all its values times alpha; may be repeated.")
    ] = [],  # noqa: B006
    sae: SAEOption = "default",
    unit: Annotated[str | None, typer.Option(help="raw, max_act, norm, or several with commas between.")] = None,
    norm: Annotated[str | None, typer.Option(help="free, preserve, or both with a comma between.")] = None,
    where: Annotated[str | None, typer.Option(help="Token positions: all, prompt, generated or START:END.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts to answer: one a line, or .jsonl with `prompt` or `messages`.")
    ] = None,
    scenarios: Annotated[int | None, typer.Option(min=1, help="Or episodes of the first so many environments.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Times that everything is played, with seeds from 0 on.")] = 1,
    seat: Annotated[SeatChoice, typer.Option(help="Which agent is steered; each: first, then second.")] = "first",
    max_turns: Annotated[int | None, typer.Option(min=1, max=1000, help="Turns of both agents at most.")] = None,
    judge: Annotated[
        list[str], typer.Option(help="A judge by its name; may be repeated (default: all that ask no language model).")
    ] = [],  # noqa: B006
    endpoints: Annotated[
        str | None, typer.Option(help="URLs or names, with commas, that serve the config's model.")
    ] = None,
    ray: Annotated[int, typer.Option(min=0, help="Run so many replicas of the engine on Ray.")] = 0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Go on with what failed too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its tokens; start nothing.")] = False,
) -> None:
    """Vary alpha over prompts or episodes, judge them, and report curves with a held-out choice of alpha."""
    from .sotopia.speakers import choose_voices

    require_feature(feature, were_given(context, "sae"))
    loaded = load_config(config)
    arms = arms_of(targets_of(loaded, feature, vector, profile, sae, unit, norm, where), parse_alphas(alphas))
    check(loaded, arms)
    voices = choose_voices(loaded, config, endpoints=endpoints, num_actors=ray)
    units = plan(loaded, arms, prompts, scenarios, range(seeds), seat, max_turns, voices.models)
    if dry_run:
        from .sotopia.estimate import estimate, load_tokenizer
        from .sotopia.run_view import show_plan

        show_plan(console, units, estimate(units, load_tokenizer(loaded)), voices.max_in_flight, out)
        return
    require_writable_folder(out, "--out")
    from .sotopia.findings_view import show_findings
    from .sotopia.judge_resources import JudgeResources
    from .sotopia.judges.registry import default_names, make_judges
    from .sotopia.run_cli import EXIT_CODES
    from .sotopia.run_view import show_sitting
    from .sweep import EngineVoices, play_and_report

    configured = settings_of(loaded).judges
    with JudgeResources(loaded) as resources:
        if endpoints is None and not ray:
            voices = EngineVoices(loaded, engine=resources.engine)
        judges = make_judges(judge or default_names(configured), configured, resources)
        sitting, found = play_and_report(
            out, "sweep", loaded, units, voices, judges, resources.close, console, retry_failed
        )
    if found is None:
        show_sitting(console, sitting, out)
        raise typer.Exit(EXIT_CODES[sitting.ending.state])
    show_findings(console, found, out)


def check(config: Config, arms: list[Arm]) -> None:
    """Raises TillerError where an arm doesn't fit the config's model, before anything starts."""
    from tiller.engine.build_inventory import make_plan

    plan = make_plan(config)
    for arm in arms:
        if arm.steering is not None:
            plan.check(parse_spec(arm.steering))


def plan(
    config: Config, arms: list[Arm], prompts: Path | None, scenarios: int | None, seeds: range, seat: SeatChoice,
    max_turns: int | None, models: tuple[str, str],
) -> list[Unit]:  # fmt: skip
    """Raises InputError where there are neither prompts nor scenarios, or both."""
    from .sweep import prompt_units

    settings = settings_of(config)
    if (prompts is None) == (scenarios is None):
        raise InputError("give either prompts to answer with --prompts, or episodes to play with --scenarios")
    protocol = settings.protocol.lasting(max_turns)
    if prompts is not None:
        if max_turns is not None or seat != "first":
            raise InputError("--max-turns and --seat are of episodes; a prompt is answered once")
        return prompt_units(read_prompts(prompts), arms, protocol, seeds, models[0])
    return make_units(load_world(settings.data).scenes(scenarios), arms, protocol, SEATS[seat], seeds, models)
