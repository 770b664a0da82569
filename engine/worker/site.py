"""One steering site: the resid_post of one layer, with its SAEs, its tables and what the last step did there."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tiller.kernels.limits import MAX_HALF
from tiller.kernels.reference import steer
from tiller.kernels.sae import SAE
from tiller.kernels.steerer import Steerer
from tiller.kernels.table import Needs, SiteTable
from tiller.kernels.workspace import Workspace

from .program import SiteProgram


class Batch(NamedTuple):
    """The tokens of one step that are steered; shared by all sites."""

    tokens: Tensor  # [n] int64, indices into the step's tokens
    rows: Tensor  # [n] int64, table rows
    whole: bool  # every token of the step is steered


class SiteReport(NamedTuple):
    """What one site did in one step, per steered token."""

    delta_norm: Tensor  # [n]
    before: list[Tensor]  # per SAE [n, E]
    after: list[Tensor]  # per SAE [n, E]
    top: list[tuple[Tensor, Tensor] | None]  # per SAE, values and ids [n, R]


@dataclass(slots=True)
class Step:
    """What the step under way does at a site; apart from the module, whose attributes are slow to set."""

    live: Needs  # the most that its rows ask for
    batch: Batch | None = None
    report: SiteReport | None = None


class Site(nn.Module):
    """Holds one layer's dictionaries and programs; `steer_` edits the residual stream in place.

    Row `needs[r]` on the host mirrors row r of the device tables. The reference computes only what a step's rows ask
    for; the kernels (`use_kernels`) find that out by themselves, and then `step.live` says which columns they have filled.
    """

    def __init__(self, layer: int, saes: dict[str, SAE], num_rows: int, d_model: int, limits: tuple[int, int]) -> None:
        super().__init__()
        max_edits, max_projections = limits
        self.layer = layer
        self.sae_names = list(saes)
        self.saes = list(saes.values())
        table = SiteTable.allocate(num_rows, d_model, len(saes), max_edits, max_projections)
        for name, tensor in table.tensors().items():
            self.register_buffer(name, tensor, persistent=False)
        self.table = table
        self._empty = SiteProgram(edits=[[] for _ in saes], top=[0 for _ in saes])
        self.needs: list[Needs | None] = [None] * num_rows
        self.steerer: Steerer | None = None
        self.idle_needs = self._empty.needs
        self.step = Step(live=self.idle_needs)
        self.capture = False
        self.captured: Tensor | None = None

    def use_kernels(self, workspace: Workspace, index: int) -> None:
        """From now on Triton steers; `index` is this site's row of `workspace.delta`."""
        self.steerer = Steerer(dict(zip(self.sae_names, self.saes, strict=True)), self.table, workspace, index)

    def settle_tiles(self) -> None:
        """See `Encoder.settle_tile`."""
        assert self.steerer is not None
        for encoder in self.steerer.encoders:
            encoder.settle_tile()

    def write_row(self, row: int, program: SiteProgram | None) -> None:
        """Gives table row `row` a program; None means it does nothing here."""
        (program or self._empty).write(self.table, row)
        self.needs[row] = program.needs if program else None
        self.table.declare(row, self.needs[row])

    def begin(self, batch: Batch | None, rows: set[int]) -> None:
        """Sets what the next forward does; `rows` are the distinct table rows in it."""
        needs = {needs for row in rows if (needs := self.needs[row]) is not None}
        step = self.step
        step.batch = batch if needs else None
        step.live = _most(needs) if needs else self.idle_needs
        step.report = None

    def steer_(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Edits the steered tokens of the stream hidden (+ residual), each [num_tokens, d_model], in place.

        With a pair, x = hidden + residual in the model's dtype is what vLLM's next fused add-and-norm reads; a steered token
        becomes residual = x', hidden = 0, so that this sum is x' exactly. Tokens whose x' equals x are not written, because
        the norm reads the unrounded sum and a rewritten token could differ from it in the last bit.
        """
        if self.capture:
            self.captured = (hidden if residual is None else hidden + residual).detach().clone()
        if self.steerer is not None:
            self.steerer(hidden, residual)
        elif self.step.batch is not None:
            self._steer_batch(self.step.batch, hidden, residual)

    def _steer_batch(self, batch: Batch, hidden: Tensor, residual: Tensor | None) -> None:
        tokens, rows, whole = batch
        branch = hidden if whole else hidden[tokens]
        x = branch if residual is None else branch + (residual if whole else residual[tokens])
        steered = steer(x.float(), rows, self.table, self.saes, self.step.live)
        self.step.report = SiteReport(*steered[1:])
        _write(hidden, residual, tokens, _cast(steered.x, x.dtype), x)

    def kernel_columns(self, num_tokens: int) -> dict[str, Tensor]:
        """What the kernels did to the first `num_tokens` tokens, as columns of the log; views of buffers that change."""
        assert self.steerer is not None
        live = self.step.live
        columns = {f"{self.layer}.delta": self.steerer.delta[:num_tokens]}
        for index, encoder in enumerate(self.steerer.encoders):
            named = encoder.buffers.named[:num_tokens, : live.num_edits[index]]
            if named.shape[1]:
                columns[f"{self.layer}.{index}.before"] = named[..., 0]
                columns[f"{self.layer}.{index}.after"] = named[..., 1]
            if num := live.top[index]:
                values = encoder.buffers.values[:num_tokens]
                order = values.sort(dim=1, descending=True, stable=True).indices[:, :num]
                columns[f"{self.layer}.{index}.top_values"] = values.gather(1, order)
                columns[f"{self.layer}.{index}.top_ids"] = encoder.buffers.ids[:num_tokens].gather(1, order)
        return columns


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Saturates where float16 would round to inf."""
    return x.clamp(-MAX_HALF, MAX_HALF).to(dtype) if dtype == torch.float16 else x.to(dtype)


def _write(hidden: Tensor, residual: Tensor | None, tokens: Tensor, new: Tensor, x: Tensor) -> None:
    changed = (new != x).any(-1)
    if not bool(changed.all()):
        tokens, new = tokens[changed], new[changed]
    if residual is None:
        hidden.index_copy_(0, tokens, new)
    else:
        residual.index_copy_(0, tokens, new)
        hidden.index_fill_(0, tokens, 0)


def _most(distinct: Collection[Needs]) -> Needs:
    """The least Needs that covers all of `distinct`."""
    if len(distinct) == 1:
        return next(iter(distinct))
    columns = zip(*distinct, strict=True)
    return Needs._make(tuple(map(max, zip(*c, strict=True))) if isinstance(c[0], tuple) else max(c) for c in columns)
