"""saprmarks/dictionary_learning: `ae.pt` (a state dict) and `config.json`; checkpoints are `checkpoints/ae_{step}.pt`.

A crashed run with `backup_steps` leaves in `ae.pt` a dict with the state dict under `ae`, whose biases and threshold
are still in the units of training and have to be multiplied by its `norm_factor`.

Features are those of the file: `AutoEncoder.from_pretrained` further rescales them to unit decoder norm, which leaves
reconstructions as they are.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tiller.engine.errors import SAEFormatError

from .files import Weights, find_config, peek_json, read_json, read_pickle, require_int, tensors_of
from .stored import Format, StoredSAE


def _topk(weights: Weights, config: dict[str, Any]) -> StoredSAE:
    threshold = weights.take_scalar("threshold") if "threshold" in weights else None
    return StoredSAE(
        path=weights.path,
        W_enc=weights.take("encoder.weight", "d_sae", "d_model"),
        W_dec=weights.take("decoder.weight", "d_model", "d_sae").T,
        b_enc=weights.take("encoder.bias", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        activation="topk",
        centred=True,
        k=_k(weights, config),
        threshold=threshold,
    )


def _batch_topk(weights: Weights, config: dict[str, Any]) -> StoredSAE:
    weights.take_scalar("threshold")
    return replace(_topk(weights, config), activation="threshold", notes=_batch_notes(weights))


def _matryoshka(weights: Weights, config: dict[str, Any]) -> StoredSAE:
    return replace(
        _transposed(weights),
        centred=True,
        k=_k(weights, config),
        threshold=weights.take_scalar("threshold"),
        notes=_batch_notes(weights),
    )


def _jump_relu(weights: Weights, config: dict[str, Any]) -> StoredSAE:
    stored = _transposed(weights)
    return replace(stored, threshold=weights.take("threshold", "d_sae"))


def _transposed(weights: Weights) -> StoredSAE:
    return StoredSAE(
        path=weights.path,
        W_enc=weights.take("W_enc", "d_model", "d_sae").T,
        W_dec=weights.take("W_dec", "d_sae", "d_model"),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        activation="threshold",
        centred=False,
    )


def _standard(weights: Weights, config: dict[str, Any]) -> StoredSAE:
    return _linear(weights, b_dec="bias", centred=True)


def _new(weights: Weights, config: dict[str, Any]) -> StoredSAE:
    return _linear(weights, b_dec="decoder.bias", centred=False)


def _linear(weights: Weights, b_dec: str, centred: bool) -> StoredSAE:
    return StoredSAE(
        path=weights.path,
        W_enc=weights.take("encoder.weight", "d_sae", "d_model"),
        W_dec=weights.take("decoder.weight", "d_model", "d_sae").T,
        b_enc=weights.take("encoder.bias", "d_sae"),
        b_dec=weights.take(b_dec, "d_model"),
        activation="relu",
        centred=centred,
    )


def _gated(weights: Weights, config: dict[str, Any]) -> StoredSAE:
    return StoredSAE(
        path=weights.path,
        W_enc=weights.take("encoder.weight", "d_sae", "d_model"),
        W_dec=weights.take("decoder.weight", "d_model", "d_sae").T,
        b_enc=weights.take("gate_bias", "d_sae"),
        b_dec=weights.take("decoder_bias", "d_model"),
        activation="gated",
        centred=True,
        r_mag=weights.take("r_mag", "d_sae"),
        b_mag=weights.take("mag_bias", "d_sae"),
    )


_CLASSES: dict[str, Callable[[Weights, dict[str, Any]], StoredSAE]] = {
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jump_relu,
    "AutoEncoder": _standard,
    "AutoEncoderNew": _new,
    "GatedAutoEncoder": _gated,
}


def _k(weights: Weights, config: dict[str, Any]) -> int | None:
    k = int(weights.take_scalar("k")) if "k" in weights else None
    if "k" not in config:
        return k
    stated = require_int(config, "k", weights.path)
    if k not in (None, stated):
        raise SAEFormatError(
            f"{weights.path}: the file has k={k} and its config.json k={stated}; put the right pair together."
        )
    return stated


def _batch_notes(weights: Weights) -> tuple[str, ...]:
    return ("BatchTopK read as a threshold, the way its project runs it at inference",)


def recognises(location: Path) -> bool:
    if location.is_dir() and (location / "ae.pt").is_file():
        return True
    if location.is_file() and location.suffix != ".pt":
        return False
    trainer = peek_json(find_config(location) or location / "config.json").get("trainer")
    return isinstance(trainer, dict) and "dict_class" in trainer


def read(location: Path, layer: int | None) -> StoredSAE:
    path = location / "ae.pt" if location.is_dir() else location
    content = read_pickle(path)
    backup = content if isinstance(content.get("ae"), dict) else None
    config = _trainer_config(location, backup)
    weights = Weights(path, tensors_of(backup["ae"] if backup else content))
    weights.bind(d_model=config.get("activation_dim"), d_sae=config.get("dict_size"))
    name = config.get("dict_class")
    if name not in _CLASSES:
        raise SAEFormatError(f"{path}: dict_class {name!r} isn't supported; accepted are {', '.join(_CLASSES)}.")
    stored = _CLASSES[name](weights, config)
    if backup:
        stored = _scaled(stored, backup)
    return _described(replace(stored, path=location), config, _io(location))


def _trainer_config(location: Path, backup: dict[str, Any] | None) -> dict[str, Any]:
    path = find_config(location)
    if path is None and backup and isinstance(backup.get("config"), dict):
        return backup["config"]
    path = path or location / "config.json"
    trainer = read_json(path).get("trainer")
    if not isinstance(trainer, dict):
        raise SAEFormatError(f"{path} has no `trainer` object, so the SAE's class can't be known.")
    return trainer


def _scaled(stored: StoredSAE, backup: dict[str, Any]) -> StoredSAE:
    """A crash backup's biases and threshold in the units of raw activations, as `scale_biases` leaves them."""
    factor = backup.get("norm_factor") or 1.0
    threshold = stored.threshold
    if isinstance(threshold, torch.Tensor) or (threshold is not None and threshold >= 0):
        threshold = threshold * factor
    return replace(
        stored,
        b_enc=stored.b_enc * factor,
        b_dec=stored.b_dec * factor,
        b_mag=None if stored.b_mag is None else stored.b_mag * factor,
        threshold=threshold,
        notes=(*stored.notes, f"a crash backup of step {backup.get('step')}: biases multiplied by {factor:.6g}"),
    )


def _io(location: Path) -> str:
    """Which side of the submodule the training buffer read: out, in, or in_and_out for a transcoder."""
    path = find_config(location)
    buffer = read_json(path).get("buffer") if path else None
    return buffer.get("io", "out") if isinstance(buffer, dict) else "out"


def _described(stored: StoredSAE, config: dict[str, Any], io: str) -> StoredSAE:
    layer, hook = config.get("layer"), config.get("submodule_name") or None
    return replace(
        stored,
        hook=hook if io == "out" else f"{io} of {hook or f'layer {layer}'}",
        file_layer=layer if isinstance(layer, int) else None,
        model=config.get("lm_name"),
    )


FORMAT = Format("dictionary_learning", "ae.pt + config.json", recognises, read)
