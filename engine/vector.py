"""Steering vectors on disk: a safetensors file with one tensor [d_model] and, in its metadata, the layer it is for."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ConfigError

MIN_NORM, MAX_NORM = 1e-12, 1e12  # outside, squares and products with large alphas leave float32


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
    norm = float(vector.norm())
    if not MIN_NORM < norm < MAX_NORM:
        raise ConfigError(f"vector file {path} has norm {norm:g}; between {MIN_NORM:g} and {MAX_NORM:g} is needed")
    if layer is not None and not layer.isdecimal():
        raise ConfigError(f"vector file {path} says layer {layer!r} in its metadata, where a number is needed")
    return vector, None if layer is None else int(layer)
