"""Prefix-cache keys: a KV block may be shared only by requests whose steering agrees on all positions up to its end."""

from typing import Any

from .spec import SPEC_KEY, SteeringSpec, parse_spec

KEPT = "tiller_spec"  # attribute of vLLM's Request: (its SamplingParams, the parsed spec)


def steering_key(request: Any, start: int, end: int) -> tuple[str, str] | None:
    """Key of the block at token positions start <= position < end; None where no position in it is steered.

    Hashes chain from block to block, so a key on the blocks that steering touches is enough: what comes before stays
    shared with requests that steer nothing there, and a later turn finds the steered blocks of the turn before.
    """
    spec = _spec_of(request)
    if spec is None or spec.edits_nothing:
        return None
    scope = spec.scope(request.num_prompt_tokens)
    lo, hi = max(scope.lo, start), min(scope.hi, end)
    return None if lo >= hi else (SPEC_KEY, f"{spec.digest}:{lo - start}:{hi - start}")


def _spec_of(request: Any) -> SteeringSpec | None:
    """The parsed spec of a request, None where it is not steered; kept on the request, which is asked once a block."""
    params = request.sampling_params
    given = (params.extra_args or {}).get(SPEC_KEY) if params is not None else None
    if given is None:
        return None
    kept = getattr(request, KEPT, None)
    if kept is None or kept[0] is not params:  # a streamed prompt brings new params with each part
        kept = (params, parse_spec(given))
        setattr(request, KEPT, kept)
    return kept[1]
