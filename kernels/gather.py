"""K3: adds to an encoded token what its SAE decodes to, reading only the rows of W_dec that count.

Replacement sums all active features; either way the edits' changes come on top, one row of W_dec each. Rows are taken ROWS
at a time so that their loads overlap, and always in ascending order of feature, so that a token's bits don't depend on
its batch.
"""

import triton
import triton.language as tl

from . import codes, table


@triton.jit
def gather_kernel(
    queue,  # [1 + T] int32
    start,  # the chunk's first place in the queue
    rows,  # [T] int32
    program,  # SiteTable
    code,  # EditTable
    named,  # [T, E, 2]
    values,  # [T, K]
    ids,  # [T, K] int32
    f,  # [CHUNK, F], elementwise only
    groups,  # [CHUNK, 1 + num_groups] int32, elementwise only
    W_dec,  # [F, D]
    b_dec,  # [D]
    moments,  # [T, 4]
    total,  # [T, D] float32 in out
    D: tl.constexpr,
    F: tl.constexpr,
    E: tl.constexpr,
    K: tl.constexpr,
    SAE: tl.constexpr,
    NUM_SAES: tl.constexpr,
    CHUNK: tl.constexpr,
    GROUP: tl.constexpr,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK columns of one token."""
    slot = tl.program_id(0)
    num_groups: tl.constexpr = (F + GROUP - 1) // GROUP
    if slot < tl.minimum(tl.load(queue) - start, CHUNK):
        token = tl.load(queue + 1 + start + slot)
        row = tl.load(rows + token)
        mine = program + row * (table.SITE_COLUMNS + table.SAE_COLUMNS * NUM_SAES)
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < D
        out = tl.zeros([BLOCK], dtype=tl.float32)
        replaces = tl.load(mine + table.REPLACE) == SAE + 1
        if replaces:
            out += tl.load(b_dec + columns, mask=inside, other=0.0)
            if ACTIVATION == codes.TOPK:
                for at in range(0, K, ROWS):
                    place = at + tl.arange(0, ROWS)
                    weight = tl.load(values + token * K + place, mask=place < K, other=0.0)
                    feature = tl.load(ids + token * K + place, mask=place < K, other=0)
                    out += _weighted_rows(W_dec, weight, feature, columns, inside, D)
            else:
                listed = groups + slot * (1 + num_groups)
                for at in range(0, tl.load(listed) * GROUP, ROWS):
                    place = at + tl.arange(0, ROWS)
                    feature = tl.load(listed + 1 + at // GROUP) * GROUP + place % GROUP
                    weight = tl.load(f + slot.to(tl.int64) * F + feature, mask=feature < F, other=0.0)
                    out += _weighted_rows(W_dec, weight, feature, columns, inside, D)
        edits = tl.load(mine + table.SITE_COLUMNS + table.SAE_COLUMNS * SAE + table.NUM_EDITS)
        for at in range(0, edits, ROWS):
            place = at + tl.arange(0, ROWS)
            feature = tl.load(code + (row * E + place) * 3, mask=place < edits, other=0)
            before = tl.load(named + (token * E + place) * 2, mask=place < edits, other=0.0)
            after = tl.load(named + (token * E + place) * 2 + 1, mask=place < edits, other=0.0)
            out += _weighted_rows(W_dec, after - before, feature, columns, inside, D)
        offsets = token.to(tl.int64) * D + columns
        so_far = tl.load(total + offsets, mask=inside, other=0.0)
        mean = tl.where(replaces, tl.load(moments + token * 4 + 2), 0.0)
        tl.store(total + offsets, so_far + out * tl.load(moments + token * 4 + 3) + mean, mask=inside)


@triton.jit
def _weighted_rows(W_dec, weight, feature, columns, inside, D: tl.constexpr):
    """sum_j weight_j W_dec[feature_j], [BLOCK]; a row of weight 0 is not read."""
    offsets = feature.to(tl.int64)[:, None] * D + columns[None, :]
    direction = tl.load(W_dec + offsets, mask=(weight != 0.0)[:, None] & inside[None, :], other=0.0).to(tl.float32)
    return tl.sum(weight[:, None] * direction, axis=0)
