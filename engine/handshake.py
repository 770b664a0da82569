"""What a front end asks of new workers before anybody relies on them."""

from typing import Any

from .errors import UnsupportedError
from .inventory import Plan
from .spec import SteeringSpec, parse_spec


def check_handshake(plan: Plan, workers: list[dict[str, Any]]) -> None:
    """Raises UnsupportedError unless every worker steers by this very plan."""
    for rank, worker in enumerate(workers):
        if not worker["steers"] or worker["digest"] != plan.digest:
            raise UnsupportedError(
                f"worker {rank} does not steer by this plan: {worker}. Is the vllm-tiller plugin loaded there "
                "(VLLM_PLUGINS) and TILLER_DISABLE unset?"
            )


def probe_specs(plan: Plan) -> list[SteeringSpec]:
    """One spec for each layer of `plan` that passes its site and changes nothing."""
    specs = []
    for layer in plan.layers:
        names = plan.saes_at(layer)
        vector = next((name for name, entry in plan.vectors.items() if entry.layer == layer), None)
        body = {"read": {"features": [0], "sae": names[0]}} if names else {"vectors": [{"name": vector, "alpha": 0.0}]}
        specs.append(parse_spec(body))
    return specs
