"""The residual stream inside a kernel: how one token's x is read, finished and written back. Device functions.

x = hidden + residual in the model's dtype is what vLLM's next fused add-and-norm reads; a steered token becomes
residual = x', hidden = 0, so that this sum is x' exactly. Where hidden holds the whole stream there is no pair.
"""

import triton
import triton.language as tl

from . import limits


@triton.jit
def round_to(x, dtype: tl.constexpr):
    """float32 to `dtype`, to nearest even; float16 saturates."""
    if dtype == tl.bfloat16:  # a GPU's cast rounds so by itself; Triton's interpreter truncates
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        x = bits.to(tl.float32, bitcast=True)
    if dtype == tl.float16:
        x = tl.minimum(tl.maximum(x, -limits.MAX_HALF), limits.MAX_HALF)
    return x.to(dtype)


@triton.jit
def read_stream(hidden, residual, token, columns, inside, D: tl.constexpr, PAIR: tl.constexpr):
    """x of one token, [BLOCK] float32 holding values of the model's dtype."""
    offset = token.to(tl.int64) * D + columns
    x = tl.load(hidden + offset, mask=inside, other=0.0)
    if PAIR:
        other = tl.load(residual + offset, mask=inside, other=0.0)
        x = round_to(x.to(tl.float32) + other.to(tl.float32), hidden.dtype.element_ty)
    return x.to(tl.float32)


@triton.jit
def norm_of(x):
    return tl.sqrt(tl.sum(x * x, axis=0))


@triton.jit
def finish_token(
    hidden, residual, delta, token, x, out, max_norm, preserve, columns, inside, D: tl.constexpr, PAIR: tl.constexpr
):
    """Applies norm preservation and the norm guard to `out` [BLOCK] and writes it where it differs from x.

    A token whose x' rounds to x is not written: the next norm reads the unrounded sum, and a rewritten token could
    differ from it in the last bit. A token that holds NaN is left as it is.
    """
    norm = norm_of(x)
    out = tl.minimum(tl.maximum(out, -limits.MAX_RESIDUAL), limits.MAX_RESIDUAL)
    own = norm_of(out)
    out = tl.where((preserve != 0) & (own > 0.0), out * (norm / own), out)
    guarded = norm <= max_norm
    out = tl.where(guarded, out, x)
    change = norm_of(out - x)
    tl.store(delta + token, tl.where(norm == norm, change, float("inf")))
    new = round_to(out, hidden.dtype.element_ty)
    differs = tl.sum((new.to(tl.float32) != x).to(tl.int32), axis=0)
    if guarded & (differs > 0):
        offset = token.to(tl.int64) * D + columns
        if PAIR:
            tl.store(residual + offset, new, mask=inside)
            tl.store(hidden + offset, tl.zeros_like(new), mask=inside)
        else:
            tl.store(hidden + offset, new, mask=inside)
