"""`tiller sotopia score`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tiller.engine.config import load_config
from tiller.evaluation.options import ConfigOption
from tiller.evaluation.writable import require_writable_folder

from .journal_reader import JournalReader, find_journal
from .judge_resources import JudgeResources
from .judge_settings import JudgeConfig
from .judges.judge import Judge
from .settings import settings_of

console = Console()


def score(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)],
    config: ConfigOption = "demo",
    judge: Annotated[
        list[str], typer.Option(help="A judge by its name; may be repeated (default: all that ask no language model).")
    ] = [],  # noqa: B006
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Who answers judges that ask: a name of the config, or MODEL@URL (default: the config's model)."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Times that judges that ask are asked, to see their noise.")] = 1,
) -> None:
    """Judge the episodes of a run: what is not judged yet, by judges that may come later than the run."""
    from .judges.registry import make_judges
    from .score_table import show_scores

    find_journal(out)
    require_writable_folder(out, "--out")
    loaded = load_config(config)
    configured = settings_of(loaded).judges
    with JudgeResources(loaded, endpoint) as resources:
        names = judge or _default_names(out, configured, resources)
        judges = make_judges(names, configured, resources, repeats)
        asyncio.run(_score(out, judges, resources))
    with JournalReader(out) as journal:
        show_scores(console, journal, judges)
    console.print(f"wrote scores.jsonl to {out}", highlight=False, soft_wrap=True)


def _default_names(out: Path, configured: dict[str, JudgeConfig], resources: JudgeResources) -> list[str]:
    """Without the fluency under a model that nobody spoke with."""
    from .judges.registry import default_names

    names = default_names(configured)
    with JournalReader(out) as journal:
        spoke = {model for unit in journal.units for model in unit.models}
    if resources.model in spoke:
        return names
    console.print(
        "fluency is left out: this config's model is not what spoke; --judge fluency measures it all the same",
        highlight=False,
        soft_wrap=True,
    )
    return [name for name in names if name != "fluency"]


async def _score(out: Path, judges: Sequence[Judge], resources: JudgeResources) -> None:
    from .score import score_run
    from .score_progress import progress_bars

    try:
        with progress_bars() as show:
            await score_run(out, judges, show)
    finally:
        await resources.close()
