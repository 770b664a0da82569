"""Steering vectors on disk: a safetensors file with one tensor [d_model] and, in its metadata, the layer it belongs to."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ConfigError


def load_vector(path: str | Path) -> tuple[Tensor, int | None]:
    """The vector [d_model] as float32 and its layer, None where the file doesn't say.

    Raises ConfigError where the file is missing, holds anything else, or isn't finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            layer = (file.metadata() or {}).get("layer")
            tensors = [file.get_tensor(name) for name in names]
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"vector file {path} can't be read ({error}); it must be a safetensors file") from None
    if len(tensors) != 1 or tensors[0].dim() != 1:
        raise ConfigError(f"vector file {path} holds {names}; it must hold one tensor of shape [d_model]")
    vector = tensors[0].float()
    if not torch.isfinite(vector).all() or not vector.any():
        raise ConfigError(f"vector file {path} holds zeros only, NaN or inf; a direction is needed")
    return vector, None if layer is None else int(layer)
