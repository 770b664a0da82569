"""Folders whose one pickle is the whole SAE, under any name: told apart by the keys inside."""

from pathlib import Path
from typing import Any

from tiller.engine.errors import SAEFormatError

from .files import read_pickle


def pickles(location: Path) -> list[Path]:
    """The `.pt` and `.pth` files at `location`, which may be one of them."""
    paths = sorted(location.iterdir()) if location.is_dir() else [location]
    return [path for path in paths if path.suffix in (".pt", ".pth") and path.is_file()]


def holds(location: Path, *keys: str) -> bool:
    """Whether a pickle at `location` has all `keys`."""
    return any(set(keys) <= read_pickle(path).keys() for path in pickles(location))


def the_one(location: Path, *keys: str) -> tuple[Path, dict[str, Any]]:
    """The single pickle at `location` with all `keys`; SAEFormatError where there are several."""
    found = [(path, content) for path in pickles(location) if set(keys) <= (content := read_pickle(path)).keys()]
    if len(found) > 1:
        names = ", ".join(path.name for path, _ in found)
        raise SAEFormatError(f"{location} holds several SAEs ({names}); give the path of one of these files.")
    return found[0]
