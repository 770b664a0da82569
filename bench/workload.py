"""Random dictionaries and tokens of a realistic scale, on which the reference and the kernels must agree.

Rows of W_enc and W_dec have length 1 and tokens a root mean square of 1, so that pre-activations are standard normal. The
threshold lets k of F features through on average. The 8 features that the programs are about have a bias of 4 on top, so that
they are active at nearly every token and a membership edit needs the encoder there.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tiller.kernels.reference import encode_pre
from tiller.kernels.sae import SAE

from .counts import Shape
from .operations import Operation, named_features

# A feature closer than this to the edge of being active could be on either side of it after float32 sums in another order;
# tokens that have one are drawn again, since both answers would be right.
MARGIN = 1e-4
NAMED_BIAS = 4.0
MAX_BLOCK = 2**26  # pre-activations that are looked at together


class Dictionaries:
    """One random dictionary with both activations: `own` in the dtype that is measured, `full` the same numbers in float32."""

    def __init__(
        self, d_sae: int, d_model: int, k: int, dtype: torch.dtype, device: torch.device, seed: int = 0
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.dtype, self.device = dtype, device
        W_enc, W_dec = (self._randn(d_sae, d_model).div_(d_model**0.5).to(dtype) for _ in range(2))
        b_enc = torch.zeros(d_sae, device=device)
        b_enc[named_features(d_sae)] = NAMED_BIAS
        b_dec = 0.1 * self._randn(d_model)
        least = float(torch.special.ndtri(torch.tensor(1 - k / d_sae, dtype=torch.float64)))
        weights: dict[str, Any] = {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}
        self.own = {
            "topk": SAE(**weights, activation="topk", k=k),
            "threshold": SAE(**weights, activation="threshold", threshold=torch.full_like(b_enc, least)),
        }
        weights |= {"W_enc": W_enc.float(), "W_dec": W_dec.float()}
        self.full = {
            "topk": SAE(**weights, activation="topk", k=k),
            "threshold": SAE(**weights, activation="threshold", threshold=self.own["threshold"].threshold),
        }

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def stream(self, num_tokens: int) -> tuple[Tensor, Tensor]:
        """hidden and residual [T, d]; no feature of a token lies within MARGIN of the edge."""
        found: list[tuple[Tensor, Tensor]] = []
        block = max(1, min(num_tokens, MAX_BLOCK // self.full["topk"].d_sae))
        while sum(len(hidden) for hidden, _ in found) < num_tokens:
            shape = (block, self.full["topk"].d_model)
            hidden, residual = (self._randn(*shape).div_(2**0.5).to(self.dtype) for _ in range(2))
            clear = self._is_clear((hidden + residual).float())
            found.append((hidden[clear], residual[clear]))
        hidden, residual = (torch.cat(parts)[:num_tokens].contiguous() for parts in zip(*found, strict=True))
        return hidden, residual

    def _is_clear(self, x: Tensor) -> Tensor:
        topk, threshold = self.full["topk"], self.full["threshold"]
        assert topk.k is not None and threshold.threshold is not None
        pre = encode_pre(x, topk)
        largest = pre.relu().topk(topk.k + 1, dim=-1).values
        gap = torch.where(largest[:, -2] > 0, largest[:, -2] - largest[:, -1], torch.inf)
        return torch.minimum(gap, (pre - threshold.threshold).abs().amin(-1)) > MARGIN


@dataclass(frozen=True)
class Work:
    """One operation at one shape: everything that a contender is given."""

    operation: Operation
    shape: Shape
    sae: SAE
    full: SAE  # float32
    hidden: Tensor
    residual: Tensor
    max_tokens: int  # that the kernels' buffers are made for, as an engine makes them for its largest batch

    @property
    def x(self) -> Tensor:
        """[T, d] float32 of values of the stream's dtype."""
        return (self.hidden + self.residual).float()
