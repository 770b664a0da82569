"""Qwen-Scope: one `layer{n}.sae.pt` per layer and a `config.json` with `k` for all of them."""

import re
from pathlib import Path
from typing import Any

from tiller.engine.errors import SAEFormatError

from .files import Weights, find_config, peek_json, read_pickle, require_int, tensors_of
from .stored import Format, StoredSAE

_NAME = re.compile(r"layer(\d+)\.sae\.pt")


def recognises(location: Path) -> bool:
    return bool(_files(location))


def read(location: Path, layer: int | None) -> StoredSAE:
    """TopK of relu(W_enc x + b_enc); `k` stays None where no config.json states it."""
    files = _files(location)
    if layer is None and len(files) == 1:
        layer = next(iter(files))
    if layer not in files:
        given = "no layer is named" if layer is None else f"layer {layer} isn't among them"
        raise SAEFormatError(f"{location} holds SAEs of layers {', '.join(map(str, sorted(files)))}, and {given}.")
    path, config = files[layer], _config(location)
    weights = Weights(path, tensors_of(read_pickle(path)))
    weights.bind(d_model=config.get("d_model"), d_sae=config.get("d_sae"))
    return StoredSAE(
        path=path,
        W_enc=weights.take("W_enc", "d_sae", "d_model"),
        W_dec=weights.take("W_dec", "d_model", "d_sae").T,
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        activation="topk",
        centred=False,
        k=require_int(config, "k", location) if "k" in config else None,
        hook=config.get("hook_point"),
        file_layer=layer,
        model=config.get("base_model"),
    )


def _files(location: Path) -> dict[int, Path]:
    paths = location.glob("layer*.sae.pt") if location.is_dir() else [location]
    return {int(match[1]): path for path in paths if (match := _NAME.fullmatch(path.name))}


def _config(location: Path) -> dict[str, Any]:
    path = find_config(location)
    return peek_json(path) if path else {}


FORMAT = Format("qwen_scope", "layer{n}.sae.pt + config.json", recognises, read)
