"""What `tiller sotopia score` shows: means by arm, what is missing and why, and how far a judge agrees with itself."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from .agreement import agreement
from .journal_reader import JournalReader
from .judges.judge import Judge
from .results import Role, role_of
from .score_record import Score

Cells = dict[tuple[Role, str], dict[str, list[float | None]]]  # values by role and metric, then by arm


def show_scores(console: Console, journal: JournalReader, judges: Sequence[Judge]) -> None:
    """One table for each judge, its repeats together."""
    names = {judge.judge_id.split("#")[0]: judge.name for judge in judges}
    for base, name in names.items():
        scores = [s for judge in judges if judge.judge_id.split("#")[0] == base for s in journal.scores(judge.judge_id)]
        if not scores:
            console.print(f"{name}: nothing to judge", highlight=False)
            continue
        console.print(means_table(name, journal, scores))
        for line in [*gaps(name, scores), *agreements(name, scores)]:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def means_table(name: str, journal: JournalReader, scores: Sequence[Score]) -> Table:
    cells = by_cell(journal, scores)
    arms = list(dict.fromkeys(unit.arm.name for unit in journal.units))
    table = Table(title=name, title_justify="left")
    table.add_column("of")
    table.add_column("metric")
    for arm in arms:
        table.add_column(arm, justify="right")
    for (role, metric), values in cells.items():
        table.add_row(role, metric, *(describe(values.get(arm, [])) for arm in arms))
    return table


def by_cell(journal: JournalReader, scores: Sequence[Score]) -> Cells:
    """The steered agent's figures first, its partner's, then those of whole episodes; metrics as the judge gives them."""
    units = {unit.unit_id: unit for unit in journal.units}
    cells: dict[tuple[Role, str], dict[str, list[float | None]]] = {}
    for score in scores:
        unit = units[score.unit_id]
        key = (role_of(unit, score.seat), score.metric)
        cells.setdefault(key, defaultdict(list))[unit.arm.name].append(score.value)
    roles: list[Role] = ["agent", "partner", "episode"]
    return dict(sorted(cells.items(), key=lambda cell: roles.index(cell[0][0])))


def describe(values: Sequence[float | None]) -> str:
    """The mean of those that are there, and how many aren't."""
    found = [value for value in values if value is not None]
    mean = f"{np.mean(found):.3g}" if found else "-"
    missing = len(values) - len(found)
    return f"{mean} ({missing} missing)" if missing else mean


def gaps(name: str, scores: Sequence[Score]) -> list[str]:
    """How many judgements gave no score, by cause."""
    units = {(s.judge_id, s.unit_id) for s in scores}
    causes = Counter(cause for _, _, cause in {(s.judge_id, s.unit_id, s.cause) for s in scores if s.cause})
    if not causes:
        return []
    told = ", ".join(f"{num} {cause}" for cause, num in sorted(causes.items()))
    return [f"{name}: of {len(units)} judged episodes, with a score missing: {told}"]


def agreements(name: str, scores: Sequence[Score]) -> list[str]:
    """One line a metric where the judge was asked more than once."""
    repeats = sorted({score.judge_id for score in scores})
    if len(repeats) < 2:
        return []
    values: defaultdict[str, defaultdict[tuple[str, int | None], list[float]]] = defaultdict(
        lambda: defaultdict(lambda: [float("nan")] * len(repeats))
    )
    for s in scores:
        if s.value is not None:
            values[s.metric][s.unit_id, s.seat][repeats.index(s.judge_id)] = s.value
    found = {metric: agreement(np.array(list(rows.values()))) for metric, rows in values.items()}
    return [
        f"{name}, asked {len(repeats)} times, {metric}: {own.equal:.0%} equal, noise {own.noise:.2g}, ICC {own.icc:.2f}"
        for metric, own in found.items()
        if own is not None
    ]
