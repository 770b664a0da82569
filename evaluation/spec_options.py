"""From the steering options of a command to one spec."""

from collections.abc import Sequence
from typing import Any

from tiller.engine.config import Config
from tiller.engine.spec import SteeringSpec, parse_spec

from .inputs import InputError


def spec_of(
    config: Config,
    *,
    features: Sequence[str] = (),
    op: str = "add",
    unit: str = "raw",
    sae: str = "default",
    vectors: Sequence[str] = (),
    profile: str | None = None,
    steering: str | None = None,
    where: str | None = None,
    error_term: bool | None = None,
) -> SteeringSpec:
    """A profile or a JSON text, with the edits of `features` (ID=VALUE) and `vectors` (NAME=ALPHA) added to it.

    Raises TillerError naming the option or the part of the spec that is wrong.
    """
    if profile is not None and steering is not None:
        raise InputError("--profile and --steering both give a whole spec; pass one of them")
    given = config.profile(profile) if profile is not None else parse_spec(steering or "{}", "--steering")
    body: dict[str, Any] = given.model_dump(exclude_defaults=True)
    body["features"] = body.get("features", []) + [_edit(text, op, unit, sae) for text in features]
    body["vectors"] = body.get("vectors", []) + [_vector(text) for text in vectors]
    if where is not None:
        body["where"] = parse_where(where)
    if error_term is not None:
        body["error_term"] = error_term
    return parse_spec(body)


def require_feature(features: Sequence[str], given: Sequence[str]) -> None:
    """Raises InputError naming the first of the options `given` that are about --feature where there is none."""
    if given and not features:
        raise InputError("it is about --feature, and none is given; leave it out", f"--{given[0]}")


def _edit(text: str, op: str, unit: str, sae: str) -> dict[str, Any]:
    identifier, has_value, value = text.partition("=")
    field = f"--feature {text}"
    if op == "ablate" and has_value:
        raise InputError("--op ablate takes no value; write --feature ID", field)
    if op != "ablate" and not has_value:
        raise InputError(f"--op {op} needs a value; write --feature ID=VALUE", field)
    if not identifier.strip().isdecimal():
        raise InputError("a feature is named by its number; write --feature ID=VALUE, as in 7=4.0", field)
    edit: dict[str, Any] = {"id": int(identifier), "op": op, "sae": sae, "unit": unit}
    return edit if op == "ablate" else {**edit, "value": _number(value, field)}


def _vector(text: str) -> dict[str, Any]:
    name, _, alpha = text.partition("=")
    return {"name": name, "alpha": _number(alpha, f"--vector {text}")}


def _number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is no number", field) from None


def parse_where(text: str) -> Any:
    """all, prompt, generated, or START:END with either side left out."""
    start, is_span, end = text.partition(":")
    if not is_span:
        return text
    try:
        return {"start": int(start or 0), "end": int(end) if end else None}
    except ValueError:
        raise InputError(f"{text!r} given; write all, prompt, generated or START:END", "--where") from None
