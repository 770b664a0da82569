"""`tiller serve`: vLLM's own server in this process, its arguments filled in from a config."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiller.engine import compat
from tiller.engine.build_inventory import model_settings, model_shape
from tiller.engine.config import Config, load_config
from tiller.engine.engine_args import engine_defaults
from tiller.engine.errors import ConfigError
from tiller.engine.inventory import PLAN_KEY

from .address import require_free
from .settings import DIR_VARIABLE, KEY_VARIABLE, check_key

SMALL_D_MODEL = 512
DRAIN_SECONDS = 60  # vLLM's own default, 0, leaves streams hanging that are under way


def serve(config: str, flags: Sequence[str], folder: Path | None = None, api_key: str | None = None) -> None:
    """Serves until it is told to stop; `flags` are those of `vllm serve` and override the config's `engine`.

    Raises TillerError where config and flags don't fit each other, SystemExit as vLLM's parser does.
    """
    check_key(api_key)
    compat.require_vllm()
    loaded = load_config(config)
    arguments = serve_arguments(loaded, config, flags)
    compat.check_head_size(head_size(loaded.resolve(loaded.model)))
    require_free(arguments)
    if folder is not None:
        os.environ[DIR_VARIABLE] = str(folder.absolute())
    if api_key is not None:
        os.environ[KEY_VARIABLE] = api_key
    use_few_threads(loaded)
    compat.run_server(arguments)


def serve_arguments(config: Config, name: str, flags: Sequence[str]) -> Any:
    """vLLM's parsed arguments: flags, else the config's `engine`, else vLLM's defaults.

    Raises ConfigError naming a key that is no argument of vLLM's server.
    """
    defaults = engine_defaults(config)
    defaults.setdefault("shutdown_timeout", DRAIN_SECONDS)
    additional = defaults.pop("additional_config", None)
    path = Path(defaults["model"])
    if path.exists():
        defaults["served_model_name"] = [Path(name).stem]
    arguments = compat.parse_serve_arguments(defaults, flags)
    if getattr(arguments, "model_tag", None) not in (None, defaults["model"]) or arguments.model != defaults["model"]:
        raise ConfigError("the model comes from the config; to serve another one, write a config for it", "model")
    given = {**(additional or {}), **(arguments.additional_config or {})}
    if PLAN_KEY in given:
        raise ConfigError(f"additional_config.{PLAN_KEY} is ours; put SAEs and vectors in the config", "engine")
    arguments.additional_config = {**given, PLAN_KEY: {"config": name}}
    return arguments


def head_size(model: str) -> int:
    """Of the model's attention, as its configuration says."""
    settings = model_settings(model).get_text_config()
    return getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads


def use_few_threads(config: Config) -> None:
    """For a small model on a CPU: threads that wait for each other cost more than they bring."""
    d_model, _ = model_shape(config.resolve(config.model))
    if d_model <= SMALL_D_MODEL and not compat.runs_on_cuda() and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
