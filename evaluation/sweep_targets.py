"""What a sweep varies: features, vectors and profiles, each a spec whose values alpha multiplies."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import numpy as np

from tiller.engine.config import Config
from tiller.engine.spec import Unit, parse_spec

from .inputs import InputError
from .sotopia.unit import UNSTEERED, Arm
from .spec_options import parse_where

MAX_ALPHAS = 1000
NORMS = ("free", "preserve")


@dataclass(frozen=True)
class Target:
    """One thing that is swept: its name and its `steering` object at alpha 1."""

    name: str
    body: dict[str, Any]

    def at(self, alpha: float) -> dict[str, Any]:
        """The `steering` object with every value times alpha; at 0 an addition adds nothing."""
        body = copy.deepcopy(self.body)
        for edit in body.get("features", []):
            edit["value"] *= alpha
        for edit in body.get("vectors", []):
            edit["alpha"] *= alpha
        return body

    def arm(self, alpha: float) -> Arm:
        return Arm(name=f"{self.name} at {alpha:g}", steering=self.at(alpha), target=self.name, alpha=alpha)


def arms_of(targets: Sequence[Target], alphas: Sequence[float]) -> list[Arm]:
    """The unsteered arm, then every target at every alpha."""
    return [UNSTEERED, *(target.arm(alpha) for target in targets for alpha in alphas)]


def parse_alphas(text: str) -> list[float]:
    """Distinct alphas, ascending, always with 0: numbers and ranges START:STOP:STEP, both ends included, with commas.

    Raises InputError naming the part that is neither.
    """
    found = {0.0}
    for part in text.split(","):
        found.update(_range(part) if ":" in part else [_number(part, part)])
    if len(found) > MAX_ALPHAS:
        raise InputError(f"{len(found)} alphas; at most {MAX_ALPHAS} are allowed", "--alphas")
    return sorted(found)


def _range(part: str) -> list[float]:
    bounds = part.split(":")
    if len(bounds) != 3:
        raise InputError(f"{part!r} given; a range is START:STOP:STEP, as in -4:4:0.5", "--alphas")
    start, stop, step = (_number(bound, part) for bound in bounds)
    if step <= 0 or stop < start:
        raise InputError(f"{part!r} given; STEP must be above 0 and STOP not below START", "--alphas")
    num = math.floor((stop - start) / step + 1e-9) + 1
    if num > MAX_ALPHAS:
        raise InputError(f"{part!r} are {num} alphas; at most {MAX_ALPHAS} are allowed", "--alphas")
    return [float(f"{value:.12g}") + 0.0 for value in start + step * np.arange(num)]


def _number(text: str, part: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{part!r} given; write numbers or ranges with commas between, as in -2,0.5,4:8:1", "--alphas")
    return value + 0.0  # not -0


def targets_of(
    config: Config,
    features: Sequence[str] = (),
    vectors: Sequence[str] = (),
    profiles: Sequence[str] = (),
    sae: str = "default",
    units: str | None = None,
    norms: str | None = None,
    where: str | None = None,
) -> list[Target]:
    """Every target under every unit and norm, these named where there are several.

    features: `ID`, or several with weights as one, `63=26.9,81=19`. Raises TillerError naming the option that is wrong.
    """
    bodies = [
        *((f"feature {text}", {"features": list(_features(text, sae))}) for text in features),
        *((f"vector {name}", {"vectors": [{"name": name, "alpha": 1.0}]}) for name in vectors),
        *((name, _profile(config, name)) for name in profiles),
    ]
    if not bodies:
        raise InputError("nothing to sweep; give --feature, --vector or --profile")
    if len({name for name, _ in bodies}) < len(bodies):
        raise InputError("a target is given twice")
    found = [
        Target(_name(name, unit if units and "," in units else None, norm if norms and "," in norms else None),
               _variant(body, unit, norm, where))
        for name, body in bodies
        for unit, norm in product(_choices(units, get_args(Unit), "--unit"), _choices(norms, NORMS, "--norm"))
    ]  # fmt: skip
    for target in found:
        parse_spec(target.body)
    return found


def _features(text: str, sae: str) -> Iterator[dict[str, Any]]:
    for part in text.split(","):
        identifier, _, weight = part.partition("=")
        if not identifier.strip().isdecimal():
            raise InputError("a feature is named by its number; write ID, or ID=WEIGHT,ID=WEIGHT", f"--feature {text}")
        try:
            value = float(weight or 1.0)
        except ValueError:
            raise InputError(f"{weight!r} is no number", f"--feature {text}") from None
        yield {"id": int(identifier), "value": value, "sae": sae}


def _profile(config: Config, name: str) -> dict[str, Any]:
    body = config.profile(name).model_dump(exclude_defaults=True)
    fixed = [edit["id"] for edit in body.get("features", []) if edit.get("value") is None]
    if fixed:
        raise InputError(f"feature {fixed[0]} is ablated, which no alpha can scale", f"--profile {name}")
    if not body.get("features") and not body.get("vectors"):
        raise InputError("it edits nothing that alpha could scale", f"--profile {name}")
    return body


def _choices(given: str | None, allowed: Sequence[str], option: str) -> list[str | None]:
    """None: as each target has it."""
    if given is None:
        return [None]
    chosen: list[str | None] = list(dict.fromkeys(given.split(",")))
    for name in chosen:
        if name not in allowed:
            raise InputError(f"{name!r} given; write one or more of {', '.join(allowed)}, with commas between", option)
    return chosen


def _variant(body: dict[str, Any], unit: str | None, norm: str | None, where: str | None) -> dict[str, Any]:
    body = copy.deepcopy(body)
    if unit is not None:
        for edit in [*body.get("features", []), *body.get("vectors", [])]:
            edit["unit"] = unit
    if norm is not None:
        body["norm"] = norm
    if where is not None:
        body["where"] = parse_where(where)
    return body


def _name(name: str, unit: str | None, norm: str | None) -> str:
    kinds = [f"{kind} {value}" for kind, value in (("unit", unit), ("norm", norm)) if value is not None]
    return f"{name}, {', '.join(kinds)}" if kinds else name
