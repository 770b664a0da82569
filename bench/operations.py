"""What the kernel benchmark measures: the kinds of edit that cost something different, as programs of a steering site."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tiller.kernels.sae import SAE
from tiller.kernels.table import SCALE, SET, Needs, SiteTable

NUM_PROGRAMS = 8  # requests of a batch with a program of their own; token t follows number t % 8
MAX_EDITS, MAX_PROJECTIONS = 16, 4  # size of the tables, not of the programs
STRENGTH = 3.0  # raw activation; pre-activations of the benchmark's data have a standard deviation of 1


@dataclass(frozen=True)
class Operation:
    """`activation` of the SAE; a `shift` is an unconditional addition of one feature, `op` an edit of one, if any."""

    name: str
    activation: Literal["topk", "threshold"]
    shift: bool = False
    op: int | None = None
    replace: bool = False
    idle: bool = False

    @property
    def num_edits(self) -> int:
        return int(self.op is not None)

    @property
    def encodes(self) -> bool:
        """Whether tokens need the pass over the dictionary."""
        return not self.idle and (self.replace or (self.activation == "topk" and self.op is not None))

    @property
    def needs(self) -> Needs:
        return Needs(
            int(self.shift), 0, (self.num_edits,), (False,), (self.replace,), (0,), preserve=False, guard=False
        )

    def rows(self, num_tokens: int, device: torch.device) -> Tensor:
        """[T] int64: the table row of each token."""
        tokens = torch.arange(num_tokens, device=device)
        return torch.zeros_like(tokens) if self.idle else 1 + tokens % NUM_PROGRAMS

    def table(self, sae: SAE) -> SiteTable:
        """The programs, on the device of `sae`; each is about a feature of its own."""
        table = SiteTable.allocate(1 + NUM_PROGRAMS, sae.d_model, 1, MAX_EDITS, MAX_PROJECTIONS)
        for row, feature in enumerate(named_features(sae.d_sae), start=1):
            table.declare(row, self.needs)
            if self.shift:
                table.shift[row] = STRENGTH * sae.W_dec[feature].float().cpu()
            if self.op is not None:
                code = torch.tensor([feature, self.op, -1], dtype=torch.int32)
                table.edits[0].code[row, 0], table.edits[0].amount[row, 0, 0] = code, STRENGTH
        return table.with_tensors({name: tensor.to(sae.W_dec.device) for name, tensor in table.tensors().items()})


def named_features(d_sae: int) -> list[int]:
    """The features that the programs are about, spread over the dictionary."""
    return [(2 * index + 1) * d_sae // (2 * NUM_PROGRAMS) for index in range(NUM_PROGRAMS)]


OPERATIONS = [
    Operation("TopK replacement", "topk", shift=True, replace=True),
    Operation("threshold replacement", "threshold", shift=True, replace=True),
    Operation("TopK membership edit", "topk", op=SCALE),
    Operation("edit-only", "threshold", op=SET),
    Operation("add", "topk", shift=True),
    Operation("idle rows", "topk", idle=True),
]
