"""K2: of one encoded token, which features are active, and what the edits make of those that are named.

TopK is exact. It looks only into the k groups of neighbouring features with the largest maxima (ties to the lower group):
were a selected feature in another group, each of the k groups would hold one that comes before it in (value descending, id
ascending). So k * GROUP candidates always suffice, with no overflow to handle. Membership of an edited feature follows
from the k-th largest value and the last tie that is in; a count over the dictionary is never needed.

Under an elementwise activation nothing has to be selected to decode: the groups that hold anything are listed, as many as there
are. TopK then only finds what a request wants to read.
"""

import triton
import triton.language as tl

from . import codes, table
from .activation import edited
from .topk import keep_first, kth_largest


@triton.jit
def select_kernel(
    f,  # [CHUNK, F] float32: activations, under TopK the positive part of the pre-activations
    group_max,  # [CHUNK, num_groups] float32
    queue,  # [1 + T] int32
    start,  # the chunk's first place in the queue
    rows,  # [T] int32
    program,  # SiteTable
    code,  # EditTable
    amount,
    moments,  # [T, 4]
    named,  # [T, E, 2] out
    values,  # [T, K] out: the K largest activations in ascending order of feature, 0 for nothing
    ids,  # [T, K] int32 out
    groups,  # [CHUNK, 1 + num_groups] int32 out, elementwise only: how many groups hold anything, and which
    F: tl.constexpr,
    E: tl.constexpr,
    K: tl.constexpr,
    SAE: tl.constexpr,
    NUM_SAES: tl.constexpr,
    CHUNK: tl.constexpr,
    GROUP: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """One token. BLOCK_G covers the groups, BLOCK_C the candidates, BLOCK_E the edits."""
    slot = tl.program_id(0)
    num_groups: tl.constexpr = (F + GROUP - 1) // GROUP
    if slot < tl.minimum(tl.load(queue) - start, CHUNK):
        token = tl.load(queue + 1 + start + slot)
        row = tl.load(rows + token)
        mine = program + row * (table.SITE_COLUMNS + table.SAE_COLUMNS * NUM_SAES) + table.SITE_COLUMNS
        mine += table.SAE_COLUMNS * SAE
        own_f = f + slot.to(tl.int64) * F
        least = tl.zeros([], dtype=tl.int32)
        last = least + F
        if ACTIVATION != codes.TOPK:
            _list_groups(group_max + slot * num_groups, groups + slot * (1 + num_groups), num_groups, BLOCK_G)
        if K > 0:
            if (ACTIVATION == codes.TOPK) | (tl.load(mine + table.TOP) > 0):
                bits, candidates = _candidates(
                    own_f, group_max + slot * num_groups, ids + token * K, F, K, GROUP, BLOCK_G, BLOCK_C
                )
                kth = kth_largest(bits, K)
                kept, rank = keep_first(bits, kth, K)
                tl.store(values + token * K + rank, bits.to(tl.float32, bitcast=True), mask=kept)
                tl.store(ids + token * K + rank, candidates, mask=kept)
                if ACTIVATION == codes.TOPK:
                    least = kth
                    last = tl.max(tl.where(kept & (bits == kth), candidates, -1), axis=0)
        _edit_named(
            own_f, least, last, code + row * E * 3, amount + row * E * 3, tl.load(mine + table.NUM_EDITS),
            tl.load(moments + token * 4), named + token * E * 2, BLOCK_E,
        )  # fmt: skip


@triton.jit
def _list_groups(group_max, groups, num_groups: tl.constexpr, BLOCK_G: tl.constexpr):
    positions = tl.arange(0, BLOCK_G)
    most = tl.load(group_max + positions, mask=positions < num_groups, other=0.0)
    active = (most > 0.0).to(tl.int32)
    tl.store(groups + tl.cumsum(active, axis=0), positions, mask=active != 0)
    tl.store(groups, tl.sum(active, axis=0))


@triton.jit
def _candidates(
    f,
    group_max,
    ids,
    F: tl.constexpr,
    K: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Bits and feature ids [BLOCK_C] among which the K largest are; ids ascend. `ids` serves to pass the groups on."""
    num_groups: tl.constexpr = (F + GROUP - 1) // GROUP
    positions = tl.arange(0, BLOCK_C)
    if num_groups <= K:
        features = positions
        known = positions < F
    else:
        groups = tl.arange(0, BLOCK_G)
        most = tl.load(group_max + groups, mask=groups < num_groups, other=0.0)
        bits = tl.where(groups < num_groups, most.to(tl.int32, bitcast=True), -1)
        kept, rank = keep_first(bits, kth_largest(bits, K), K)
        tl.store(ids + rank, groups, mask=kept)
        tl.debug_barrier()
        group = positions // GROUP
        features = tl.load(ids + group, mask=group < K, other=0) * GROUP + positions % GROUP
        known = (group < K) & (features < F)
        tl.debug_barrier()
    values = tl.load(f + features, mask=known, other=0.0)
    return tl.where(known, values.to(tl.int32, bitcast=True), -1), features


@triton.jit
def _edit_named(f, least, last, code, amount, num_edits, norm, named, BLOCK_E: tl.constexpr):
    """Activations of the row's listed features before and after the edits; all edits read f, all at once."""
    edits = tl.arange(0, BLOCK_E)
    mine = edits < num_edits
    feature = tl.load(code + edits * 3, mask=mine, other=0)
    gate = tl.load(code + edits * 3 + 2, mask=mine, other=-1)
    before = _member(f, feature, least, last, mine)
    above = _member(f, gate, least, last, gate >= 0) > tl.load(amount + edits * 3 + 2, mask=mine, other=0.0)
    value = tl.load(amount + edits * 3, mask=mine, other=0.0)
    value += norm * tl.load(amount + edits * 3 + 1, mask=mine, other=0.0)
    op = tl.load(code + edits * 3 + 1, mask=mine, other=0)
    after = edited(before, op, value, (gate < 0) | above)
    tl.store(named + edits * 2, before, mask=mine)
    tl.store(named + edits * 2 + 1, after, mask=mine)


@triton.jit
def _member(f, feature, least, last, mask):
    """f of `feature`, 0 where its bits lie below `least`, or equal it behind feature `last`."""
    value = tl.load(f + feature, mask=mask, other=0.0)
    bits = value.to(tl.int32, bitcast=True)
    return tl.where((bits > least) | ((bits == least) & (feature <= last)), value, 0.0)
