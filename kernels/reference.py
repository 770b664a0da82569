"""The steering mathematics in plain torch, float32 inside: the CPU path, the oracle of the tests and the baseline of
the benchmarks. Knows nothing about requests, layers or vLLM.

Shapes: n tokens, d = d_model, F = d_sae, E = edits per row, P = projections per row.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .limits import MAX_COEFFICIENT, MAX_RESIDUAL, MIN_NORM
from .sae import SAE
from .table import ADD, CAP, MAX, MIN, NORM_SHIFT, ORTHOGONAL, SCALE, SET, EditTable, Needs, SiteTable


class Affine(NamedTuple):
    """Per-token input normalisation: the encoder reads `scale * (x - mean)`, the decoded means `std * out + mean`."""

    scale: Tensor  # [n, 1]
    mean: Tensor  # [n, 1]
    std: Tensor  # [n, 1], the inverse of scale up to norm_eps


class Steered(NamedTuple):
    """What one call did, aligned with its input rows."""

    x: Tensor  # [n, d] float32, the steered residual
    delta_norm: Tensor  # [n] norm(x' - x); inf where x is not finite
    before: list[Tensor]  # per SAE [n, E]: activation of each listed feature before the edits
    after: list[Tensor]  # per SAE [n, E]: and after
    top: list[tuple[Tensor, Tensor] | None]  # per SAE: values and ids [n, R] of the most active features


def input_affine(x: Tensor, sae: SAE) -> Affine | None:
    """The normalisation that `sae` was trained behind; None where it reads x as it is."""
    if sae.input_norm == "none":
        return None
    if sae.input_norm == "unit_norm":
        norm = x.norm(dim=-1, keepdim=True).clamp(min=MIN_NORM)
        return Affine(x.shape[-1] ** 0.5 / norm, torch.zeros_like(norm), norm / x.shape[-1] ** 0.5)
    std, mean = torch.std_mean(x, dim=-1, keepdim=True)
    return Affine(1.0 / (std + sae.norm_eps), mean, std)


def encode_pre(x: Tensor, sae: SAE) -> Tensor:
    """Pre-activations [n, F] float32 of x [n, d]."""
    affine = input_affine(x, sae)
    if affine is not None:
        x = affine.scale * (x - affine.mean)
    return torch.addmm(sae.b_enc, x, sae.W_enc.float().T)


def select_topk(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and ids [n, k] of the k largest of relu(pre), in the order of a stable descending sort: ties by lower id.

    An entry of value 0 stands for no feature; its id means nothing.
    """
    positive = pre.relu()
    values, ids = positive.topk(k, dim=-1)
    least = values[:, -1:]
    left_out = (positive == least).sum(-1) > (values == least).sum(-1)
    repeated = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > 0)).any(-1)
    rows = (repeated | (left_out & (least[:, 0] > 0))).nonzero()[:, 0]
    if len(rows):
        order = positive[rows].sort(dim=-1, descending=True, stable=True)
        values[rows], ids[rows] = order.values[:, :k], order.indices[:, :k]
    return values, ids


def activate(pre: Tensor, sae: SAE, ids: Tensor | None = None) -> Tensor:
    """f of an elementwise activation; `ids`, of pre's shape, says which feature each entry is, None: all in order."""

    def of(parameter: Tensor | None) -> Tensor:
        assert parameter is not None
        return parameter if ids is None else parameter[ids]

    match sae.activation:
        case "relu":
            return pre.relu()
        case "threshold":
            return torch.where(pre > of(sae.threshold), pre.relu(), 0.0)
        case "gated":
            return torch.where(pre > 0, (of(sae.gate_scale) * pre + of(sae.gate_shift)).relu(), 0.0)
    raise AssertionError("TopK is not elementwise: use select_topk")


def encode(x: Tensor, sae: SAE) -> Tensor:
    """Activations [n, F] float32 of x [n, d] over the whole dictionary."""
    pre = encode_pre(x, sae)
    if sae.activation != "topk":
        return activate(pre, sae)
    assert sae.k is not None
    values, ids = select_topk(pre, sae.k)
    return torch.zeros_like(pre).scatter_(1, ids, values)


