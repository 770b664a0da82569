"""Profiles for a config out of a sweep: the strength that did most for each group of features."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiller.engine import SteeringSpec

from .demo import SCORES, Row, Trait, by_cell
from .jsonl import rounded
from .selection import gain_of, mean_fluency


def best_profiles(traits: Sequence[Trait], rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """For each group of features the spec of the alpha at which it gains most, as a config's `profiles` holds it."""
    plain = mean_fluency([row.answer for row in rows if row.steering is None])
    best: dict[str, tuple[float, SteeringSpec]] = {}
    for (name, alpha), own in by_cell(rows).items():
        trait = next(trait for trait in traits if trait.name == name)
        spec, goal = trait.spec(alpha), trait.push(alpha).name
        gain = gain_of(SCORES[goal], [row.answer for row in own], plain)
        if spec is not None and (goal not in best or gain > best[goal][0]):
            best[goal] = (gain, spec)
    return {name: rounded(spec.model_dump(exclude_defaults=True)) for name, (_, spec) in best.items()}


def write_profiles(profiles: dict[str, dict[str, Any]], path: Path) -> None:
    """YAML that a config can take over as it is."""
    lines = [f"  {name}: {json.dumps(body)}\n".replace('"', "") for name, body in profiles.items()]
    path.write_text("profiles:\n" + "".join(lines))
