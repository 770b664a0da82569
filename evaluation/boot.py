"""Starting an engine from the command line: in this process, quietly, and gone again at the end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiller.engine.config import Config, load_config


def set_defaults() -> None:
    """Environment that vLLM reads on import; what the user has set stays.

    In one process the order of a run's batches depends on the requests alone, so that equal runs give equal answers;
    with a process of its own the engine starts on the first requests while later ones are still on their way.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")


@contextmanager
def boot(config: str | Path | Config, capture: bool = False, **engine: Any) -> Iterator[Any]:
    """A SteeredLLM that is shut down on leaving.

    Raises TillerError where the config is wrong or doesn't fit its model.
    """
    set_defaults()
    import torch  # here, for a command that boots nothing should not wait for it

    from tiller.engine import compat
    from tiller.engine.build_inventory import model_shape
    from tiller.engine.server.launch import SMALL_D_MODEL

    compat.require_vllm()
    loaded = config if isinstance(config, Config) else load_config(config)
    d_model, _ = model_shape(loaded.resolve(loaded.model))
    if d_model <= SMALL_D_MODEL and "OMP_NUM_THREADS" not in os.environ:
        # Its matrices are too small to split: threads that wait for each other cost more than they bring.
        torch.set_num_threads(1)
    from tiller.engine import SteeredLLM

    llm = SteeredLLM.from_config(loaded, capture=capture, **engine)
    try:
        yield llm
    finally:
        llm.shutdown()
