"""Runs the Triton kernels, and beside them the reference, on the same stream."""

from typing import NamedTuple

import torch
from torch import Tensor

from tiller.kernels.sae import SAE
from tiller.kernels.steerer import Steerer
from tiller.kernels.table import SiteTable
from tiller.kernels.workspace import MAX_SCRATCH, Workspace

from .programs import write

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Outcome(NamedTuple):
    hidden: Tensor
    residual: Tensor | None
    delta: Tensor
    steerer: Steerer

    @property
    def x(self):
        """The stream after the op, in float32."""
        x = self.hidden if self.residual is None else self.hidden + self.residual
        return x.float().cpu()

    def named(self, sae=0):
        """[n, E, 2]: before and after."""
        return self.steerer.encoders[sae].buffers.named[: len(self.hidden)].cpu()

    def top(self, num, sae=0):
        """The most active features per token as (value, id), best first, zeros left out."""
        buffers = self.steerer.encoders[sae].buffers
        values, ids = buffers.values[: len(self.hidden)].cpu(), buffers.ids[: len(self.hidden)].cpu()
        order = values.sort(dim=1, descending=True, stable=True).indices[:, :num]
        rows = zip(values.gather(1, order).tolist(), ids.gather(1, order).tolist(), strict=True)
        return [[(v, i) for v, i in zip(*row, strict=True) if v > 0] for row in rows]

    @property
    def bits(self):
        """Everything that came out, as integers: equal bits or not equal."""
        tensors = [self.hidden, self.delta] if self.residual is None else [self.hidden, self.residual, self.delta]
        return [t.cpu().view(torch.int32 if t.itemsize == 4 else torch.int16) for t in tensors]


def table_of(programs, num_saes, d_model, max_edits=4, max_projections=2):
    """Programs in rows 1, 2, ...; on the device of the tests."""
    table = SiteTable.allocate(len(programs) + 1, d_model, num_saes, max_edits, max_projections)
    for row, program in enumerate(programs, start=1):
        write(table, row, program)
    return table.with_tensors({name: tensor.to(DEVICE) for name, tensor in table.tensors().items()})


def kernels(
    x, rows, programs, saes, *, pair=None, max_top=0, scratch=MAX_SCRATCH, max_tokens=None, poison=False, ask=()
):
    """The op on the stream x [n, d] (+ `pair`), token t under programs[rows[t] - 1]; row 0 does nothing.

    `ask` gives (row, sae, number) of most active features to find.
    """
    saes = [sae.to(DEVICE, x.dtype if DEVICE.type == "cuda" else None) for sae in saes]
    table = table_of(programs, len(saes), x.shape[1])
    for row, sae, num in ask:
        request_top(table, row, sae, num)
    named = {f"sae{index}": sae for index, sae in enumerate(saes)}
    space = Workspace(named, 1, x.shape[1], max_tokens or len(x), 4, max_top, x.dtype, DEVICE, scratch)
    if poison:
        poison_workspace(space)
    space.begin(torch.as_tensor(rows, dtype=torch.int32, device=DEVICE))
    hidden = x.clone().to(DEVICE)
    residual = None if pair is None else pair.clone().to(DEVICE)
    steerer = Steerer(named, table, space)
    steerer(hidden, residual)
    return Outcome(hidden, residual, space.delta[0, : len(x)], steerer)


def request_top(table, row, sae, num):
    """Makes row `row` read the `num` most active features of SAE number `sae`."""
    from tiller.kernels.table import ENCODES, SAE_COLUMNS, SITE_COLUMNS, TOP

    table.program[row, SITE_COLUMNS + SAE_COLUMNS * sae + ENCODES] = 1
    table.program[row, SITE_COLUMNS + SAE_COLUMNS * sae + TOP] = num


def poison_workspace(space):
    """What a larger batch may have left behind: NaN, and integers that point nowhere."""
    for buffer in (space.delta, space.f, space.group_max, space.x_queue, space.total):
        buffer.fill_(torch.nan)
    for buffer in (space.rows, space.queues, space.groups):
        buffer.fill_(torch.iinfo(torch.int32).max)
    for own in space.saes.values():
        for buffer in (own.named, own.values, own.moments):
            buffer.fill_(torch.nan)
        own.ids.fill_(torch.iinfo(torch.int32).max)


def exact_sae(activation, d_sae, d_model, k=4, seed=0):
    """Few small integers for weights: every sum in the op is exact in float32, and ties are many."""
    g = torch.Generator().manual_seed(seed)

    def integers(*shape):
        return torch.randint(-2, 3, shape, generator=g, dtype=torch.int8).float()

    extra = {
        "relu": {},
        "topk": {"k": k},
        "threshold": {"threshold": integers(d_sae).abs() * d_model**0.5 * 3},
        "gated": {"gate_scale": integers(d_sae).abs() + 1.0, "gate_shift": integers(d_sae)},
    }[activation]
    b_enc = integers(d_sae) - (2 * d_model**0.5).__round__()
    return SAE(
        W_enc=integers(d_sae, d_model),
        W_dec=integers(d_sae, d_model),
        b_enc=b_enc,
        b_dec=integers(d_model),
        activation=activation,
        **extra,
    )


def exact_tokens(num, d_model, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(-1, 2, (num, d_model), generator=g).to(dtype)