def decode(f: Tensor, sae: SAE, x: Tensor) -> Tensor:
    """Reconstruction [n, d] float32 of dense activations f [n, F]; x is read only to undo an input normalisation."""
    return _undo(f @ sae.W_dec.float() + sae.b_dec, input_affine(x, sae))


def steer(x: Tensor, rows: Tensor, table: SiteTable, saes: list[SAE], needs: Needs) -> Steered:
    """x' of DESIGN's semantics for tokens x [n, d] float32, token t under the program in row `rows[t]` of `table`.

    `needs` bounds what the rows in this batch ask for, so that parts nobody needs are never computed.
    """
    norm = x.norm(dim=-1, keepdim=True) if needs.norm else x.new_empty(len(x), 1)  # that nobody reads
    base, delta = x, _shift(norm, rows, table, needs)
    if needs.projections:
        delta = delta + _project(x, norm, rows, table, needs)
    before, after, top = [], [], []
    for index, (sae, edits) in enumerate(zip(saes, table.edits, strict=True)):
        code = _Code(x, sae, full=needs.replace[index] or needs.top[index] > 0)
        f, new = _edit(code, norm, rows, edits, needs.num_edits[index], needs.gates[index])
        if f.shape[1]:
            delta = delta + _combine(new - f, edits.feature[rows, : f.shape[1]].long(), code)
        if needs.replace[index]:
            chosen = (table.replace[rows] == index + 1)[:, None]
            base = torch.where(chosen, code.reconstruct(), base)
        before.append(f)
        after.append(new)
        top.append(code.top(needs.top[index]) if needs.top[index] else None)
    out = (base + delta).clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
    if needs.preserve:
        out = torch.where(table.preserve[rows][:, None] > 0, _with_norm(out, norm), out)
    if needs.guard:
        out = torch.where(norm <= table.max_norm[rows][:, None], out, x)
    delta_norm = (out - x).norm(dim=-1).nan_to_num(nan=torch.inf)
    return Steered(out, delta_norm, before, after, top)


class _Code:
    """The activations of one batch under one SAE, computed no further than somebody asks."""

    def __init__(self, x: Tensor, sae: SAE, full: bool) -> None:
        self.x, self.sae = x, sae
        self.affine = input_affine(x, sae)
        self.pre = encode_pre(x, sae) if full else None
        self.selected = select_topk(self.pre, sae.k) if full and sae.k is not None else None  # type: ignore[arg-type]

    def named(self, ids: Tensor) -> Tensor:
        """f [n, E] of the features ids [n, E]."""
        pre = self._named_pre(ids) if self.pre is None else self.pre.gather(1, ids)
        if self.sae.activation != "topk":
            return activate(pre, self.sae, ids)
        return self._members(pre, ids)

    def _named_pre(self, ids: Tensor) -> Tensor:
        z = self.x if self.affine is None else self.affine.scale * (self.x - self.affine.mean)
        return torch.einsum("nd,ned->ne", z, self.sae.W_enc[ids].float()) + self.sae.b_enc[ids]

    def _members(self, pre: Tensor, ids: Tensor) -> Tensor:
        """Under TopK a feature is active iff it is positive and selected; no positive one, no need to encode."""
        if self.selected is None:
            rows = (pre > 0).any(-1).nonzero()[:, 0]
            f = torch.zeros_like(pre)
            if len(rows):
                f[rows] = _Code(self.x[rows], self.sae, full=True).named(ids[rows])
            return f
        values, chosen = self.selected
        match = ids[:, :, None] == chosen[:, None, :]
        return torch.where(match, values[:, None, :], 0.0).sum(-1)

    def reconstruct(self) -> Tensor:
        """decode(f) [n, d]."""
        assert self.pre is not None
        if self.selected is not None:
            values, ids = self.selected
            bags = F.embedding_bag(ids, self.sae.W_dec.float(), per_sample_weights=values, mode="sum")
        else:
            bags = _sparse_matmul(activate(self.pre, self.sae), self.sae.W_dec)
        return _undo(bags + self.sae.b_dec, self.affine)

    def top(self, num: int) -> tuple[Tensor, Tensor]:
        if self.selected is not None and num <= self.selected[0].shape[1]:
            return self.selected[0][:, :num], self.selected[1][:, :num]
        assert self.pre is not None
        f = encode(self.x, self.sae) if self.selected is not None else activate(self.pre, self.sae)
        return select_topk(f, min(num, self.sae.d_sae))


