"""vLLM's arguments for a steered engine."""

from typing import Any

from . import compat
from .config import Config
from .errors import ConfigError
from .plan import PLAN_KEY, Plan


def steered_engine_args(config: Config, plan: Plan) -> dict[str, Any]:
    """Keyword arguments for `vllm.LLM` or `EngineArgs`; the plan travels in `additional_config`."""
    additional = dict(config.engine.get("additional_config") or {})
    if PLAN_KEY in additional:
        raise ConfigError(f"additional_config.{PLAN_KEY} is ours; put SAEs and vectors in the config", "engine")
    additional[PLAN_KEY] = plan.model_dump(mode="json")
    arguments = {**config.vllm_arguments(), "additional_config": additional}
    if not compat.takes_cuda_graphs() and not arguments.get("enforce_eager"):
        arguments.setdefault("compilation_config", {"cudagraph_mode": "NONE"})
    return arguments
