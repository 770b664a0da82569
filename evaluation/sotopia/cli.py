"""`tiller sotopia`: social episodes between two agents, steered and not; each command is in its owner's file."""

import typer

from .listing import list_scenes
from .report_cli import report
from .run_cli import run
from .score_cli import score
from .turn_cli import steer_turns

app = typer.Typer(no_args_is_help=True, help="Social episodes between two agents, steered and not.")


@app.callback()
def root() -> None:
    """Social episodes between two agents, steered and not."""


app.command("list")(list_scenes)
app.command("turn")(steer_turns)
app.command()(run)
app.command()(score)
app.command()(report)
