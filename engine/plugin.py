"""vLLM loads this in every process (`vllm.general_plugins`). It must import in a moment and may be called again."""

import os
from typing import Any


def register() -> None:
    """Registers the steered model classes and the hooks in vLLM's scheduler and front ends.

    What workers need, the steered model installs when it is built. TILLER_DISABLE=1 leaves vLLM alone.
    """
    if os.environ.get("TILLER_DISABLE") == "1":
        return
    from . import compat
    from .admission import check_params
    from .prefix_cache import steering_key
    from .spec import ID_KEY

    compat.register_models()
    compat.wrap_block_hash_keys(steering_key)
    compat.wrap_submission(check_params)
    compat.wrap_engine_config(prepare)
    compat.wrap_shutdown(ID_KEY)


def prepare(arguments: Any, is_server: bool) -> bool:
    """Before a front end makes vLLM's configuration of its arguments; a serving one gets its routes here.

    True where the engine is to steer.
    """
    from .engine_args import prepare_engine_args

    is_steered = prepare_engine_args(arguments)
    if is_server:
        from .server.install import install

        install()
    return is_steered
