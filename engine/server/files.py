"""Files that a server keeps for itself. Their names are made of names that were checked, with a suffix, so that none is a
path and none is hidden."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def write_file(folder: Path, name: str, data: bytes) -> None:
    """Puts `data` into `folder/name`: whole, or not at all if the machine stops meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, folder / name)


def delete_file(folder: Path | None, name: str) -> None:
    if folder is not None:
        (folder / name).unlink(missing_ok=True)


def stored_files(folder: Path | None, suffix: str) -> Iterator[tuple[str, bytes]]:
    """(name without suffix, content) of each file in `folder`, by name."""
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob(f"*{suffix}")):
            yield path.name.removesuffix(suffix), path.read_bytes()
