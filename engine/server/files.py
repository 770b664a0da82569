"""Files that a server keeps for itself. Their names are made of names that were checked, with a suffix, so that none is a
path and none is hidden."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tiller.engine.errors import SpecError
from tiller.engine.spec import Name

from .problems import NotStored


def check_name(name: str) -> None:
    """Raises SpecError where the name of a stored file is none that could have been registered."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise SpecError(f"{name!r} is not a name of a profile or vector", "name") from None


def write_file(folder: Path, name: str, data: bytes) -> None:
    """Puts `data` into `folder/name`: whole, or not at all if the machine stops meanwhile.

    Raises NotStored where the folder can't be written; then nothing is left there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / name, data)
    except OSError as error:
        raise NotStored(name, error) from error


def _replace(path: Path, data: bytes) -> None:
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False)  # noqa: SIM115
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        raise


def delete_file(folder: Path | None, name: str) -> None:
    """Raises NotStored where the folder can't be written."""
    if folder is None:
        return
    try:
        (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise NotStored(name, error) from error


def stored_files(folder: Path | None, suffix: str) -> Iterator[tuple[str, Path]]:
    """(name without suffix, path) of each file in `folder`, by name."""
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob(f"*{suffix}")):
            yield path.name.removesuffix(suffix), path
