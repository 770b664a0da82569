"""A sparse autoencoder (SAE) in the one form that every op reads; knows nothing about files or engines."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

ActivationKind = Literal["relu", "topk", "threshold", "gated"]
InputNorm = Literal["none", "layer_norm", "unit_norm"]


@dataclass(frozen=True, kw_only=True)
class SAE:
    """`pre = scale * (x - mean) @ W_enc.T + b_enc`, `f = activation(pre)`, `decode(f) = f @ W_dec + b_dec`.

    `scale` and `mean` are 1 and 0 unless the dictionary normalises its input (`input_norm`); the decoder's output then
    goes back through the inverse, `std * decode(f) + mean` with `scale = 1 / (std + norm_eps)`.

    activation:
        relu       f = relu(pre)
        threshold  f = relu(pre) * (pre > threshold)               (JumpReLU, BatchTopK at inference)
        gated      f = relu(gate_scale * pre + gate_shift) * (pre > 0)
        topk       the k largest of relu(pre) in each row; ties go to the lower feature index
    """

    W_enc: Tensor  # [d_sae, d_model]
    W_dec: Tensor  # [d_sae, d_model]
    b_enc: Tensor  # [d_sae] float32, with `- W_enc @ b_dec` folded in where the format centres its input
    b_dec: Tensor  # [d_model] float32
    activation: ActivationKind
    k: int | None = None  # topk only
    threshold: Tensor | None = None  # [d_sae] float32, threshold only
    gate_scale: Tensor | None = None  # [d_sae] float32, gated only
    gate_shift: Tensor | None = None  # [d_sae] float32, gated only
    input_norm: InputNorm = "none"  # layer_norm: (x - mean) / (std + eps); unit_norm: x * sqrt(d_model) / norm(x)
    norm_eps: float = 1e-5
    max_act: Tensor | None = None  # [d_sae] float32, the largest activation seen at calibration

    def __post_init__(self) -> None:
        d_sae, d_model = self.W_enc.shape
        assert self.W_dec.shape == (d_sae, d_model), (self.W_dec.shape, self.W_enc.shape)
        assert self.b_enc.shape == (d_sae,) and self.b_enc.dtype == torch.float32
        assert self.b_dec.shape == (d_model,) and self.b_dec.dtype == torch.float32
        assert (self.k is not None) == (self.activation == "topk")
        assert (self.threshold is not None) == (self.activation == "threshold")
        assert (self.gate_scale is not None) == (self.gate_shift is not None) == (self.activation == "gated")
        assert self.k is None or 0 < self.k <= d_sae

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[1]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """The same dictionary on `device`; `dtype` applies to W_enc and W_dec alone, everything else stays float32."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, dtype if field.name in ("W_enc", "W_dec") else None).contiguous()
        return replace(self, **moved)
