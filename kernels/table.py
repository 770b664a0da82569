"""The programs of one steering site as fixed-size tensors: row 0 does nothing, each other row is one request's program.

Allocated once, rewritten row by row; ops read them by a row index per token. Knows nothing about requests.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from torch import Tensor

READ, ADD, SET, SCALE, MIN, MAX = range(6)  # codes of EditTable.op; READ leaves f as it is
NO_PROJECTION, ORTHOGONAL, CAP = range(3)  # codes of SiteTable.mode


class Needs(NamedTuple):
    """The most that any row of a batch asks for; what is zero or False is skipped."""

    norm_shift: bool
    projections: int
    num_edits: tuple[int, ...]  # per SAE
    gates: tuple[bool, ...]  # per SAE: some edit has a `when`
    replace: tuple[bool, ...]  # per SAE
    top: tuple[int, ...]  # per SAE: how many of the most active features to report
    preserve: bool
    guard: bool


@dataclass(frozen=True, kw_only=True)
class EditTable:
    """Edits of one SAE's features: `f' = op(f, value + value_per_norm * norm(x))` where `f[gate] > above`.

    S rows, E edits a row; unused entries are READ of feature 0.
    """

    feature: Tensor  # [S, E] int64
    op: Tensor  # [S, E] int32
    value: Tensor  # [S, E] float32
    value_per_norm: Tensor  # [S, E] float32
    gate: Tensor  # [S, E] int64, -1 = always open
    above: Tensor  # [S, E] float32

    @classmethod
    def allocate(cls, num_rows: int, max_edits: int) -> Self:
        shape = (num_rows, max_edits)
        return cls(
            feature=torch.zeros(shape, dtype=torch.int64),
            op=torch.zeros(shape, dtype=torch.int32),
            value=torch.zeros(shape, dtype=torch.float32),
            value_per_norm=torch.zeros(shape, dtype=torch.float32),
            gate=torch.full(shape, -1, dtype=torch.int64),
            above=torch.zeros(shape, dtype=torch.float32),
        )


@dataclass(frozen=True, kw_only=True)
class SiteTable:
    """Everything that happens at one layer: `x' = base + shift + norm(x) * shift_per_norm + projections + edits`.

    base is x, or decode(f) of SAE number `replace - 1` where `replace` is above 0.
    """

    shift: Tensor  # [S, d] float32: the unconditional additions, merged
    shift_per_norm: Tensor  # [S, d] float32: the same in units of norm(x)
    direction: Tensor  # [S, P, d] float32, unit length
    mode: Tensor  # [S, P] int32
    alpha: Tensor  # [S, P] float32
    alpha_per_norm: Tensor  # [S, P] float32
    replace: Tensor  # [S] int32
    preserve: Tensor  # [S] bool: rescale x' to norm(x)
    max_norm: Tensor  # [S] float32: tokens with a larger norm(x) are left alone
    edits: list[EditTable]  # one per SAE

    @classmethod
    def allocate(cls, num_rows: int, d_model: int, num_saes: int, max_edits: int, max_projections: int) -> Self:
        """Tables of `num_rows` rows that all do nothing."""
        pairs = (num_rows, max_projections)
        return cls(
            shift=torch.zeros(num_rows, d_model, dtype=torch.float32),
            shift_per_norm=torch.zeros(num_rows, d_model, dtype=torch.float32),
            direction=torch.zeros(*pairs, d_model, dtype=torch.float32),
            mode=torch.zeros(pairs, dtype=torch.int32),
            alpha=torch.zeros(pairs, dtype=torch.float32),
            alpha_per_norm=torch.zeros(pairs, dtype=torch.float32),
            replace=torch.zeros(num_rows, dtype=torch.int32),
            preserve=torch.zeros(num_rows, dtype=torch.bool),
            max_norm=torch.full((num_rows,), torch.inf, dtype=torch.float32),
            edits=[EditTable.allocate(num_rows, max_edits) for _ in range(num_saes)],
        )

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, so that an owner can register them as buffers."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "edits"}
        for index, table in enumerate(self.edits):
            own |= {f"edits_{index}_{f.name}": getattr(table, f.name) for f in fields(table)}
        return own

    def with_tensors(self, tensors: dict[str, Tensor]) -> "SiteTable":
        """The same table over other storage, as `tensors()` named it."""
        edits = [
            EditTable(**{f.name: tensors[f"edits_{index}_{f.name}"] for f in fields(EditTable)})
            for index in range(len(self.edits))
        ]
        own = {f.name: tensors[f.name] for f in fields(self) if f.name != "edits"}
        return SiteTable(**own, edits=edits)
