"""Gemma Scope: `params.npz` (Gemma 2), or `params.safetensors` with lower-case names and `config.json` (Gemma 3)."""

import re
from pathlib import Path
from typing import Any

from tiller.engine.errors import SAEFormatError

from .files import Weights, peek_json, read_npz, read_safetensors, safetensors_keys
from .stored import Format, StoredSAE

NPZ, SAFETENSORS, CONFIG = "params.npz", "params.safetensors", "config.json"
_REPOSITORY = re.compile(r"gemma-scope-(2-)?(\d+m|\d+b)-(pt|it)\b")


def recognises(location: Path) -> bool:
    return location.is_dir() and (
        (location / NPZ).is_file() or {"w_enc", "w_dec"} <= safetensors_keys(location / SAFETENSORS)
    )


def read(location: Path, layer: int | None) -> StoredSAE:
    if (location / NPZ).is_file():
        return _stored(location, Weights(location / NPZ, read_npz(location / NPZ)), "W", {})
    path = location / CONFIG
    config = peek_json(path)
    weights = Weights(location / SAFETENSORS, read_safetensors(location / SAFETENSORS))
    _refuse_unsupported(config, weights)
    return _stored(location, weights, "w", config)


def _stored(location: Path, weights: Weights, letter: str, config: dict[str, Any]) -> StoredSAE:
    return StoredSAE(
        path=location,
        W_enc=weights.take(f"{letter}_enc", "d_model", "d_sae").T,
        W_dec=weights.take(f"{letter}_dec", "d_sae", "d_model"),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        activation="threshold",
        centred=False,
        threshold=weights.take("threshold", "d_sae"),
        hook=config.get("hf_hook_point_in"),
        hook_out=config.get("hf_hook_point_out"),
        file_layer=_folder_layer(location),
        model=config.get("model_name") or _folder_model(location),
    )


def _folder_layer(location: Path) -> int | None:
    """Gemma Scope states the layer in its folders alone: `layer_20/width_16k/average_l0_71`."""
    numbers = [re.match(r"layer_(\d+)", part) for part in reversed(location.parts[-3:])]
    return next((int(match[1]) for match in numbers if match), None)


def _folder_model(location: Path) -> str | None:
    """The model that a Gemma Scope repository names: `gemma-scope-2b-pt-res` is of google/gemma-2-2b."""
    for part in reversed(location.parts):
        if match := _REPOSITORY.search(part):
            generation = 2 if match[1] is None else 3
            return f"google/gemma-{generation}-{match[2]}" + (
                f"-{match[3]}" if (generation, match[3]) != (2, "pt") else ""
            )
    return None


def _refuse_unsupported(config: dict[str, Any], weights: Weights) -> None:
    path = weights.path
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise SAEFormatError(
            f"{path}: the architecture {config['architecture']!r} isn't supported; accepted is jump_relu."
        )
    if "affine_skip_connection" in weights:
        raise SAEFormatError(f"{path}: a transcoder with a skip connection can't steer; take an SAE of resid_post.")


FORMAT = Format("gemma_scope", f"{NPZ}, or {SAFETENSORS} + {CONFIG}", recognises, read)
