"""One steering site: the resid_post of one layer, with its SAEs, its tables and what the last step did there."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tiller.kernels.reference import steer
from tiller.kernels.sae import SAE
from tiller.kernels.table import Needs, SiteTable

from .program import SiteProgram

HALF_LIMIT = torch.finfo(torch.float16).max / 2


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


class Site(nn.Module):
    """Holds one layer's dictionaries and programs; `steer_` edits the residual stream in place.

    Row `needs[r]` on the host mirrors row r of the device tables, so that a step computes only what its rows ask for.
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
        self.batch: Batch | None = None
        self.live = self._empty.needs
        self.report: SiteReport | None = None
        self.capture = False
        self.captured: Tensor | None = None

    def write_row(self, row: int, program: SiteProgram | None) -> None:
        """Gives table row `row` a program; None means it does nothing here."""
        (program or self._empty).write(self.table, row)
        self.needs[row] = program.needs if program else None
        self.table.declare(row, self.needs[row])

    def begin(self, batch: Batch | None, rows: list[int]) -> None:
        """Sets what the next forward does; `rows` are the distinct table rows in `batch`."""
        needs = [needs for row in rows if (needs := self.needs[row]) is not None]
        self.batch = batch if needs else None
        self.live = _most(needs) if needs else self._empty.needs
        self.report = None

    def steer_(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Edits the steered rows of the stream hidden (+ residual), each [num_tokens, d_model], in place.

        With a pair, x = hidden + residual in the model's dtype is what vLLM's next fused add-and-norm reads; a steered row
        becomes residual = x', hidden = 0, so that this sum is x' exactly. Rows whose x' equals x are not written, because
        the norm reads the unrounded sum and a rewritten row could differ from it in the last bit.
        """
        if self.capture:
            self.captured = (hidden if residual is None else hidden + residual).detach().clone()
        if self.batch is None:
            return
        tokens, rows, whole = self.batch
        branch = hidden if whole else hidden[tokens]
        x = branch if residual is None else branch + (residual if whole else residual[tokens])
        steered = steer(x.float(), rows, self.table, self.saes, self.live)
        self.report = SiteReport(*steered[1:])
        _write(hidden, residual, tokens, _cast(steered.x, x.dtype), x)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Saturates where float16 would round to inf, with room for what later layers add."""
    return x.clamp(-HALF_LIMIT, HALF_LIMIT).to(dtype) if dtype == torch.float16 else x.to(dtype)


def _write(hidden: Tensor, residual: Tensor | None, tokens: Tensor, new: Tensor, x: Tensor) -> None:
    changed = (new != x).any(-1)
    if not bool(changed.all()):
        tokens, new = tokens[changed], new[changed]
    if residual is None:
        hidden.index_copy_(0, tokens, new)
    else:
        residual.index_copy_(0, tokens, new)
        hidden.index_fill_(0, tokens, 0)


def _most(needs: list[Needs]) -> Needs:
    """The least Needs that covers all of `needs`."""
    distinct = list(dict.fromkeys(needs))
    if len(distinct) == 1:
        return distinct[0]
    columns = zip(*distinct, strict=True)
    return Needs(*(tuple(map(max, zip(*c, strict=True))) if isinstance(c[0], tuple) else max(c) for c in columns))
