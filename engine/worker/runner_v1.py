"""Steering under model runner V1: around each forward, tell Steering which requests are in the batch."""

from typing import Any

from torch import Tensor

from tiller.engine import compat

from .steering import Steering


def before_forward(runner: Any, positions: Tensor | None) -> None:
    """Brings Steering up to date with V1's batch and lays out the step."""
    steering: Steering | None = getattr(runner.get_model(), "tiller", None)
    if steering is None:
        return
    req_ids, query_start_loc = compat.v1_batch(runner)
    _follow(steering, runner, req_ids)
    if steering.admitted:
        assert positions is not None
        steering.begin_step(req_ids, query_start_loc, positions[..., : int(query_start_loc[-1])])


def after_forward(runner: Any) -> None:
    """Closes the step, so that a warm-up run that follows finds the sites idle."""
    steering: Steering | None = getattr(runner.get_model(), "tiller", None)
    if steering is not None:
        steering.end_step()


def _follow(steering: Steering, runner: Any, req_ids: list[str]) -> None:
    """Admits requests that are new in the batch and releases those that left it."""
    present = set(req_ids)
    if present == steering.in_batch:
        return
    for req_id in steering.in_batch - present:
        steering.release(req_id)
    for req_id in present - steering.in_batch:
        request = compat.v1_request(runner, req_id)
        params = request.sampling_params
        if params is not None and params.extra_args:
            steering.admit(req_id, params.extra_args, request.num_prompt_tokens, request.num_computed_tokens)
    steering.in_batch = present
