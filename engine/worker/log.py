"""What steering did to each token, step after step, until somebody asks for a request's share of it."""

from collections import deque

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .host_copy import Transfer
from .site import SiteReport

Columns = dict[str, NDArray]  # equal numbers of rows; "record" and "position" are always there


class StepLog:
    """Columns over all steered tokens since the last `take`: one row a token, one column block a site.

    A site that did not run for a token leaves NaN in its columns, so that an unsteered token shows.
    """

    def __init__(self) -> None:
        self._chunks: list[Columns] = []
        self._coming: deque[Transfer] = deque()

    def append_later(self, transfer: Transfer) -> None:
        """One step whose columns are still on their way; earlier ones that have arrived make room in pinned memory."""
        while self._coming and self._coming[0].arrived:
            self._chunks.append(self._coming.popleft().columns())
        self._coming.append(transfer)

    def append(self, records: NDArray, positions: NDArray, reports: dict[int, SiteReport]) -> None:
        """One step: records [n] and positions [n] of its steered tokens, reports by layer."""
        columns: Columns = {"record": records, "position": positions}
        for layer, report in reports.items():
            columns[f"{layer}.delta"] = _array(report.delta_norm)
            for index, (before, after) in enumerate(zip(report.before, report.after, strict=True)):
                if before.shape[1]:
                    columns[f"{layer}.{index}.before"] = _array(before)
                    columns[f"{layer}.{index}.after"] = _array(after)
            for index, top in enumerate(report.top):
                if top is not None:
                    columns[f"{layer}.{index}.top_values"] = _array(top[0])
                    columns[f"{layer}.{index}.top_ids"] = _array(top[1])
        self._chunks.append(columns)

    def take(self, records: set[int]) -> dict[int, Columns]:
        """Removes and returns the rows of `records`, each with every position once, ascending."""
        merged = _merge(self._chunks + [transfer.columns() for transfer in self._coming])
        self._chunks = []
        self._coming.clear()
        if not merged:
            return {}
        wanted = np.isin(merged["record"], np.fromiter(records, dtype=np.int64))
        left = ~wanted & (merged["record"] >= 0)  # nobody asks for the others
        if left.any():
            self._chunks = [_rows(merged, left)]
        return _by_record(_rows(merged, wanted))


def _array(tensor: Tensor) -> NDArray:
    return tensor.detach().cpu().numpy()


def _rows(columns: Columns, which: NDArray | slice) -> Columns:
    return {name: column[which] for name, column in columns.items()}


def _merge(chunks: list[Columns]) -> Columns:
    if len(chunks) <= 1:
        return chunks[0] if chunks else {}
    names = dict.fromkeys(name for chunk in chunks for name in chunk)
    return {name: _stack(name, chunks) for name in names}


def _stack(name: str, chunks: list[Columns]) -> NDArray:
    present = [chunk[name] for chunk in chunks if name in chunk]
    if len(present) == len(chunks) and len({column.shape[1:] for column in present}) == 1:
        return np.concatenate(present)
    width = max(column.shape[1] for column in present) if present[0].ndim == 2 else 0
    num_rows = sum(len(chunk["record"]) for chunk in chunks)
    shape = (num_rows, width) if width else (num_rows,)
    out = np.full(shape, -1 if present[0].dtype.kind == "i" else np.nan, dtype=present[0].dtype)
    start = 0
    for chunk in chunks:
        end = start + len(chunk["record"])
        if name in chunk:
            column = chunk[name]
            block = out[start:end, : column.shape[1]] if width else out[start:end]
            block[...] = column
        start = end
    return out


def _by_record(columns: Columns) -> dict[int, Columns]:
    """Splits by record; of a position computed again (preemption, rejected draft) the last row counts: its KV stays."""
    order = np.lexsort((np.arange(len(columns["record"])), columns["position"], columns["record"]))
    columns = _rows(columns, order)
    record, position = columns["record"], columns["position"]
    last = np.ones(len(record), dtype=bool)
    last[:-1] = (record[1:] != record[:-1]) | (position[1:] != position[:-1])
    columns = _rows(columns, last)
    ids, starts, counts = np.unique(columns["record"], return_index=True, return_counts=True)
    return {int(i): _rows(columns, slice(a, a + n)) for i, a, n in zip(ids, starts, counts, strict=True)}
