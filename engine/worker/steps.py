"""Steps of a model whose sites run the Triton kernels: all that changes from step to step lies in buffers of fixed address."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiller.kernels.layout import SLOT_COLUMNS, Layout
from tiller.kernels.workspace import Workspace

from .host_copy import Transfer
from .site import Site
from .tokens import SteeredTokens


class KernelSteps:
    """Fills the buffers before a forward, and takes what the sites have noted after it."""

    def __init__(self, workspace: Workspace, sites: list[Site], num_slots: int) -> None:
        self.workspace, self.sites = workspace, sites
        for index, site in enumerate(sites):
            site.use_kernels(workspace, index)
            if workspace.rows.is_cuda:
                site.settle_tiles()
        self.layout = Layout(workspace, num_slots, workspace.rows.device)
        self._slots = np.zeros((num_slots, SLOT_COLUMNS), dtype=np.int32)
        self._slots_changed = False
        self._busy = False  # some row of the workspace may be above 0
        self._records = self._positions = torch.empty(0)

    def place(self, slot: int, entry: tuple[int, int, int, int]) -> None:
        """The request in the model runner's slot `slot`: row, first and last + 1 position in scope, record. All 0: nobody."""
        self._slots[slot] = entry
        self._slots_changed = True

    def begin_on_device(self, query_start_loc: Tensor, idx_mapping: Tensor, positions: Tensor) -> None:
        """Lays out a step from the runner's own device tensors; waits for nothing."""
        if self._slots_changed:
            self.layout.slots.copy_(torch.from_numpy(self._slots), non_blocking=True)
            self._slots_changed = False
        self.layout.begin(query_start_loc, idx_mapping, positions)
        self._records = self.layout.records[: len(positions)]
        self._positions = positions.to(torch.int32)  # a copy: the runner will overwrite its own
        self._busy = True

    def begin_on_host(self, tokens: SteeredTokens, num_tokens: int) -> None:
        """The same from what is known on the host."""
        self.workspace.begin(self._column(tokens.token, tokens.row, num_tokens, 0))
        self._records = self._column(tokens.token, tokens.record, num_tokens, -1)
        self._positions = self._column(tokens.token, tokens.position, num_tokens, -1)
        self._busy = True

    def _column(self, token: NDArray, values: NDArray, num_tokens: int, default: int) -> Tensor:
        column = np.full(num_tokens, default, dtype=np.int32)
        column[token] = values
        return torch.from_numpy(column).to(self.workspace.rows.device)

    def idle(self) -> None:
        """From now on no token is steered, whatever forward runs."""
        if self._busy:
            self.workspace.begin(self.workspace.rows[:0])
            self._busy = False

    def transfer(self) -> Transfer:
        """What the sites did in the last step, on its way to the host."""
        columns = {"record": self._records, "position": self._positions}
        for site in self.sites:
            columns |= site.kernel_columns(len(self._records))
        return Transfer(columns)
