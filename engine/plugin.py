"""vLLM loads this in every process (`vllm.general_plugins`). It must import in a moment and may be called again."""

import os


def register() -> None:
    """Registers the steered model classes and the hooks in vLLM's scheduler and front ends.

    What workers need, the steered model installs when it is built. TILLER_DISABLE=1 leaves vLLM alone.
    """
    if os.environ.get("TILLER_DISABLE") == "1":
        return
    from . import compat
    from .prefix_cache import steering_key
    from .submission import check_params

    compat.register_models()
    compat.wrap_block_hash_keys(steering_key)
    compat.wrap_submission(check_params)
