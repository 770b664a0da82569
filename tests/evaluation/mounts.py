"""Real file systems of a test's own, to fill and to make read-only."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Mount:
    path: Path

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)


@contextmanager
def mounted(path: Path, size: str = "64m") -> Iterator[Mount]:
    """A file system in memory at `path`; the test is skipped where nothing can be mounted."""
    path.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"READ-ONLY AND FULL FILE SYSTEMS NOT TESTED: nothing can be mounted here ({error})")
    try:
        yield Mount(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(folder: Path, free: int) -> Path:
    """A file that leaves `free` bytes of the file system."""
    file = folder / "fill"
    with file.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - free)
    return file
