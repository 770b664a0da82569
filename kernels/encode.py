"""K1: activations of the listed tokens over the whole dictionary, a matrix product with the SAE's own epilogue.

Below about 184 tokens on an H200 it reads W_enc once and waits for memory; above, the tensor cores are the limit. The
activations go to scratch in float32 (in bfloat16 two of three rows tie at the TopK boundary) together with the largest of
every GROUP neighbours, by which the selection skips nearly all of them.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from .activation import activate


class Tile(NamedTuple):
    """Shape of one program of `encode_kernel`."""

    tokens: int
    features: int
    depth: int  # d_model is walked in steps of this
    num_warps: int
    num_stages: int


def encode_tile(num_tokens: int, d_sae: int) -> Tile:
    """The tile for at most `num_tokens` tokens.

    Not timed on a GPU yet: chosen from compiled registers, shared memory and waves (tests/kernels/offline.py prints them).
    Few tokens: narrow tiles, so that a small dictionary still spreads over all SMs of the device, and two programs fit one.
    Many: the largest tile without spills, because traffic from the L2 cache falls with its size. The depth is the
    same in all, so that every activation is summed in one order.
    """
    if num_tokens <= 64:
        return Tile(64, 128 if d_sae > 32768 else 64 if d_sae > 4096 else 32, 64, 4, 4)
    return Tile(128, 256 if d_sae > 32768 else 128, 64, 8, 3)


@triton.jit
def encode_kernel(
    x_queue,  # [T, D]
    W_enc,  # [F, D]
    features,  # [F, 4]
    moments,  # [T, 4]
    queue,  # [1 + T] int32
    f,  # [CHUNK, F] float32 out
    group_max,  # [CHUNK, ceil(F / GROUP)] float32 out
    start,  # the chunk's first place in the queue
    D: tl.constexpr,
    F: tl.constexpr,
    CHUNK: tl.constexpr,
    GROUP: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INPUT_NORM: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """BLOCK_T tokens by BLOCK_F features. UPCAST is for Triton's interpreter, whose dot can't multiply bfloat16."""
    first = tl.program_id(0) * BLOCK_T
    num = tl.minimum(tl.load(queue) - start, CHUNK)
    if first < num:
        slots = first + tl.arange(0, BLOCK_T)
        ids = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
        live, known = slots < num, ids < F
        x_rows = x_queue + (start + slots).to(tl.int64)[:, None] * D
        W_rows = W_enc + ids.to(tl.int64)[None, :] * D
        pre = tl.zeros([BLOCK_T, BLOCK_F], dtype=tl.float32)
        for at in range(0, D, BLOCK_D):
            depth = at + tl.arange(0, BLOCK_D)
            x = tl.load(x_rows + depth[None, :], mask=live[:, None] & (depth < D)[None, :], other=0.0)
            W = tl.load(W_rows + depth[:, None], mask=known[None, :] & (depth < D)[:, None], other=0.0)
            if UPCAST:
                x, W = x.to(tl.float32), W.to(tl.float32)
            pre = tl.dot(x, W, pre, input_precision="ieee")
        if INPUT_NORM != 0:
            tokens = tl.load(queue + 1 + start + slots, mask=live, other=0)
            scale = tl.load(moments + tokens * 4 + 1, mask=live, other=0.0)
            mean = tl.load(moments + tokens * 4 + 2, mask=live, other=0.0)
            total = tl.load(features + ids * 4 + 3, mask=known, other=0.0)
            pre = scale[:, None] * (pre - mean[:, None] * total[None, :])
        pre += tl.load(features + ids * 4, mask=known, other=0.0)[None, :]
        out = tl.where(known[None, :], activate(pre, features, ids[None, :], known[None, :], ACTIVATION), 0.0)
        offsets = slots.to(tl.int64)[:, None] * F + ids[None, :]
        tl.store(f + offsets, out, mask=live[:, None] & known[None, :])
        most = tl.max(tl.reshape(out, [BLOCK_T, BLOCK_F // GROUP, GROUP]), axis=2)
        groups = tl.program_id(1) * (BLOCK_F // GROUP) + tl.arange(0, BLOCK_F // GROUP)
        num_groups: tl.constexpr = (F + GROUP - 1) // GROUP
        offsets = slots[:, None] * num_groups + groups[None, :]
        tl.store(group_max + offsets, most, mask=live[:, None] & (groups < num_groups)[None, :])
