"""EleutherAI/sparsify: `cfg.json` and `sae.safetensors` in a folder named after the hook point, such as `layers.15`."""

from pathlib import Path
from typing import Any

from tiller.engine.errors import SAEFormatError

from .files import Weights, peek_json, read_json, read_safetensors, require_int, safetensors_keys
from .hooks import place_of
from .stored import Format, StoredSAE

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"


def recognises(location: Path) -> bool:
    if not location.is_dir():
        return False
    config = peek_json(location / CONFIG)
    if "d_sae" in config:
        return False
    keys = safetensors_keys(location / WEIGHTS)
    return "expansion_factor" in config or "num_latents" in config or {"encoder.weight", "W_dec"} <= keys


def read(location: Path, layer: int | None) -> StoredSAE:
    path = location / CONFIG
    config = read_json(path)
    _refuse_unsupported(config, path)
    weights = Weights(location / WEIGHTS, read_safetensors(location / WEIGHTS))
    weights.bind(d_model=config.get("d_in"), d_sae=_num_latents(config))
    return StoredSAE(
        path=location,
        W_enc=weights.take("encoder.weight", "d_sae", "d_model"),
        W_dec=weights.take("W_dec", "d_sae", "d_model"),
        b_enc=weights.take("encoder.bias", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        activation="topk",
        centred=True,
        k=require_int(config, "k", path),
        hook=location.name if place_of(location.name) or location.name.startswith("layers.") else None,
        model=peek_json(location.parent / "config.json").get("model"),
    )


def _num_latents(config: dict[str, Any]) -> int | None:
    """`num_latents`, where 0 stands for `d_in * expansion_factor`; None where the config doesn't say."""
    if config.get("num_latents"):
        return config["num_latents"]
    return config["d_in"] * config["expansion_factor"] if {"d_in", "expansion_factor"} <= config.keys() else None


def _refuse_unsupported(config: dict[str, Any], path: Path) -> None:
    if config.get("activation", "topk") != "topk":
        raise SAEFormatError(f"{path}: the activation {config['activation']!r} isn't supported; accepted is topk.")
    for key in ("signed", "transcode", "skip_connection"):
        if config.get(key):
            raise SAEFormatError(
                f"{path}: `{key}` is set, which isn't supported; only plain TopK SAEs of one hook point can steer."
            )


FORMAT = Format("sparsify", f"{CONFIG} + {WEIGHTS}", recognises, read)
