"""Table rows shared by requests that steer alike."""

from collections import OrderedDict


class RowPool:
    """Hands out rows 1 to num_rows; row 0 is the one that does nothing.

    Requests with the same key share a row, and a row nobody holds keeps its content until it is needed for another key.
    There is a row for every request that can run at once, so `acquire` can't run out.
    """

    def __init__(self, num_rows: int) -> None:
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_rows + 1))
        self._row_of: dict[str, int] = {}
        self._key_of: dict[int, str] = {}
        self._holders: dict[int, int] = {}

    def acquire(self, key: str) -> tuple[int, bool]:
        """A row for `key` and whether its content must be written."""
        row = self._row_of.get(key)
        fresh = row is None
        if row is None:
            row, _ = self._free.popitem(last=False)
            self._row_of.pop(self._key_of.pop(row, ""), None)
            self._row_of[key], self._key_of[row] = row, key
        self._free.pop(row, None)
        self._holders[row] = self._holders.get(row, 0) + 1
        return row, fresh

    def release(self, row: int) -> None:
        """Gives up one hold of `row`."""
        self._holders[row] -= 1
        if self._holders[row] == 0:
            del self._holders[row]
            self._free[row] = None

    @property
    def num_held(self) -> int:
        """Rows that some request holds."""
        return len(self._holders)
