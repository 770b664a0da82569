"""DESIGN's formulas for one token, dense and in float64, and small dictionaries to try them on.

Written from the formulas alone: no index tricks, no skips, nothing shared with tiller.kernels.reference.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tiller.kernels.sae import SAE

ACTIVATIONS = ["relu", "topk", "threshold", "gated"]
INPUT_NORMS = ["none", "layer_norm", "unit_norm"]


class Edit(NamedTuple):
    feature: int
    op: str
    raw: float = 0.0
    per_norm: float = 0.0
    when: tuple[int, float] | None = None


class Vector(NamedTuple):
    direction: Tensor
    mode: str = "add"
    raw: float = 0.0
    per_norm: float = 0.0


@dataclass
class Program:
    edits: list[list[Edit]]  # per SAE
    vectors: list[Vector] = field(default_factory=list)
    replace: int = 0
    preserve: bool = False
    max_norm: float = float("inf")


def make_sae(activation, input_norm="none", d_model=8, d_sae=24, k=4, seed=0, exact=False, dtype=torch.float32):
    """A random SAE; an exact one has few small integers for weights, so dot products are exact and ties are many."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randint(-2, 3, shape, generator=g).float() if exact else torch.randn(*shape, generator=g)

    extra = {
        "relu": {},
        "topk": {"k": k},
        "threshold": {"threshold": randn(d_sae).abs() + 1.0},
        "gated": {"gate_scale": randn(d_sae).abs() + 1.0, "gate_shift": randn(d_sae)},
    }[activation]
    return SAE(
        W_enc=randn(d_sae, d_model).to(dtype),
        W_dec=randn(d_sae, d_model).to(dtype),
        b_enc=randn(d_sae),
        b_dec=randn(d_model),
        activation=activation,
        input_norm=input_norm,
        **extra,
    )


def normalised(x, sae):
    """What the encoder reads, with the std and mean that take the decoder's output back."""
    d = len(x)
    if sae.input_norm == "unit_norm":
        std = max(x.pow(2).sum().sqrt().item(), 1e-12) / d**0.5
        return x / std, std, 0.0
    if sae.input_norm == "layer_norm":
        mean = x.sum() / d
        std = ((x - mean).pow(2).sum() / (d - 1)).sqrt()
        return (x - mean) / (std + sae.norm_eps), std, mean
    return x, 1.0, 0.0


def activations(x, sae):
    """f [d_sae] of x [d_model], both float64."""
    pre = sae.W_enc.double() @ normalised(x, sae)[0] + sae.b_enc.double()
    positive = torch.where(pre > 0, pre, 0.0)
    match sae.activation:
        case "relu":
            return positive
        case "threshold":
            return torch.where(pre > sae.threshold.double(), positive, 0.0)
        case "gated":
            magnitude = sae.gate_scale.double() * pre + sae.gate_shift.double()
            return torch.where((pre > 0) & (magnitude > 0), magnitude, 0.0)
    f = torch.zeros_like(pre)
    for i in sorted(range(len(pre)), key=lambda i: (-positive[i].item(), i))[: sae.k]:
        f[i] = positive[i]
    return f


def reconstruction(f, sae, x):
    _, std, mean = normalised(x, sae)
    return (f @ sae.W_dec.double() + sae.b_dec.double()) * std + mean


def edited(f, edits, norm):
    """f': every edit reads f."""
    new = f.clone()
    for edit in edits:
        if edit.when is not None and not f[edit.when[0]] > edit.when[1]:
            continue
        own, value = f[edit.feature].item(), edit.raw + edit.per_norm * norm
        new[edit.feature] = {
            "read": own,
            "add": own + value,
            "set": value,
            "scale": own * value,
            "min": max(own, value),
            "max": min(own, value),
            "ablate": 0.0,
        }[edit.op]
    return new


def vector_change(x, vector, norm):
    alpha = vector.raw + vector.per_norm * norm
    if vector.mode == "add":
        return alpha * vector.direction.double()
    unit = vector.direction.double() / vector.direction.double().norm()
    along = (x @ unit).item()
    wanted = alpha * along if vector.mode == "orthogonal" else min(along, alpha)
    return (wanted - along) * unit


def steer_token(x, program, saes):
    """x' [d_model] of one token x [d_model], float64."""
    norm = x.norm().item()
    if norm > program.max_norm:
        return x
    out = x
    for index, (sae, edits) in enumerate(zip(saes, program.edits, strict=True)):
        f = activations(x, sae)
        new = edited(f, edits, norm)
        if program.replace == index + 1:  # decode(f') in the place of x, the rest on top
            out = out - x + reconstruction(new, sae, x)
        else:
            out = out + reconstruction(new, sae, x) - reconstruction(f, sae, x)
    for vector in program.vectors:
        out = out + vector_change(x, vector, norm)
    if program.preserve and out.norm() > 0:
        out = out * norm / out.norm()
    return out
