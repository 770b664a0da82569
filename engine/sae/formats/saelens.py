"""SAELens: `cfg.json` and `sae_weights.safetensors`; versions before 6 name some fields of the config differently."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tiller.engine.errors import SAEFormatError
from tiller.kernels.sae import InputNorm

from .files import Weights, peek_json, read_json, read_safetensors, require_int, safetensors_keys
from .stored import Format, StoredSAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
_INPUT_NORMS: dict[str, InputNorm] = {
    "none": "none",
    "expected_average_only_in": "none",
    "constant_norm_rescale": "unit_norm",
    "layer_norm": "layer_norm",
}


def recognises(location: Path) -> bool:
    if not location.is_dir():
        return False
    return "d_sae" in peek_json(location / CONFIG) or "W_enc" in safetensors_keys(location / WEIGHTS)


def read(location: Path, layer: int | None) -> StoredSAE:
    path = location / CONFIG
    config = read_json(path)
    architecture = _architecture(config, path)
    _refuse_unsupported(config, path)
    weights = Weights(location / WEIGHTS, read_safetensors(location / WEIGHTS))
    weights.bind(d_model=config.get("d_in"), d_sae=config.get("d_sae"))
    _refuse_scaling_factor(weights)
    gated = architecture == "gated"
    stored = StoredSAE(
        path=location,
        W_enc=weights.take("W_enc", "d_model", "d_sae").T,
        W_dec=weights.take("W_dec", "d_sae", "d_model"),
        b_enc=weights.take("b_gate" if gated else "b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        activation="relu",
        centred=bool(config.get("apply_b_dec_to_input", True)),
        input_norm=_INPUT_NORMS[_normalisation(config)],
        input_scale=_input_scale(config, path),
    )
    return _described(_activated(stored, architecture, weights, config, path), config)


def _activated(stored: StoredSAE, architecture: str, weights: Weights, config: dict[str, Any], path: Path) -> StoredSAE:
    match architecture:
        case "topk":
            kwargs = config.get("activation_fn_kwargs") or {}
            k = require_int({"k": config.get("k", kwargs.get("k"))}, "k", path)
            return replace(
                stored, activation="topk", k=k, decoder_norm_in=bool(config.get("rescale_acts_by_decoder_norm"))
            )
        case "jumprelu":
            return replace(stored, activation="threshold", threshold=weights.take("threshold", "d_sae"))
        case "gated":
            r_mag, b_mag = weights.take("r_mag", "d_sae"), weights.take("b_mag", "d_sae")
            return replace(stored, activation="gated", r_mag=r_mag, b_mag=b_mag)
    return stored


def _architecture(config: dict[str, Any], path: Path) -> str:
    """The architecture that SAELens 6 would read from this config."""
    function = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    architecture = config.get("architecture", "standard")
    if function == "topk" and architecture == "standard":
        return "topk"
    if architecture not in ARCHITECTURES or function not in ("relu", "topk"):
        given = architecture if architecture not in ARCHITECTURES else f"{architecture} with {function}"
        raise SAEFormatError(
            f"{path}: the SAELens architecture {given!r} isn't supported; accepted are {', '.join(ARCHITECTURES)}, "
            "and batchtopk or matryoshka_batchtopk once saved for inference, which makes them jumprelu."
        )
    return architecture


def _normalisation(config: dict[str, Any]) -> str:
    value = config.get("normalize_activations") or "none"
    return "expected_average_only_in" if value is True else value


def _input_scale(config: dict[str, Any], path: Path) -> float:
    """The factor of `expected_average_only_in`, which SAELens keeps outside the SAE's folder unless it is folded in."""
    if _normalisation(config) != "expected_average_only_in":
        return 1.0
    factor = config.get("norm_scaling_factor")
    if not isinstance(factor, (int, float)) or not factor > 0:
        raise SAEFormatError(
            f"{path}: inputs are scaled by a dataset average (normalize_activations) that the folder doesn't hold; "
            "add it to cfg.json as `norm_scaling_factor` (SAELens lists it in pretrained_saes.yaml)."
        )
    return float(factor)


def _refuse_unsupported(config: dict[str, Any], path: Path) -> None:
    if (normalisation := _normalisation(config)) not in _INPUT_NORMS:
        accepted = ", ".join(_INPUT_NORMS)
        raise SAEFormatError(
            f"{path}: normalize_activations {normalisation!r} isn't supported; accepted are {accepted}."
        )
    reshape = config.get("reshape_activations")
    if reshape is None and "hook_z" in _hook(config):
        reshape = "hook_z"
    if reshape not in (None, "none"):
        raise SAEFormatError(
            f"{path}: reshape_activations {reshape!r} is for attention heads; only SAEs of the residual "
            "stream can steer."
        )


def _refuse_scaling_factor(weights: Weights) -> None:
    if "scaling_factor" in weights and not torch.all(weights.tensors["scaling_factor"] == 1):
        raise SAEFormatError(
            f"{weights.path}: its fine-tuned `scaling_factor` isn't all ones, which isn't supported; "
            "fold it into W_dec."
        )


def _metadata(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, **(config.get("metadata") or {})}


def _hook(config: dict[str, Any]) -> str:
    metadata = _metadata(config)
    hook = metadata.get("hook_name") or metadata.get("hook_point") or ""
    return hook.replace("{layer}", str(metadata.get("hook_layer", metadata.get("hook_point_layer"))))


def _described(stored: StoredSAE, config: dict[str, Any]) -> StoredSAE:
    metadata = _metadata(config)
    return replace(
        stored, hook=_hook(config) or None, hook_out=metadata.get("hook_name_out"), model=metadata.get("model_name")
    )


FORMAT = Format("saelens", f"{CONFIG} + {WEIGHTS}", recognises, read)
