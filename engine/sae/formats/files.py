"""Read the containers that SAEs come in; whatever is wrong with one becomes a SAEFormatError that names the file.

Tensors stay mapped to their file where the container allows it, so that reading shapes costs nothing.
"""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tiller.engine.errors import SAEFormatError


class Weights:
    """The named tensors of one file, with the sizes `d_model` and `d_sae` bound by the first tensor that shows them."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self.path, self.tensors = path, tensors
        self.sizes: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def bind(self, **sizes: int | None) -> None:
        """State sizes known from a config; None says nothing."""
        self.sizes.update({dim: size for dim, size in sizes.items() if size is not None})

    def take(self, name: str, *dims: str) -> Tensor:
        """The tensor `name` with one size per entry of `dims`; SAEFormatError if it is missing or doesn't fit."""
        if name not in self.tensors:
            found = ", ".join(sorted(self.tensors)) or "nothing"
            raise SAEFormatError(f"{self.path} has no tensor `{name}`; it holds {found}.")
        tensor = self.tensors[name]
        expected = [f"{dim}={self.sizes[dim]}" if dim in self.sizes else dim for dim in dims]
        fits = tensor.dim() == len(dims) and all(
            self.sizes.setdefault(dim, size) == size for dim, size in zip(dims, tensor.shape, strict=True)
        )
        if not fits or tensor.numel() == 0:
            raise SAEFormatError(
                f"{self.path}: `{name}` has shape {list(tensor.shape)}, expected [{', '.join(expected)}]."
            )
        if not tensor.is_floating_point():
            raise SAEFormatError(f"{self.path}: `{name}` has dtype {tensor.dtype}, expected a floating-point one.")
        return tensor

    def take_scalar(self, name: str) -> float:
        """The value of a tensor with one element."""
        if name not in self.tensors or self.tensors[name].numel() != 1:
            raise SAEFormatError(f"{self.path} needs a tensor `{name}` with a single value.")
        return float(self.tensors[name].item())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; SAEFormatError if the file is missing or holds something else."""
    if not path.is_file():
        raise SAEFormatError(f"{path} is missing; copy it from where the SAE was published.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SAEFormatError(f"{path} isn't valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise SAEFormatError(f"{path} holds a JSON {type(content).__name__}, expected an object.")
    return content


def peek_json(path: Path) -> dict[str, Any]:
    """As `read_json`, but {} for a missing file: for recognition and for optional configs."""
    return read_json(path) if path.is_file() else {}


def find_config(location: Path, name: str = "config.json") -> Path | None:
    """`name` in the folder `location`, or beside or right above the file `location`."""
    folders = [location] if location.is_dir() else list(location.parents)[:2]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def require_int(config: dict[str, Any], key: str, path: Path) -> int:
    """A positive integer of a config."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SAEFormatError(f"{path}: `{key}` is {value!r}, expected a positive integer.")
    return value


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict that torch.save wrote; only tensors and plain values are unpickled, never code."""
    require_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SAEFormatError(
            f"{path} can't be read as plain tensors ({reason[0]}); save its state_dict() or a safetensors file instead."
        ) from error
    if not isinstance(content, dict):
        raise SAEFormatError(f"{path} holds a {type(content).__name__}, expected a state dict.")
    return content


def tensors_of(content: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise SAEFormatError(f"{path} isn't a whole safetensors file: {error}.") from error


def safetensors_keys(path: Path) -> set[str]:
    """Names of the tensors in `path`; empty if there is no such file."""
    if not path.is_file():
        return set()
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise SAEFormatError(f"{path} isn't a whole safetensors file: {error}.") from error


def read_npz(path: Path) -> dict[str, Tensor]:
    require_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise SAEFormatError(f"{path} isn't a readable npz archive: {error}.") from error


def require_file(path: Path) -> None:
    if not path.is_file():
        raise SAEFormatError(f"{path} is missing; copy it from where the SAE was published.")
