"""K0 and K4: one program a token does everything that needs no pass over the dictionary, and lists the tokens that do.

Unconditional additions, projections, and edits that keep the error term on an SAE with an elementwise activation are
finished here. Under TopK an edited feature with no positive pre-activation is inactive for certain; only a token with a
positive one is listed for the encoder, as are replacement and read-outs of the most active features.
"""

import triton
import triton.language as tl

from . import codes, limits, table
from .activation import activate, edited
from .stream import finish_token, norm_of, read_stream


@triton.jit
def edit_kernel(
    hidden,  # [T, D]
    residual,  # [T, D], hidden again where there is no pair
    rows,  # [T] int32
    vectors,  # SiteTable
    scalars,
    program,
    code,  # EditTable
    amount,
    W_enc,  # [F, D]
    W_dec,
    features,  # [F, 4]
    named,  # [T, E, 2] out: activation of each listed feature before and after the edits
    moments,  # [T, 4] out: norm(x), then scale, mean and std of the input normalisation
    delta,  # [T] out: norm(x' - x)
    queue,  # [1 + T] in out: how many tokens need the encoder, and which
    x_queue,  # [T, D] out: their x
    total,  # [T, D] float32 in out: x' so far, of tokens that another kernel will finish
    D: tl.constexpr,
    E: tl.constexpr,
    P: tl.constexpr,
    PAIR: tl.constexpr,
    SAE: tl.constexpr,
    NUM_SAES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INPUT_NORM: tl.constexpr,
    EPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token. The kernels of a site's SAEs run one after the other; this is number SAE of NUM_SAES."""
    token = tl.program_id(0)
    row = tl.load(rows + token)
    mine = program + row * (table.SITE_COLUMNS + table.SAE_COLUMNS * NUM_SAES)
    if tl.load(mine + table.STEERS) != 0:
        columns = tl.arange(0, BLOCK)
        inside = columns < D
        x = read_stream(hidden, residual, token, columns, inside, D, PAIR)
        norm = norm_of(x)
        so_far = total + token.to(tl.int64) * D + columns
        if SAE == 0:
            out = tl.where(tl.load(mine + table.REPLACE) > 0, 0.0, x)
            out = _shifted(out, norm, vectors, row, tl.load(mine + table.SHIFT), columns, inside, D, P)
            num = tl.load(mine + table.PROJECTIONS)
            out = _projected(out, x, norm, vectors, scalars, row, num, columns, inside, D, P)
        else:
            out = tl.load(so_far, mask=inside, other=0.0)
        listed = False
        if NUM_SAES > 0:
            mine_here = mine + table.SITE_COLUMNS + table.SAE_COLUMNS * SAE
            mean, std = _moments(x, norm, inside, D, INPUT_NORM)
            scale = 1.0 / (std + EPS)
            z = tl.where(inside, scale * (x - mean), 0.0)
            listed = tl.load(mine_here + table.ENCODES) != 0
            num_edits = tl.where(listed, 0, tl.load(mine_here + table.NUM_EDITS))
            change, found = _edited_features(
                z, norm, code + row * E * 3, amount + row * E * 3, num_edits, W_enc, W_dec, features,
                named + token * E * 2, columns, inside, D, ACTIVATION,
            )  # fmt: skip
            listed = listed | ((ACTIVATION == codes.TOPK) & found)
            out += tl.where(listed, 0.0, change * std)
            if listed:
                slot = tl.atomic_add(queue, 1)
                tl.store(queue + 1 + slot, token)
                tl.store(x_queue + slot.to(tl.int64) * D + columns, x.to(x_queue.dtype.element_ty), mask=inside)
                tl.store(moments + token * 4, norm)
                tl.store(moments + token * 4 + 1, scale)
                tl.store(moments + token * 4 + 2, mean)
                tl.store(moments + token * 4 + 3, std)
        if listed | (SAE < NUM_SAES - 1):
            tl.store(so_far, out, mask=inside)
        else:
            max_norm = tl.load(scalars + row * (1 + 3 * P))
            preserve = tl.load(mine + table.PRESERVE)
            finish_token(hidden, residual, delta, token, x, out, max_norm, preserve, columns, inside, D, PAIR)


@triton.jit
def finish_kernel(
    hidden,
    residual,
    rows,
    scalars,
    program,
    delta,
    queue,
    total,
    D: tl.constexpr,
    P: tl.constexpr,
    NUM_SAES: tl.constexpr,
    PAIR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes back the tokens that the last SAE's encoder was needed for; one program a listed token."""
    slot = tl.program_id(0)
    if slot < tl.load(queue):
        token = tl.load(queue + 1 + slot)
        row = tl.load(rows + token)
        columns = tl.arange(0, BLOCK)
        inside = columns < D
        x = read_stream(hidden, residual, token, columns, inside, D, PAIR)
        out = tl.load(total + token.to(tl.int64) * D + columns, mask=inside, other=0.0)
        max_norm = tl.load(scalars + row * (1 + 3 * P))
        preserve = tl.load(program + row * (table.SITE_COLUMNS + table.SAE_COLUMNS * NUM_SAES) + table.PRESERVE)
        finish_token(hidden, residual, delta, token, x, out, max_norm, preserve, columns, inside, D, PAIR)


@triton.jit
def _shifted(out, norm, vectors, row, shift, columns, inside, D: tl.constexpr, P: tl.constexpr):
    first = vectors + row.to(tl.int64) * (2 + P) * D + columns
    if shift > 0:
        out += tl.load(first, mask=inside, other=0.0)
    if shift == table.NORM_SHIFT:
        out += norm * tl.load(first + D, mask=inside, other=0.0)
    return out


@triton.jit
def _projected(out, x, norm, vectors, scalars, row, num, columns, inside, D: tl.constexpr, P: tl.constexpr):
    """Orthogonal: (I - P) x + alpha P x. Cap: the projection is at most alpha. Each reads x."""
    for p in range(0, num):
        direction = tl.load(vectors + (row.to(tl.int64) * (2 + P) + 2 + p) * D + columns, mask=inside, other=0.0)
        at = scalars + row * (1 + 3 * P) + 1 + 3 * p
        mode = tl.load(at)
        alpha = tl.load(at + 1) + norm * tl.load(at + 2)
        along = tl.sum(x * direction, axis=0)
        wanted = tl.where(mode == table.ORTHOGONAL, alpha * along, along)
        wanted = tl.where(mode == table.CAP, tl.minimum(along, alpha), wanted)
        out += tl.minimum(tl.maximum(wanted - along, -limits.MAX_COEFFICIENT), limits.MAX_COEFFICIENT) * direction
    return out


@triton.jit
def _moments(x, norm, inside, D: tl.constexpr, INPUT_NORM: tl.constexpr):
    """Mean and std that the SAE's input normalisation removes from x, and its decoder's output gets back."""
    mean = norm * 0.0
    std = mean + 1.0
    if INPUT_NORM == codes.LAYER_NORM:
        mean = tl.sum(x, axis=0) / D
        centred = tl.where(inside, x - mean, 0.0)
        std = tl.sqrt(tl.sum(centred * centred, axis=0) / (D - 1))
    if INPUT_NORM == codes.UNIT_NORM:
        std = tl.maximum(norm, limits.MIN_NORM) / tl.sqrt(D * 1.0)
    return mean, std


@triton.jit
def _edited_features(
    z,
    norm,
    code,
    amount,
    num_edits,
    W_enc,
    W_dec,
    features,
    named,
    columns,
    inside,
    D: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """sum_i (f'_i - f_i) W_dec[i] over a row's edits, one dot product each, and whether any feature it names may be active."""
    change = tl.zeros_like(z)
    found = num_edits < 0
    for e in range(0, num_edits):
        at = e * 3
        feature = tl.load(code + at).to(tl.int64)
        direction = tl.load(W_dec + feature * D + columns, mask=inside, other=0.0).to(tl.float32)
        f = _activation(z, W_enc, features, feature, columns, inside, D, ACTIVATION)
        found = found | (f > 0.0)
        gate = tl.load(code + at + 2).to(tl.int64)
        is_open = gate < 0
        if gate >= 0:
            g = _activation(z, W_enc, features, gate, columns, inside, D, ACTIVATION)
            found = found | (g > 0.0)
            is_open = g > tl.load(amount + at + 2)
        value = tl.load(amount + at) + norm * tl.load(amount + at + 1)
        new = edited(f, tl.load(code + at + 1), value, is_open)
        tl.store(named + e * 2, f)
        tl.store(named + e * 2 + 1, new)
        change += (new - f) * direction
    return change, found


@triton.jit
def _activation(z, W_enc, features, feature, columns, inside, D: tl.constexpr, ACTIVATION: tl.constexpr):
    weight = tl.load(W_enc + feature * D + columns, mask=inside, other=0.0).to(tl.float32)
    pre = tl.sum(z * weight, axis=0) + tl.load(features + feature * 4)
    return activate(pre, features, feature, True, ACTIVATION)
