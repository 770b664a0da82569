"""vLLM's arguments for a steered engine."""

from typing import Any

from . import compat
from .build_inventory import make_plan
from .config import Config, load_config
from .errors import ConfigError
from .inventory import PLAN_KEY, Plan

_configs: dict[str, Config] = {}  # of the engines that this process fronts, by the digest of their plan


def steered_engine_args(config: Config, plan: Plan) -> dict[str, Any]:
    """Keyword arguments for `vllm.LLM` or `EngineArgs`; the plan travels in `additional_config`."""
    additional = dict(config.engine.get("additional_config") or {})
    if PLAN_KEY in additional:
        raise ConfigError(f"additional_config.{PLAN_KEY} is ours; put SAEs and vectors in the config", "engine")
    additional[PLAN_KEY] = plan.model_dump(mode="json")
    compat.check_names(config.engine, compat.engine_argument_names(), "engine")
    return {**engine_defaults(config), "additional_config": additional}


def engine_defaults(config: Config) -> dict[str, Any]:
    """The config's own vLLM arguments, and what a steered engine needs beyond them."""
    arguments = config.vllm_arguments()
    if not compat.takes_cuda_graphs() and not arguments.get("enforce_eager"):
        arguments.setdefault("compilation_config", {"cudagraph_mode": "NONE"})
    return arguments


def prepare_engine_args(arguments: Any) -> bool:
    """Completes the EngineArgs of an engine that is to steer, however it is started; leaves those of others alone: False.

    `additional_config["tiller"]` may be `{"config": NAME|FILE}` or the `saes`, `vectors` and `profiles` of a config; what
    travels on to the workers is the Plan made of it.
    """
    additional = arguments.additional_config
    body = additional.get(PLAN_KEY) if isinstance(additional, dict) else None
    if body is None:
        return False
    if not isinstance(body, dict) or set(body) != set(Plan.model_fields):
        config = inline_config(body, arguments.model)
        plan = make_plan(config)
        arguments.additional_config = {**additional, PLAN_KEY: plan.model_dump(mode="json")}
        _configs[plan.digest] = config
    if not compat.runs_on_cuda() and arguments.enable_chunked_prefill is None and _takes_whole_prompts(arguments):
        arguments.enable_chunked_prefill = False  # vLLM's CPU runner stops at seeded requests that are cut in two
    return True


def inline_config(body: Any, model: str) -> Config:
    """The config meant by `additional_config["tiller"]`, for the engine's own model.

    Raises ConfigError where it is none.
    """
    where = f"additional_config.{PLAN_KEY}"
    if not isinstance(body, dict):
        raise ConfigError("must be an object: {'config': NAME} or {'saes': {...}}", where)
    if set(body) == {"config"}:
        return load_config(body["config"]).model_copy(update={"model": model})
    unknown = set(body) - {"saes", "vectors", "profiles"}
    if unknown:
        raise ConfigError(f"unknown key {min(unknown)!r}; allowed: config, or saes, vectors, profiles", where)
    return Config.checked({"model": model, **body}, where)


def config_of(plan: Plan) -> Config | None:
    """The config that `plan` was made of in this process."""
    return _configs.get(plan.digest)


def _takes_whole_prompts(arguments: Any) -> bool:
    batched, longest = arguments.max_num_batched_tokens, arguments.max_model_len
    return batched is None or (longest is not None and batched >= longest)
