"""Programs of the formulas as table rows, and a call of the reference op on them."""

import torch

from tiller.kernels import table as codes
from tiller.kernels.reference import steer
from tiller.kernels.table import Needs, SiteTable

from ..formulas import Program, steer_token  # noqa: TID252

D_MODEL, D_SAE, MAX_EDITS, MAX_PROJECTIONS = 8, 24, 4, 2
OPS = {
    "read": codes.READ,
    "add": codes.ADD,
    "set": codes.SET,
    "scale": codes.SCALE,
    "min": codes.MIN,
    "max": codes.MAX,
    "ablate": codes.SET,
}
INEXACT = {"atol": 2e-4, "rtol": 2e-5}


def write(table, row, program):
    """`program` into a table row, field by field."""
    for vector in (v for v in program.vectors if v.mode == "add"):
        table.shift[row] += vector.raw * vector.direction
        table.shift_per_norm[row] += vector.per_norm * vector.direction
    for index, vector in enumerate(v for v in program.vectors if v.mode != "add"):
        table.direction[row, index] = vector.direction / vector.direction.norm()
        table.mode[row, index] = codes.ORTHOGONAL if vector.mode == "orthogonal" else codes.CAP
        table.alpha[row, index], table.alpha_per_norm[row, index] = vector.raw, vector.per_norm
    for columns, edits in zip(table.edits, program.edits, strict=True):
        for index, edit in enumerate(edits):
            columns.feature[row, index], columns.op[row, index] = edit.feature, OPS[edit.op]
            amount = (0.0, 0.0) if edit.op == "ablate" else (edit.raw, edit.per_norm)
            columns.value[row, index], columns.value_per_norm[row, index] = amount
            columns.gate[row, index], columns.above[row, index] = edit.when or (-1, 0.0)
    table.max_norm[row] = program.max_norm
    table.declare(row, needs_of([program], len(program.edits)))


def needs_of(programs, num_saes):
    return Needs(
        shift=max((1 + bool(v.per_norm) for p in programs for v in p.vectors if v.mode == "add"), default=0),
        projections=max(sum(v.mode != "add" for v in p.vectors) for p in programs),
        num_edits=tuple(max(len(p.edits[i]) for p in programs) for i in range(num_saes)),
        gates=tuple(any(e.when for p in programs for e in p.edits[i]) for i in range(num_saes)),
        replace=tuple(any(p.replace == i + 1 for p in programs) for i in range(num_saes)),
        top=(0,) * num_saes,
        preserve=any(p.preserve for p in programs),
        guard=any(p.max_norm < torch.inf for p in programs),
    )


def all_needs(num_saes):
    every = (True,) * num_saes
    return Needs(codes.NORM_SHIFT, MAX_PROJECTIONS, (MAX_EDITS,) * num_saes, every, every, (3,) * num_saes, True, True)


def run(x, rows, programs, saes, needs=None):
    """steer() with programs in rows 1, 2, ...; row 0 does nothing."""
    table = SiteTable.allocate(len(programs) + 1, x.shape[1], len(saes), MAX_EDITS, MAX_PROJECTIONS)
    for row, program in enumerate(programs, start=1):
        write(table, row, program)
    return steer(x, torch.as_tensor(rows), table, saes, needs or needs_of(programs, len(saes)))


def steered(x, program, saes, needs=None):
    """x' of all tokens x under one program."""
    return run(x, [1] * len(x), [program], saes, needs).x


def tokens(num, seed=0, exact=False):
    g = torch.Generator().manual_seed(1000 + seed)
    return (
        torch.randint(-3, 4, (num, D_MODEL), generator=g).float() if exact else torch.randn(num, D_MODEL, generator=g)
    )


def assert_matches_formulas(x, rows, programs, saes, result):
    programs = [Program([[] for _ in saes]), *programs]
    expected = [steer_token(token.double(), programs[row], saes) for token, row in zip(x, rows, strict=True)]
    torch.testing.assert_close(result.x.double(), torch.stack(expected), **INEXACT)
