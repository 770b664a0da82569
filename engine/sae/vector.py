"""Steering vectors: a safetensors file with one tensor [d_model] and, in its metadata, the layer it is for."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from tiller.engine.errors import ConfigError

MIN_NORM, MAX_NORM = 1e-12, 1e12  # outside, squares and products with large alphas leave float32
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def load_vector(path: str | Path) -> tuple[Tensor, int | None]:
    """The vector [d_model] as float32 and its layer, None where the file doesn't say.

    Raises ConfigError where the file is missing, holds anything else, or isn't finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"vector file {path} can't be read ({error}); it must be a safetensors file") from None
    return _checked(tensors, metadata, f"vector file {path}")


def read_vector(data: bytes) -> tuple[Tensor, int | None]:
    """The same from the bytes of such a file, as uploaded by a client.

    Raises ConfigError as above; safetensors holds no code, and nothing in it names another file.
    """
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ConfigError(f"the upload can't be read ({error}); it must be a safetensors file") from None
    metadata = header.get("__metadata__") or {}
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if not dtypes <= set(DTYPES):
        raise ConfigError(f"the upload holds {', '.join(map(str, dtypes))}; float32, float16 or bfloat16 is needed")
    return _checked(tensors, metadata, "the upload")


def vector_version(vector: Tensor, layer: int) -> str:
    """Hash of all that decides what a vector does."""
    return hashlib.sha256(f"{layer}:".encode() + vector.float().contiguous().numpy().tobytes()).hexdigest()[:16]


def _checked(tensors: dict[str, Tensor], metadata: dict[str, str], what: str) -> tuple[Tensor, int | None]:
    if len(tensors) != 1 or (stored := next(iter(tensors.values()))).dim() != 1:
        raise ConfigError(f"{what} holds {list(tensors)}; it must hold one tensor of shape [d_model]")
    vector = stored.float()
    norm = float(vector.norm())
    if not MIN_NORM < norm < MAX_NORM:
        raise ConfigError(f"{what} has norm {norm:g}; between {MIN_NORM:g} and {MAX_NORM:g} is needed")
    layer = metadata.get("layer")
    if layer is not None and not layer.isdecimal():
        raise ConfigError(f"{what} says layer {layer!r} in its metadata, where a number is needed")
    return vector, None if layer is None else int(layer)
