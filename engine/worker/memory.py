"""Room for dictionaries and buffers, looked at before it is taken."""

import psutil
import torch

from tiller.engine.errors import UnsupportedError
from tiller.engine.inventory import Plan
from tiller.kernels.sae import SAE
from tiller.kernels.workspace import MAX_SCRATCH, Workspace, chunk_tokens

GIB = 2**30


def check_room(what: str, num_bytes: int, device: torch.device) -> None:
    """Raises UnsupportedError where `what`, of this size, can't fit into what `device` has free."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if num_bytes > free:
        raise UnsupportedError(
            f"{what} takes {num_bytes / GIB:.2f} GiB and {device} has {free / GIB:.2f} GiB free: use a smaller "
            "dictionary, a device with more memory, or fewer dictionaries at once"
        )


def make_workspace(
    plan: Plan, saes: dict[str, SAE], d_model: int, max_tokens: int, dtype: torch.dtype, device: torch.device
) -> Workspace:
    """The kernels' buffers for batches of up to `max_tokens` tokens."""
    scratch = max((4 * sae.d_sae * chunk_tokens(sae.d_sae, max_tokens) for sae in saes.values()), default=0)
    check_room("steering scratch", scratch, device)
    return Workspace(
        saes, len(plan.layers), d_model, max_tokens, plan.max_edits, plan.max_top, dtype, device, MAX_SCRATCH
    )
