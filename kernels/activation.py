"""SAE activations and feature edits inside a kernel, element by element.

A feature's parameters lie together in `features` [F, 4] float32: b_enc, then the activation's own two (threshold, unused |
gate_scale, gate_shift), then sum(W_enc[i]) for dictionaries that normalise their input.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import codes, limits, table
from .sae import SAE


def feature_parameters(sae: SAE) -> Tensor:
    """`features` [F, 4] float32 of `sae`."""
    zeros = torch.zeros_like(sae.b_enc)
    own = {"threshold": (sae.threshold, zeros), "gated": (sae.gate_scale, sae.gate_shift)}
    first, second = own.get(sae.activation, (zeros, zeros))
    total = zeros if sae.input_norm == "none" else sae.W_enc.sum(1, dtype=torch.float32)
    assert first is not None and second is not None
    return torch.stack([sae.b_enc, first, second, total], dim=1).contiguous()


@triton.jit
def activate(pre, features, ids, mask, ACTIVATION: tl.constexpr):
    """f of pre-activations; under TopK the positive part, which selection then thins out. Never -0.0 or NaN."""
    f = tl.where(pre > 0.0, pre, 0.0)
    if ACTIVATION == codes.THRESHOLD:
        f = tl.where(pre > tl.load(features + ids * 4 + 1, mask=mask, other=0.0), f, 0.0)
    if ACTIVATION == codes.GATED:
        scale = tl.load(features + ids * 4 + 1, mask=mask, other=0.0)
        shift = tl.load(features + ids * 4 + 2, mask=mask, other=0.0)
        magnitude = scale * pre + shift
        f = tl.where((pre > 0.0) & (magnitude > 0.0), magnitude, 0.0)
    return f


@triton.jit
def edited(f, op, value, is_open):
    """f' = op(f, value) where the edit's gate is open; saturates, but never where nothing changes."""
    new = tl.where(op == table.ADD, f + value, f)
    new = tl.where(op == table.SET, value, new)
    new = tl.where(op == table.SCALE, f * value, new)
    new = tl.where(op == table.MIN, tl.maximum(f, value), new)
    new = tl.where(op == table.MAX, tl.minimum(f, value), new)
    new = tl.where(is_open, new, f)
    return tl.where(new == f, f, tl.minimum(tl.maximum(new, -limits.MAX_COEFFICIENT), limits.MAX_COEFFICIENT))
