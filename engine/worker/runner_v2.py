"""Steering under model runner V2: a ModelState that tells Steering which requests come, go and run."""

from functools import cache
from typing import Any

from tiller.engine import compat

from .steering import Steering


class SteeredModelState:
    """Mixed in before the ModelState that V2 would use anyway."""

    def __init__(self, vllm_config: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, model, *args, **kwargs)  # type: ignore[call-arg]
        self.steering: Steering = model.tiller

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        super().add_request(req_index, new_req_data)  # type: ignore[misc]
        params = new_req_data.sampling_params
        if params is not None and params.extra_args:
            prompt_len = compat.v2_prompt_len(new_req_data)
            num_computed = new_req_data.num_computed_tokens
            self.steering.admit(new_req_data.req_id, params.extra_args, prompt_len, num_computed, req_index)

    def remove_request(self, req_id: str) -> None:
        super().remove_request(req_id)  # type: ignore[misc]
        self.steering.release(req_id)

    def prepare_inputs(self, input_batch: Any, req_states: Any) -> dict[str, Any]:
        # Warm-up and idle data-parallel ranks send batches of requests that don't exist, on slots of some that do.
        if not input_batch.req_ids or input_batch.req_ids[0] not in req_states.req_id_to_index:
            self.steering.end_step()
        elif self.steering.kernels:
            self.steering.begin_step_on_device(input_batch.req_ids, *compat.v2_layout(input_batch))
        else:
            positions = input_batch.positions[: input_batch.num_tokens]
            self.steering.begin_step(input_batch.req_ids, input_batch.query_start_loc_np, positions)
        return super().prepare_inputs(input_batch, req_states)  # type: ignore[misc]


@cache
def steered_model_state_cls(base: type) -> type:
    """`base` with SteeredModelState in front."""
    return type(f"Steered{base.__name__}", (SteeredModelState, base), {})
