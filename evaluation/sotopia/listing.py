"""`tiller sotopia list`: what is in a data set, one line an environment or a recorded conversation."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from tiller.evaluation.inputs import InputError

from .actions import render_action
from .markup import visible_text
from .objects import iter_objects
from .profiles import SEATS, EnvironmentProfile
from .published import read_profiles
from .record import Record
from .records import iter_records
from .world import FILES, World, load_world, shipped

SHOWN = 10
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Profiles or records as Sotopia has them; default: what ships.")
]


class Row(NamedTuple):
    """One line; what isn't known is "-"."""

    number: int
    codename: str
    participants: str
    scores: str
    goals: str
    first_turn: str


def list_scenes(
    data: DataOption = None,
    show_all: Annotated[bool, typer.Option("--show-all", help="One line for each, instead of the first few.")] = False,
) -> None:
    """Browse environments or recorded conversations: who takes part, their goals, scores and first turn."""
    rows = rows_of(shipped_records() if data is None else data)
    shown = rows if show_all else rows[:SHOWN]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(*(_lines(shown, width) if show_all or width is None else _blocks(shown, width)), sep="\n")
    if len(rows) > len(shown):
        print(f"and {len(rows) - len(shown)} more, which --show-all lists")


def shipped_records() -> Path:
    """The recorded conversations that come with the package."""
    return shipped() / "episodes.jsonl"


def rows_of(path: Path) -> list[Row]:
    """What a file or folder holds: a data set's environments, or records.

    Raises InputError naming file, line and field of what is neither.
    """
    if not path.exists():
        raise InputError("no such file or folder", str(path))
    if path.is_dir() and any((path / name).exists() for name in FILES[EnvironmentProfile]):
        world = load_world(path)
        return [_environment_row(i, e, world) for i, e in enumerate(world.environments.values())]
    first = next(iter_objects(path), None)
    if first is not None and {"scenario", "agent_goals"} <= first.body.keys():
        environments = read_profiles(EnvironmentProfile, path).values()
        return [_environment_row(i, environment, None) for i, (_, environment) in enumerate(environments)]
    return [_record_row(i, record) for i, record in enumerate(iter_records(path))]


def _environment_row(index: int, environment: EnvironmentProfile, world: World | None) -> Row:
    castings = [] if world is None else world.castings(environment)
    names = "-" if world is None or not castings else " & ".join(world.agents[pk].name for pk in castings[0])
    more = f" (+{len(castings) - 1})" if len(castings) > 1 else ""
    return Row(index, environment.codename or environment.pk, names + more, "-", _goals(environment.agent_goals), "-")


def _record_row(index: int, record: Record) -> Row:
    scores = " / ".join("-" if value is None else f"{value:.2f}" for value in record.overall)
    turn = record.turns[0] if record.turns else None
    said = "-" if turn is None else render_action(turn.name, turn.action_type, turn.argument)
    return Row(
        index,
        record.codename or record.environment_id,
        " & ".join(record.names),
        "-" if record.overall == (None, None) else scores,
        _goals(record.goals),
        _flat(said),
    )


def _goals(goals: tuple[str, str]) -> str:
    return _flat(" | ".join(visible_text(goal, seat) for seat, goal in zip(SEATS, goals, strict=True)))


def _flat(text: str) -> str:
    return " ".join(text.split()) or "-"


def _lines(rows: Sequence[Row], width: int | None) -> list[str]:
    """A line each, in columns but for the last two; whole, or cut at `width` characters."""
    heads = _heads(rows)
    lines = [f"{head}  goals: {r.goals}  first turn: {r.first_turn}" for head, r in zip(heads, rows, strict=True)]
    return [_cut(line, width) for line in lines]


def _blocks(rows: Sequence[Row], width: int) -> list[str]:
    """Three lines each, so that one reads goals and first turn on a narrow terminal too."""
    blocks = zip(_heads(rows), rows, strict=True)
    return [
        _cut(line, width)
        for head, row in blocks
        for line in (head, f"    goals: {row.goals}", f"    first turn: {row.first_turn}")
    ]


def _heads(rows: Sequence[Row]) -> list[str]:
    widths = [max((len(str(row[i])) for row in rows), default=0) for i in range(4)]
    return [
        f"{row.number:>{widths[0]}}  {row.codename:<{widths[1]}}  {row.participants:<{widths[2]}}  {row.scores:<{widths[3]}}"
        for row in rows
    ]


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"
