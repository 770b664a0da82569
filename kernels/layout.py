"""Which token of a step follows which table row, worked out on the device from what the model runner has there.

Token t belongs to request b where query_start_loc[b] <= t < query_start_loc[b + 1]; it is steered where its position lies in
the scope of the request in slot idx_mapping[b]. The same launch makes the workspace ready for the step.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .workspace import Workspace

SLOT_COLUMNS = 4  # row, first position in scope, first position past it, record
BLOCK = 128  # tokens, and requests at a time, of one program


@triton.jit
def layout_kernel(
    query_start_loc,  # [1 + num_requests]
    idx_mapping,  # [num_requests]
    positions,  # [num_tokens]
    slots,  # [num_slots, 4] int32
    rows,  # [T] int32 out
    records,  # [T] int32 out, -1 where nobody will ask
    delta,  # [num_sites, T] out: NaN, which a site overwrites where it steers
    queues,  # [num_saes, 1 + T] out: the counts
    num_requests,
    num_tokens,
    T: tl.constexpr,
    NUM_SITES: tl.constexpr,
    NUM_QUEUES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK tokens."""
    tokens = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = tokens < num_tokens
    ended = tl.zeros([BLOCK], dtype=tl.int32)
    for first in range(0, num_requests, BLOCK):
        requests = first + tl.arange(0, BLOCK)
        ends = tl.load(query_start_loc + 1 + requests, mask=requests < num_requests, other=2147483647).to(tl.int32)
        ended += tl.sum((ends[None, :] <= tokens[:, None]).to(tl.int32), axis=1)
    known = known & (ended < num_requests)
    slot = tl.load(idx_mapping + ended, mask=known, other=0).to(tl.int64)
    position = tl.load(positions + tokens, mask=known, other=-1)
    start = tl.load(slots + slot * 4 + 1, mask=known, other=0)
    end = tl.load(slots + slot * 4 + 2, mask=known, other=0)
    steered = known & (position >= start) & (position < end)
    tl.store(rows + tokens, tl.load(slots + slot * 4, mask=steered, other=0), mask=tokens < T)
    tl.store(records + tokens, tl.load(slots + slot * 4 + 3, mask=steered, other=-1), mask=tokens < T)
    for site in range(NUM_SITES):
        tl.store(delta + site * T + tokens, float("nan"), mask=tokens < T)
    if tl.program_id(0) == 0:
        for queue in range(NUM_QUEUES):
            tl.store(queues + queue * (1 + T), 0)


class Layout:
    """Scopes of the requests in each slot of the model runner, and the launch that turns them into rows per token."""

    def __init__(self, workspace: Workspace, num_slots: int, device: torch.device) -> None:
        self.workspace = workspace
        self.slots = torch.zeros(num_slots, SLOT_COLUMNS, dtype=torch.int32, device=device)
        self.records = torch.full_like(workspace.rows, -1)

    def begin(self, query_start_loc: Tensor, idx_mapping: Tensor, positions: Tensor) -> None:
        """query_start_loc [1 + num_requests], idx_mapping [num_requests], positions [num_tokens]; no sync with the host."""
        space = self.workspace
        num_sites, num_tokens = space.delta.shape
        layout_kernel[(triton.cdiv(num_tokens, BLOCK),)](
            query_start_loc,
            idx_mapping,
            positions,
            self.slots,
            space.rows,
            self.records,
            space.delta,
            space.queues,
            len(idx_mapping),
            len(positions),
            T=num_tokens,
            NUM_SITES=num_sites,
            NUM_QUEUES=len(space.queues),
            BLOCK=BLOCK,
        )
