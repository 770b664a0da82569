"""Who competes in the kernel benchmark: the Triton kernels and four ways to do the same in torch.

Torch works on float32 copies of the same weights, made beforehand, and at torch's default float32 precision (no TF32).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FunctionType

import torch
import torch.nn.functional as F
from torch import Tensor

from tiller.kernels import reference
from tiller.kernels.encode import encode_tile
from tiller.kernels.steerer import Steerer
from tiller.kernels.workspace import Workspace

from .operations import STRENGTH, named_features
from .workload import Work

NAMES = ("tiller", "eager", "compiled", "dense", "topk+gather")  # in the order of tables and legends


class Contender(ABC):
    """`run` is timed; `prepare`, which puts back what the last one changed, is not."""

    graph = True  # False where it looks at values on the host, so that no CUDA graph can hold it
    exact = True  # float32 sums; False: products of values rounded to the weights' dtype
    launches = 1  # of the op in one run

    def __init__(self, work: Work) -> None:
        self.work = work

    def prepare(self) -> None:  # noqa: B027  most change nothing
        pass

    @abstractmethod
    def run(self) -> Tensor:
        """The op, once; what it returns is the stream after it, [T, d], unless the contender works in place (`x`)."""


class Kernels(Contender):
    """The op in Triton, on a workspace of its own.

    A sample of an op without an encoder is as many launches on as many copies of the stream, since one alone is shorter than
    what starting a graph costs.
    """

    def __init__(self, work: Work, copies: int = 8) -> None:
        super().__init__(work)
        self.launches = 1 if work.operation.encodes else copies
        num_tokens, dtype, device = work.shape.tokens, work.hidden.dtype, work.hidden.device
        table, saes = work.operation.table(work.sae), {"default": work.sae}
        max_edits = table.edits[0].code.shape[1]
        self.space = Workspace(saes, 1, work.shape.d_model, work.max_tokens, max_edits, 0, dtype, device)
        self.rows = work.operation.rows(num_tokens, device).int()
        self.streams = [(work.hidden.clone(), work.residual.clone()) for _ in range(self.launches)]
        self.steerer = Steerer(saes, table, self.space)

    def restore(self) -> None:
        for hidden, residual in self.streams:
            hidden.copy_(self.work.hidden)
            residual.copy_(self.work.residual)

    def prepare(self) -> None:
        self.restore()
        self.space.begin(self.rows)

    def run(self) -> Tensor:
        for stream in self.streams:
            self.steerer(*stream)
        return self.streams[0][1]

    @property
    def x(self) -> Tensor:
        hidden, residual = self.streams[0]
        return (hidden + residual).float()


class Eager(Contender):
    """tiller.kernels.reference.steer, the op as plain torch does it."""

    graph = False

    def __init__(self, work: Work, steer: Callable[..., reference.Steered] = reference.steer) -> None:
        super().__init__(work)
        self.steer, self.table = steer, work.operation.table(work.full)
        self.rows = work.operation.rows(work.shape.tokens, work.hidden.device)

    def run(self) -> Tensor:
        work = self.work
        steered = self.steer(work.x, self.rows, self.table, [work.full], work.operation.needs)
        return steered.x.to(work.hidden.dtype)


def compiled_steer() -> Callable[..., reference.Steered]:
    """torch.compile of the reference, for any number of tokens and features; a copy, so that what one operation made dynamo
    give up on doesn't bind another. Breaks of the graph, where the reference looks at values, are left to torch."""
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than time eager torch under this name
    own = reference.steer
    copy = FunctionType(own.__code__.replace(), own.__globals__, own.__name__, own.__defaults__, own.__closure__)
    return torch.compile(copy, dynamic=True)


class Dense(Contender):
    """What the Sotopia toolkit does, x' = decode(f + s e_i): ae(x), whose output it drops, then ae.decode of the edited f.

    Three passes over the dictionary in float32. Operations that keep the error are held against it as what they stand in for.
    """

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        device = work.hidden.device
        rows = (work.operation.rows(work.shape.tokens, device) - 1).clamp(min=0)
        self.feature = torch.tensor(named_features(work.shape.d_sae), device=device)[rows][:, None]

    def run(self) -> Tensor:
        sae = self.work.full
        f = self._encode()
        torch.addmm(sae.b_dec, f, sae.W_dec)
        f.scatter_add_(1, self.feature, f.new_full(self.feature.shape, STRENGTH))
        return torch.addmm(sae.b_dec, f, sae.W_dec).to(self.work.hidden.dtype)

    def _encode(self) -> Tensor:
        sae = self.work.full
        pre = torch.addmm(sae.b_enc, self.work.x, sae.W_enc.T).relu_()
        if sae.threshold is not None:
            return pre.mul_(pre > sae.threshold)
        assert sae.k is not None
        values, ids = pre.topk(sae.k, dim=-1, sorted=False)
        return pre.zero_().scatter_(1, ids, values)


class TopKGather(Contender):
    """TopK replacement from torch's own parts: torch.topk and embedding_bag behind K1, or behind addmm where that can't run."""

    def __init__(self, work: Work, kernels: Kernels | None) -> None:
        super().__init__(work)
        self.kernels, self.exact = kernels, kernels is None
        self.table = work.operation.table(work.sae)
        self.rows = work.operation.rows(work.shape.tokens, work.hidden.device)

    def prepare(self) -> None:
        if self.kernels is not None:
            queue, num_tokens = self.kernels.space.saes["default"].queue, self.work.shape.tokens
            queue[0] = num_tokens
            torch.arange(num_tokens, out=queue[1 : 1 + num_tokens])

    def run(self) -> Tensor:
        x = self.work.hidden + self.work.residual
        if self.kernels is None:
            full = self.work.full
            return self._decode(torch.addmm(full.b_enc, x.float(), full.W_enc.T), full.W_dec, self.rows)
        space, num_tokens = self.kernels.space, len(x)
        encoder, d_sae = self.kernels.steerer.encoders[0], self.work.shape.d_sae
        space.x_queue[:num_tokens].copy_(x)
        parts = []
        for start in range(0, num_tokens, encoder.chunk):
            num = min(encoder.chunk, num_tokens - start)
            encoder.encode(start, num, encode_tile(num, d_sae))
            f = space.f[: num * d_sae].view(num, d_sae)
            parts.append(self._decode(f, self.work.sae.W_dec, self.rows[start : start + num]))
        return torch.cat(parts)

    def _decode(self, f: Tensor, W_dec: Tensor, rows: Tensor) -> Tensor:
        values, ids = f.topk(self.work.shape.k, dim=-1, sorted=False)
        bags = F.embedding_bag(ids, W_dec, per_sample_weights=values.to(W_dec.dtype), mode="sum")
        return (bags + self.work.sae.b_dec + self.table.shift[rows]).to(self.work.hidden.dtype)
