"""Prefix-cache keys: a KV block may be shared only by requests whose steering agrees on all positions up to its end."""

from typing import Any

from .spec import parse_spec
from .steering import SPEC_KEY


def steering_key(request: Any, start: int, end: int) -> tuple[str, str] | None:
    """Key of the block at token positions start <= position < end; None where no position in it is steered.

    Hashes chain from block to block, so a key on the blocks that steering touches is enough: what comes before stays
    shared with requests that steer nothing there, and a later turn finds the steered blocks of the turn before.
    """
    params = request.sampling_params
    given = (params.extra_args or {}).get(SPEC_KEY) if params is not None else None
    if given is None:
        return None
    spec = parse_spec(given)
    if spec.edits_nothing:
        return None
    scope = spec.scope(request.num_prompt_tokens)
    lo, hi = max(scope.lo, start), min(scope.hi, end)
    return None if lo >= hi else (SPEC_KEY, f"{spec.digest}:{lo - start}:{hi - start}")