def _shift(norm: Tensor, rows: Tensor, table: SiteTable, needs: Needs) -> Tensor:
    delta = table.shift[rows]
    if needs.shift == NORM_SHIFT:
        delta = delta + norm * table.shift_per_norm[rows]
    return delta


def _project(x: Tensor, norm: Tensor, rows: Tensor, table: SiteTable, needs: Needs) -> Tensor:
    """Orthogonal: (I - P) x + alpha P x. Cap: the projection is at most alpha. Both on unit directions."""
    direction = table.direction[rows, : needs.projections]  # [n, P, d]
    along = torch.einsum("nd,npd->np", x, direction)
    alpha = table.alpha[rows, : needs.projections] + norm * table.alpha_per_norm[rows, : needs.projections]
    mode = table.mode[rows, : needs.projections]
    wanted = torch.where(mode == ORTHOGONAL, alpha * along, along)
    wanted = torch.where(mode == CAP, torch.minimum(along, alpha), wanted)
    change = (wanted - along).clamp(-MAX_COEFFICIENT, MAX_COEFFICIENT)
    return torch.einsum("np,npd->nd", change, direction)


def _edit(code: _Code, norm: Tensor, rows: Tensor, edits: EditTable, num: int, gates: bool) -> tuple[Tensor, Tensor]:
    """f and f' [n, num] of the features listed in the rows; every edit reads f, so their order means nothing."""
    if num == 0:
        empty = norm.new_zeros(len(rows), 0)
        return empty, empty
    op, gate = edits.op[rows, :num], edits.gate[rows, :num]
    value = edits.value[rows, :num] + norm * edits.value_per_norm[rows, :num]
    f = code.named(edits.feature[rows, :num].long())
    new = torch.where(op == ADD, f + value, f)
    new = torch.where(op == SET, value, new)
    new = torch.where(op == SCALE, f * value, new)
    new = torch.where(op == MIN, torch.maximum(f, value), new)
    new = torch.where(op == MAX, torch.minimum(f, value), new)
    if gates:
        above = code.named(gate.clamp(min=0).long()) > edits.above[rows, :num]
        new = torch.where((gate < 0) | above, new, f)
    return f, torch.where(new == f, f, new.clamp(-MAX_COEFFICIENT, MAX_COEFFICIENT))


def _combine(change: Tensor, ids: Tensor, code: _Code) -> Tensor:
    """sum_i change_i W_dec[i], scaled back where the SAE normalises its input; [n, d]."""
    total = torch.einsum("ne,ned->nd", change, code.sae.W_dec[ids].float())
    return total if code.affine is None else total * code.affine.std


def _sparse_matmul(f: Tensor, W_dec: Tensor) -> Tensor:
    """f @ W_dec reading only the rows of active features."""
    active = f.nonzero()
    offsets = torch.searchsorted(active[:, 0].contiguous(), torch.arange(len(f), device=f.device))
    weights = f[active[:, 0], active[:, 1]]
    return F.embedding_bag(active[:, 1], W_dec.float(), offsets, per_sample_weights=weights, mode="sum")


def _undo(out: Tensor, affine: Affine | None) -> Tensor:
    return out if affine is None else out * affine.std + affine.mean


def _with_norm(x: Tensor, norm: Tensor) -> Tensor:
    own = x.norm(dim=-1, keepdim=True)
    return torch.where(own > 0, x * (norm / own), x)
