"""Which model, dictionary or vector a path or hub id means, told cheaply by content."""

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tiller.engine.errors import ConfigError

SAMPLE_BYTES = 1 << 20


@lru_cache
def fingerprint(path_or_id: str, revision: str | None = None) -> str:
    """12 hex digits of a file's or folder's content, or the commit of a hub id that is on this machine.

    Of a large file its size and its first, middle and last MiB count, so that many GB cost no minutes. A hub id that isn't
    here is named by itself and its revision. Raises ConfigError for a path where nothing is.
    """
    path = Path(path_or_id)
    if not path.exists():
        return _commit(path_or_id, revision) or f"{path_or_id}@{revision or 'main'}"
    state = hashlib.sha256()
    for file in _files(path):
        state.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        for sample in _samples(file):
            state.update(sample)
    return state.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts))


def _samples(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= 3 * SAMPLE_BYTES:
            yield stream.read()
            return
        for start in (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES):
            stream.seek(start)
            yield stream.read(SAMPLE_BYTES)


def _commit(hub_id: str, revision: str | None) -> str | None:
    """The snapshot that the hub's local cache holds."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except HFValidationError as error:
        raise ConfigError("there is neither such a file or folder nor such a hub id", hub_id) from error
    return os.path.basename(os.path.dirname(found))[:12] if isinstance(found, str) else None
