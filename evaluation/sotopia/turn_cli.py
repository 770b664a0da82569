"""`tiller sotopia turn`: one turn of recorded conversations, steered in as many ways as one likes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tiller.engine.config import Config, load_config
from tiller.evaluation.boot import boot
from tiller.evaluation.inputs import InputError
from tiller.evaluation.jsonl import write_json
from tiller.evaluation.options import ConfigOption, Op, SAEOption, SeedOption, Unit, were_given
from tiller.evaluation.spec_options import require_feature, spec_of
from tiller.evaluation.writable import require_writable_file

from .listing import DataOption, shipped_records
from .records import read_records
from .settings import settings_of
from .turn_view import show_turns
from .way import Way
from .world import load_world

console = Console()


def steer_turns(
    context: typer.Context,
    record_idx: Annotated[list[int], typer.Option(help="Which record, as `list` counts; may be repeated.")] = [0],  # noqa: B006
    turn_idx: Annotated[list[int], typer.Option(help="After how many of its turns; may be repeated.")] = [0],  # noqa: B006
    feature: Annotated[
        list[str], typer.Option(help="ID=VALUE or ID=VALUE,VALUE (ID alone with --op ablate); each tried by itself.")
    ] = [],  # noqa: B006
    op: Annotated[Op, typer.Option(help="What is done to each --feature.")] = "add",
    unit: Annotated[Unit, typer.Option(help="Unit of each --feature's value.")] = "raw",
    sae: SAEOption = "default",
    profile: Annotated[list[str], typer.Option(help="A profile of the config, tried too; may be repeated.")] = [],  # noqa: B006
    vector: Annotated[list[str], typer.Option(help="NAME=ALPHA or NAME=ALPHA,ALPHA, each tried by itself.")] = [],  # noqa: B006
    steering: Annotated[list[str], typer.Option(help="A whole `steering` object as JSON, tried too.")] = [],  # noqa: B006
    where: Annotated[str | None, typer.Option(help="Token positions: all, prompt, generated or START:END.")] = None,
    error_term: Annotated[
        bool | None, typer.Option("--error-term/--no-error-term", help="Keep what the SAE can't reconstruct.")
    ] = None,
    data: DataOption = None,
    config: ConfigOption = "demo",
    seed: SeedOption = 0,
    output_file: Annotated[Path | None, typer.Option(help="Write the results as JSON too.", dir_okay=False)] = None,
) -> None:
    """Let recorded conversations go on for one turn, with and without steering, in one batch."""
    require_feature(feature, were_given(context, "sae", "op", "unit"))
    loaded = load_config(config)
    ways = ways_of(loaded, feature, op, unit, sae, profile, vector, steering, where, error_term)
    settings = settings_of(loaded)
    records = read_records(shipped_records() if data is None else data)

    from tiller.engine.build_inventory import make_plan

    from .turn import moments_of, steer_moments

    moments = moments_of(records, record_idx, turn_idx, load_world(settings.data))
    plan = make_plan(loaded)
    for way in ways:
        plan.check(way.spec)
    if output_file is not None:
        require_writable_file(output_file, "--output-file")
    with boot(loaded) as llm:
        results = steer_moments(llm, settings.protocol, moments, ways, seed)
    show_turns(console, results)
    if output_file is not None:
        write_json(results[0] if len(results) == 1 else results, output_file)
        console.print(f"wrote {output_file}", highlight=False, soft_wrap=True)


def ways_of(
    config: Config,
    features: Sequence[str],
    op: str,
    unit: str,
    sae: str,
    profiles: Sequence[str],
    vectors: Sequence[str],
    steering: Sequence[str],
    where: str | None,
    error_term: bool | None,
) -> list[Way]:
    """One for each profile, JSON text, feature value and vector alpha, in this order.

    Raises TillerError naming the option that is wrong, or where there is none.
    """
    given: list[tuple[str, dict[str, Any]]] = [
        *((name, {"profile": name}) for name in profiles),
        *((text, {"steering": text}) for text in steering),
        *((f"{op} {text}", {"features": [text]}) for option in features for text in _one_by_one(option)),
        *((text, {"vectors": [text]}) for option in vectors for text in _one_by_one(option)),
    ]
    common: dict[str, Any] = {"op": op, "unit": unit, "sae": sae, "where": where, "error_term": error_term}
    ways = [Way(name, spec_of(config, **common, **options)) for name, options in given]
    if not ways or any(way.spec.idle for way in ways):
        raise InputError("nothing to steer with; give --feature, --vector, --profile or --steering")
    return ways


def _one_by_one(option: str) -> list[str]:
    """NAME=VALUE for each of NAME=VALUE,VALUE."""
    name, has_values, values = option.partition("=")
    return [f"{name}={value}" for value in values.split(",")] if has_values else [name]
