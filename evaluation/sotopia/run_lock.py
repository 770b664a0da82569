"""One writer of a kind at a time in a run's folder."""

import fcntl
import os
import socket
from pathlib import Path

from tiller.evaluation.inputs import InputError

_held: set[Path] = set()  # by this process, to which the kernel would grant its own lock again


class RunLock:
    """Held until `release`, or until the process ends in whatever way: the kernel drops the lock of a dead one.

    A record lock, since children of a fork don't inherit it: an engine that outlives a killed run keeps nobody out.
    Raises InputError naming the process that holds it.
    """

    def __init__(self, folder: Path, name: str = "journal.lock") -> None:
        self._path = (folder / name).resolve()
        if self._path in _held:
            raise _refusal(folder, "this process")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(self._file, 200, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise _refusal(folder, holder or "another process") from None
        _held.add(self._path)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        if self._file >= 0:
            _held.discard(self._path)
            os.close(self._file)
            self._file = -1


def _refusal(folder: Path, holder: str) -> InputError:
    return InputError(f"{holder} is writing there; wait for it, end it, or choose another folder", str(folder))
