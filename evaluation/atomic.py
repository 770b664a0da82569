"""Files that are either whole or as they were."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


@contextmanager
def atomic_writer(path: Path, durable: bool = True) -> Iterator[TextIO]:
    """A file to write to, which takes the place of `path` on leaving, and is gone where the block or the disk fails.

    durable: also survives a power loss just after.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the error that counts is the one that is raised
            temporary.unlink()
        raise
