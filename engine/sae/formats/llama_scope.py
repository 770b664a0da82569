"""Llama Scope (OpenMOSS): `hyperparams.json` + `checkpoints/final.safetensors`, and the later layout of
Llama-Scope-R1-Distill: `config.json` + `sae_weights.safetensors`.

Both read c x with c = sqrt(d_model) / (average norm of the training activations). Thresholds: one value for raw
activations (times c) in the first layout, exp(log_jumprelu_threshold) per feature on the scaled ones in the second,
compared there with pre * norm(W_dec[i]) where `sparsity_include_decoder_norm` is set.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiller.engine.errors import SAEFormatError

from .files import Weights, peek_json, read_json, read_safetensors, require_int, safetensors_keys
from .stored import Format, StoredSAE

FIRST = ("hyperparams.json", "checkpoints/final.safetensors")
SECOND = ("config.json", "sae_weights.safetensors")


def recognises(location: Path) -> bool:
    if not location.is_dir():
        return False
    if "d_sae" in peek_json(location / FIRST[0]) or (location / FIRST[1]).is_file():
        return True
    linear = {"encoder.weight", "decoder.weight"} <= safetensors_keys(location / SECOND[1])
    return linear or {"d_model", "act_fn", "hook_point_in"} <= peek_json(location / SECOND[0]).keys()


def read(location: Path, layer: int | None) -> StoredSAE:
    first = (location / FIRST[0]).is_file() or (location / FIRST[1]).is_file()
    config_name, weights_name = FIRST if first else SECOND
    path = location / config_name
    config = read_json(path)
    _refuse_unsupported(config, path)
    weights = Weights(location / weights_name, read_safetensors(location / weights_name))
    d_model = require_int(config, "d_model", path)
    weights.bind(d_model=d_model, d_sae=config.get("d_sae"))
    scale = _input_scale(config, weights, path, d_model)
    W_enc = weights.take("encoder.weight", "d_sae", "d_model")
    W_dec = weights.take("decoder.weight", "d_model", "d_sae").T
    return StoredSAE(
        path=location,
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=weights.take("encoder.bias", "d_sae"),
        b_dec=_b_dec(config, weights, d_model),
        activation="threshold",
        centred=bool(config.get("apply_decoder_bias_to_pre_encoder")),
        threshold=_one_threshold(config, path) * scale if first else _thresholds(config, weights, W_dec),
        input_scale=scale,
        hook=config.get("hook_point_in"),
        hook_out=config.get("hook_point_out"),
        model=config.get("model_name"),
    )


def _b_dec(config: dict[str, Any], weights: Weights, d_model: int) -> Tensor:
    if config.get("use_decoder_bias", True):
        return weights.take("decoder.bias", "d_model")
    return torch.zeros(d_model)


def _input_scale(config: dict[str, Any], weights: Weights, path: Path, d_model: int) -> float:
    """c; its average norm stands in the first layout's config, and among the tensors of the second."""
    if config.get("norm_activation", "dataset-wise") == "inference":
        return 1.0
    norms = config.get("dataset_average_activation_norm")
    name = f"dataset_average_activation_norm.{config.get('hook_point_in')}"
    norm = norms.get("in") if isinstance(norms, dict) else None
    if norm is None and name in weights:
        norm = weights.take_scalar(name)
    if not isinstance(norm, (int, float)) or not norm > 0:
        raise SAEFormatError(
            f"{path}: the average norm that inputs are divided by isn't stored; add "
            '`"dataset_average_activation_norm": {"in": <value>}` to the file.'
        )
    return math.sqrt(d_model) / norm


def _one_threshold(config: dict[str, Any], path: Path) -> float:
    threshold = config.get("jump_relu_threshold")
    if not isinstance(threshold, (int, float)):
        raise SAEFormatError(f"{path}: `jump_relu_threshold` is {threshold!r}, expected a number.")
    return threshold


def _thresholds(config: dict[str, Any], weights: Weights, W_dec: Tensor) -> Tensor:
    thresholds = weights.take("log_jumprelu_threshold", "d_sae").float().exp()
    if not config.get("sparsity_include_decoder_norm"):
        return thresholds
    return thresholds / W_dec.float().norm(dim=1)


def _refuse_unsupported(config: dict[str, Any], path: Path) -> None:
    if config.get("act_fn", "jumprelu").lower() != "jumprelu":
        raise SAEFormatError(f"{path}: act_fn {config['act_fn']!r} isn't supported; accepted is jumprelu.")
    if (norm := config.get("norm_activation", "dataset-wise")) not in ("dataset-wise", "inference"):
        raise SAEFormatError(
            f"{path}: norm_activation {norm!r} isn't supported; accepted are dataset-wise and inference."
        )
    if config.get("use_glu_encoder"):
        raise SAEFormatError(f"{path}: a GLU encoder isn't supported; only one linear encoder can be read.")


FORMAT = Format("llama_scope", f"{' + '.join(FIRST)}, or {' + '.join(SECOND)}", recognises, read)
