"""Side by side what was said: one pair a block, its arms in columns."""

from collections.abc import Callable, Sequence

import jinja2
import numpy as np
from markupsafe import Markup

from .episode_record import TurnRecord
from .measures import Design, Measure
from .results import Results
from .tradeoff import Tradeoff
from .unit import STEERED_SEATS, Unit

MAX_COLUMNS, NUM_PAIRS = 5, 3
ReadTurns = Callable[[str], Sequence[TurnRecord]]
TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
{% for pair in pairs %}
<details{% if loop.first %} open{% endif %}><summary>{{ pair.title }}</summary>
{% for line in pair.facts %}<p class="note">{{ line }}</p>{% endfor %}
<div class="arms" tabindex="0">
{% for column in pair.columns %}
<div><h4>{{ column.name }}</h4>
{% for turn in column.turns %}
<p class="turn {{ 'steered' if turn.steered else 'other' }}">
<b>{{ turn.name }}</b> {{ turn.text }}{% if turn.cut %} [cut]{% endif %}</p>
{% endfor %}
<p class="note">{{ column.end }}</p>
</div>
{% endfor %}
</div></details>
{% endfor %}
""")


def shown_arms(design: Design, tradeoffs: Sequence[Tradeoff]) -> list[int]:
    """The unsteered arm, then of every target the alpha that was chosen and both ends, then arms without an alpha."""
    chosen = [way.chosen for tradeoff in tradeoffs for ways in tradeoff.chosen.values() for way in ways]
    ends = [row for target in design.targets for row in (design.arms_of(target)[0], design.arms_of(target)[-1])]
    plain = [i for i, arm in enumerate(design.arms) if arm.alpha is None and i != design.baseline]
    base = [] if design.baseline is None else [design.baseline]
    wanted = list(dict.fromkeys([*base, *plain, *chosen, *ends]))[:MAX_COLUMNS]
    return sorted(wanted)


def telling_pairs(measure: Measure | None, design: Design, arms: Sequence[int]) -> list[tuple[str, int]]:
    """(why, pair): where the arms change the measure most, as in the median pair, and least; not the best looking ones."""
    if measure is None or design.baseline is None:
        return [("first of the plan", 0)]
    size = np.abs(measure.values[list(arms)] - measure.values[design.baseline])
    size = np.where(np.isnan(size), -1, size).max(0)
    order = np.argsort(-size, kind="stable")
    order = order[size[order] >= 0]
    if not len(order):
        return [("first of the plan", 0)]
    places = {0: "largest", len(order) // 2: "median", len(order) - 1: "smallest"}
    return [(f"{name} change of {measure.label}", int(order[i])) for i, name in places.items()][:NUM_PAIRS]


def transcripts(
    results: Results, design: Design, arms: Sequence[int], pairs: Sequence[tuple[str, int]], read_turns: ReadTurns
) -> Markup:
    """Escaped HTML of the pairs; `read_turns` gives the turns of a unit."""
    units = {design.cell[unit.unit_id]: unit for unit in results.units}
    shown = []
    for why, pair in pairs:
        own = [units[arm, pair] for arm in arms if (arm, pair) in units]
        shown.append(
            {
                "title": f"{_title(own[0])}: {why}",
                "facts": _facts(own[0]),
                "columns": [_column(results, unit, read_turns) for unit in own],
            }
        )
    return Markup(TEMPLATE.render(pairs=shown))


def _title(unit: Unit) -> str:
    if unit.scene is None:
        return str((unit.prompt or [{}])[-1].get("content", ""))[:120]
    return f"{unit.scene.environment.codename or unit.scene.environment.pk}, seed {unit.seed}"


def _facts(unit: Unit) -> list[str]:
    if unit.scene is None:
        return []
    goals = zip(unit.scene.names, unit.scene.environment.agent_goals, strict=True)
    return [unit.scene.environment.scenario, *(f"{name}'s goal: {goal}" for name, goal in goals)]


def _column(results: Results, unit: Unit, read_turns: ReadTurns) -> dict[str, object]:
    row = results.episodes.get(unit.unit_id)
    steered = STEERED_SEATS[unit.seat] if unit.arm.steering is not None else ()
    turns = [
        {"name": turn.name, "text": _words(turn), "cut": turn.cut, "steered": turn.seat in steered}
        for turn in (read_turns(unit.unit_id) if row is not None else ())
    ]
    end = (
        "not finished"
        if row is None
        else f"{row['status']}: {row['cause'].replace('_', ' ')}, {row['num_turns']} turns"
    )
    return {"name": unit.arm.name, "turns": turns, "end": end}


def _words(turn: TurnRecord) -> str:
    return {
        "speak": f"said: \N{LEFT DOUBLE QUOTATION MARK}{turn.argument}\N{RIGHT DOUBLE QUOTATION MARK}",
        "leave": "left the conversation",
        "none": "did nothing",
    }.get(turn.action_type, f"[{turn.action_type}] {turn.argument}")
