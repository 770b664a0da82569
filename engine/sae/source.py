"""Turn a folder, a file or a hub id into a local path; a local path wins over the hub."""

import re
from pathlib import Path, PurePosixPath

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tiller.engine.errors import SAEFormatError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MAX_LAYERS = 256


def locate(path: str | Path, subfolder: str | None = None, layer: int | None = None) -> Path:
    """The local folder or file of the SAE at `path` / `subfolder`, fetched from the hub if it isn't here.

    layer: where a hub repository holds one file per layer, only this layer's is fetched.
    Raises SAEFormatError with one sentence if it is found neither here nor on the hub.
    """
    local = Path(path).expanduser()
    if local.exists():
        return _inside(local, subfolder)
    if not _HUB_ID.fullmatch(str(path)):
        raise SAEFormatError(f"{path} doesn't exist, and isn't a hub id of the form organisation/name.")
    return _inside(_download(str(path), subfolder, layer), subfolder)


def _inside(folder: Path, subfolder: str | None) -> Path:
    if subfolder is None:
        return folder
    target = folder / subfolder
    if not target.exists():
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        listed = ", ".join(names[:8]) or "nothing"
        raise SAEFormatError(f"{folder} has no {subfolder}; it holds {listed}.", field="subfolder")
    return target


def _download(repo_id: str, subfolder: str | None, layer: int | None) -> Path:
    try:
        return Path(
            snapshot_download(
                repo_id,
                allow_patterns=_patterns(subfolder),
                ignore_patterns=None if layer is None else _other_layers(layer),
            )
        )
    except LocalEntryNotFoundError as error:
        raise SAEFormatError(
            f"{repo_id} is neither a folder here nor in the hub's cache, and the hub can't be reached; "
            "download it where there is a network, or check the path."
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SAEFormatError(
            f"{repo_id} is no folder here, and the hub refuses it ({reason}); check the path, or log in "
            "with `hf auth login`."
        ) from error


def _patterns(subfolder: str | None) -> list[str] | None:
    """The subfolder (or file) itself, and the configs above it that some formats keep there."""
    if subfolder is None:
        return None
    target = PurePosixPath(subfolder)
    return [str(target), f"{target}/*", *(str(parent / "config.json") for parent in target.parents)]


def _other_layers(layer: int) -> list[str]:
    return [f"layer{other}.sae.pt" for other in range(_MAX_LAYERS) if other != layer]
