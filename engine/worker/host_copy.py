"""One step's columns on their way from the device to the host, in a single copy that nobody waits for."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transfer:
    """Columns [n] or [n, width] of 4-byte numbers, copied when this is made; `columns` is called when they are wanted."""

    def __init__(self, columns: dict[str, Tensor]) -> None:
        self._parts = [(name, column.dtype, column.ndim, column[0].numel()) for name, column in columns.items()]
        packed = torch.cat([_as_float(column) for column in columns.values()], dim=1)
        self._host: Tensor = packed
        self._arrived: torch.cuda.Event | None = None
        if packed.is_cuda:
            self._host = torch.empty(packed.shape, pin_memory=True).copy_(packed, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    @property
    def arrived(self) -> bool:
        return self._arrived is None or self._arrived.query()

    def columns(self) -> dict[str, NDArray]:
        """The columns as arrays, only of rows whose `record` somebody may ask for."""
        if self._arrived is not None:
            self._arrived.synchronize()
        packed, out, start = self._host.numpy(), {}, 0
        for name, dtype, ndim, width in self._parts:
            column = np.ascontiguousarray(packed[:, start : start + width])
            column = column.view(np.int32).astype(np.int64) if dtype == torch.int32 else column
            out[name] = column if ndim == 2 else column[:, 0]
            start += width
        wanted = out["record"] >= 0
        return {name: column[wanted] for name, column in out.items()}  # copies: the pinned memory is free again


def _as_float(column: Tensor) -> Tensor:
    """[n, width] float32 with the bits of `column`."""
    bits = column.contiguous().view(torch.float32)
    return bits[:, None] if bits.ndim == 1 else bits
