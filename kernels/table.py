"""The programs of one steering site as fixed-size tensors: row 0 does nothing, each other row is one request's program.

Allocated once, rewritten row by row; ops read them by a row index per token. Knows nothing about requests. Columns that are
written and read together lie in one tensor, because a GPU kernel takes few pointers; every column has a name as a view.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from torch import Tensor

READ, ADD, SET, SCALE, MIN, MAX = range(6)  # codes of EditTable.op; READ leaves f as it is
NO_PROJECTION, ORTHOGONAL, CAP = range(3)  # codes of SiteTable.mode
NO_SHIFT, RAW_SHIFT, NORM_SHIFT = range(3)  # Needs.shift: nothing, `shift` alone, `shift_per_norm` as well

# Columns of SiteTable.program; SAE number s has three of its own, from SITE_COLUMNS + SAE_COLUMNS * s.
STEERS, SHIFT, PROJECTIONS, REPLACE, PRESERVE = range(5)
SITE_COLUMNS = 5
NUM_EDITS, ENCODES, TOP = range(3)
SAE_COLUMNS = 3


class Needs(NamedTuple):
    """The most that any row of a batch asks for; what is zero or False is skipped."""

    shift: int
    projections: int
    num_edits: tuple[int, ...]  # per SAE
    gates: tuple[bool, ...]  # per SAE: some edit has a `when`
    replace: tuple[bool, ...]  # per SAE
    top: tuple[int, ...]  # per SAE: how many of the most active features to report
    preserve: bool
    guard: bool

    @property
    def norm(self) -> bool:
        """Whether anything depends on norm(x)."""
        return self.shift == NORM_SHIFT or self.projections > 0 or any(self.num_edits) or self.preserve or self.guard


@dataclass(frozen=True, kw_only=True)
class EditTable:
    """Edits of one SAE's features: `f' = op(f, value + value_per_norm * norm(x))` where `f[gate] > above`.

    S rows, E edits a row; unused entries are READ of feature 0.
    """

    code: Tensor  # [S, E, 3] int32: feature, op, gate
    amount: Tensor  # [S, E, 3] float32: value, value_per_norm, above

    @classmethod
    def allocate(cls, num_rows: int, max_edits: int) -> Self:
        code = torch.zeros(num_rows, max_edits, 3, dtype=torch.int32)
        code[..., 2] = -1
        return cls(code=code, amount=torch.zeros(num_rows, max_edits, 3, dtype=torch.float32))

    @property
    def feature(self) -> Tensor:
        return self.code[..., 0]

    @property
    def op(self) -> Tensor:
        return self.code[..., 1]

    @property
    def gate(self) -> Tensor:
        """-1 = always open."""
        return self.code[..., 2]

    @property
    def value(self) -> Tensor:
        return self.amount[..., 0]

    @property
    def value_per_norm(self) -> Tensor:
        return self.amount[..., 1]

    @property
    def above(self) -> Tensor:
        return self.amount[..., 2]


@dataclass(frozen=True, kw_only=True)
class SiteTable:
    """Everything that happens at one layer: `x' = base + shift + norm(x) * shift_per_norm + projections + edits`.

    base is x, or decode(f) of SAE number `replace - 1` where `replace` is above 0.
    """

    vectors: Tensor  # [S, 2 + P, d] float32: shift, shift_per_norm, then the directions, which have unit length
    scalars: Tensor  # [S, 1 + 3 P] float32: max_norm, then mode, alpha and alpha_per_norm of each projection
    program: Tensor  # [S, SITE_COLUMNS + SAE_COLUMNS * num_saes] int32: what the row asks for, see `declare`
    edits: list[EditTable]  # one per SAE

    @classmethod
    def allocate(cls, num_rows: int, d_model: int, num_saes: int, max_edits: int, max_projections: int) -> Self:
        """Tables of `num_rows` rows that all do nothing."""
        scalars = torch.zeros(num_rows, 1 + 3 * max_projections, dtype=torch.float32)
        scalars[:, 0] = torch.inf
        return cls(
            vectors=torch.zeros(num_rows, 2 + max_projections, d_model, dtype=torch.float32),
            scalars=scalars,
            program=torch.zeros(num_rows, SITE_COLUMNS + SAE_COLUMNS * num_saes, dtype=torch.int32),
            edits=[EditTable.allocate(num_rows, max_edits) for _ in range(num_saes)],
        )

    @property
    def shift(self) -> Tensor:
        """[S, d]: the unconditional additions, merged."""
        return self.vectors[:, 0]

    @property
    def shift_per_norm(self) -> Tensor:
        """[S, d]: the same in units of norm(x)."""
        return self.vectors[:, 1]

    @property
    def direction(self) -> Tensor:
        return self.vectors[:, 2:]

    @property
    def max_norm(self) -> Tensor:
        """[S]: tokens with a larger norm(x) are left alone."""
        return self.scalars[:, 0]

    @property
    def mode(self) -> Tensor:
        return self.scalars[:, 1::3]

    @property
    def alpha(self) -> Tensor:
        return self.scalars[:, 2::3]

    @property
    def alpha_per_norm(self) -> Tensor:
        return self.scalars[:, 3::3]

    @property
    def replace(self) -> Tensor:
        return self.program[:, REPLACE]

    @property
    def preserve(self) -> Tensor:
        """1 where x' is rescaled to norm(x)."""
        return self.program[:, PRESERVE]

    def declare(self, row: int, needs: Needs | None) -> None:
        """Notes what row `row` asks for, which is all that a kernel will look at; None: nothing."""
        self.program[row] = 0 if needs is None else torch.tensor(program_of(needs), dtype=torch.int32)

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


def program_of(needs: Needs) -> list[int]:
    """One row's `needs` as the columns of SiteTable.program."""
    replace = next((index + 1 for index, replaced in enumerate(needs.replace) if replaced), 0)
    columns = [1, needs.shift, needs.projections, replace, int(needs.preserve)]
    for num_edits, replaced, top in zip(needs.num_edits, needs.replace, needs.top, strict=True):
        columns += [num_edits, int(replaced or top > 0), top]
    return columns
