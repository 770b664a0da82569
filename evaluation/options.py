"""Options that several commands share."""

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
Op = Literal["add", "set", "scale", "min", "max", "ablate"]
Unit = Literal["raw", "max_act", "norm"]
