"""From a stored dictionary to the canonical `SAE`: check, choose the activation, fold the scales and biases."""

import math
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tiller.engine.errors import SAEFormatError
from tiller.kernels.sae import SAE

from .stored import StoredSAE

# Rows of W_enc that are widened to float64 at once when b_dec is folded: 8192 x 4096 doubles are 256 MiB.
_FOLD_ROWS = 8192

# "auto", "topk", "threshold", {"topk": k} or {"threshold": t}
Activation: TypeAlias = str | dict[Any, Any]


def choose_activation(stored: StoredSAE, activation: Activation) -> StoredSAE:
    """`stored` under the activation that the user asks for.

    activation: "auto" (the file's own), "topk" (per token, with the file's k), "threshold" (with the file's), or an
    explicit {"topk": k} or {"threshold": t}. Raises SAEFormatError where the file can't serve the wish.
    """
    match activation:
        case "auto":
            chosen = stored
        case "topk":
            chosen = _as_topk(stored, stored.k)
        case "threshold":
            chosen = _as_threshold(stored, _measured(stored), "the threshold that its file stores")
        case {"topk": k, **rest} if not rest:
            chosen = _as_topk(stored, k)
        case {"threshold": threshold, **rest} if not rest:
            chosen = _as_threshold(stored, _number(threshold), f"the threshold {threshold}")
        case _:
            raise SAEFormatError(
                f"activation is {activation!r}; accepted are auto, topk, threshold, {{topk: k}} and {{threshold: t}}."
            )
    return _checked(chosen)


def canonical(stored: StoredSAE, max_act: Tensor | None = None) -> SAE:
    """The `SAE` that computes what `stored` states; raises SAEFormatError for NaN or infinity among its numbers."""
    _refuse_nonfinite(stored)
    stored = _fold_scales(stored)
    b_enc, b_dec = stored.b_enc.float(), stored.b_dec.float()
    scale = shift = None
    if stored.activation == "gated":
        assert stored.r_mag is not None and stored.b_mag is not None
        scale = stored.r_mag.double().exp()
        shift = (stored.b_mag.double() - scale * stored.b_enc.double()).float()
        scale = scale.float()
    topk, threshold = stored.activation == "topk", stored.activation == "threshold"
    return SAE(
        W_enc=_owned(stored.W_enc),
        W_dec=_owned(stored.W_dec),
        b_enc=fold_b_dec(stored) if stored.centred else b_enc.clone(),
        b_dec=b_dec.clone(),
        activation=stored.activation,
        k=stored.k if topk else None,
        threshold=_per_feature(stored) if threshold else None,
        gate_scale=scale,
        gate_shift=shift,
        input_norm=stored.input_norm,
        max_act=max_act,
    )


def fold_b_dec(stored: StoredSAE) -> Tensor:
    """`b_enc - W_enc @ b_dec` [d_sae], summed in float64, as float32."""
    b_dec = stored.b_dec.double()
    products = [rows.double() @ b_dec for rows in stored.W_enc.split(_FOLD_ROWS)]
    return (stored.b_enc.double() - torch.cat(products)).float()


def _as_topk(stored: StoredSAE, k: Any) -> StoredSAE:
    if stored.activation == "gated":
        raise SAEFormatError(f"{stored.path} is a gated SAE, which can't be read as TopK; use activation: auto.")
    if k is None:
        raise SAEFormatError(f"{stored.path} doesn't state its k; give it, as in activation: {{topk: 64}}.")
    if isinstance(k, bool) or not isinstance(k, (int, float)) or k != k // 1:
        raise SAEFormatError(f"activation: topk is {k!r}, expected a whole number from 1 to {stored.d_sae}.")
    k = int(k)
    note = () if (stored.activation, stored.k) == ("topk", k) else (f"read with per-token TopK, k={k}",)
    kept = stored.notes if not note else tuple(text for text in stored.notes if not text.startswith("BatchTopK read"))
    return replace(stored, activation="topk", k=k, notes=(*kept, *note))


def _as_threshold(stored: StoredSAE, threshold: Tensor | float, source: str) -> StoredSAE:
    if stored.activation == "gated":
        raise SAEFormatError(f"{stored.path} is a gated SAE, which has no threshold; use activation: auto.")
    if stored.activation == "threshold" and threshold is stored.threshold:
        return stored
    return replace(stored, activation="threshold", threshold=threshold, notes=(*stored.notes, f"read with {source}"))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SAEFormatError(f"activation: threshold is {value!r}, expected a finite number.")
    return float(value)


def _measured(stored: StoredSAE) -> Tensor | float:
    """The file's threshold; dictionary_learning stores -1 until training has measured one."""
    if stored.threshold is None:
        raise SAEFormatError(f"{stored.path} stores no threshold; give one, as in activation: {{threshold: 0.5}}.")
    if isinstance(stored.threshold, float) and stored.threshold < 0:
        raise SAEFormatError(
            f"{stored.path} stores the threshold {stored.threshold:g}, which was never measured; give one, as in "
            "activation: {threshold: 0.5}."
        )
    return stored.threshold


def _checked(stored: StoredSAE) -> StoredSAE:
    if stored.activation == "topk" and stored.k is None:
        raise SAEFormatError(f"{stored.path} doesn't state its k; give it, as in activation: {{topk: 64}}.")
    if stored.activation == "topk" and not 0 < stored.k <= stored.d_sae:  # type: ignore[operator]
        raise SAEFormatError(f"{stored.path}: k is {stored.k}, expected a whole number from 1 to {stored.d_sae}.")
    if stored.activation == "threshold" and isinstance(stored.threshold, float) and stored.threshold < 0:
        note = f"the threshold is {stored.threshold:g}, so the activation is a plain ReLU"
        return replace(stored, notes=(*stored.notes, note))
    return stored


def _refuse_nonfinite(stored: StoredSAE) -> None:
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "r_mag", "b_mag"):
        value = getattr(stored, name)
        extremes = value.aminmax() if isinstance(value, Tensor) else (value,)
        if any(extreme is not None and not math.isfinite(extreme) for extreme in extremes):
            raise SAEFormatError(
                f"{stored.path}: {name} holds NaN or infinity, so the file is damaged; fetch it again."
            )


def _fold_scales(stored: StoredSAE) -> StoredSAE:
    """Move `input_scale` and the decoder norms of `decoder_norm_in` into the weights, which keep their dtype."""
    if stored.input_scale != 1.0:
        c = stored.input_scale
        stored = replace(
            stored,
            W_enc=(stored.W_enc.float() * c).to(stored.W_enc.dtype),
            W_dec=(stored.W_dec.float() / c).to(stored.W_dec.dtype),
            b_dec=stored.b_dec.float() / c,
            input_scale=1.0,
        )
    if stored.decoder_norm_in:
        norm = stored.W_dec.float().norm(dim=1)
        divisor = torch.where(norm > 0, norm, 1.0)
        stored = replace(
            stored,
            W_enc=(stored.W_enc.float() * norm[:, None]).to(stored.W_enc.dtype),
            W_dec=(stored.W_dec.float() / divisor[:, None]).to(stored.W_dec.dtype),
            b_enc=stored.b_enc.float() * norm,
            decoder_norm_in=False,
        )
    return stored


def _per_feature(stored: StoredSAE) -> Tensor:
    assert stored.threshold is not None
    threshold = torch.as_tensor(stored.threshold, dtype=torch.float32)
    return threshold.expand(stored.d_sae).clone()


def _owned(tensor: Tensor) -> Tensor:
    # A clone, because a tensor mapped to its file would fault if somebody rewrote that file.
    return tensor.clone(memory_format=torch.contiguous_format)
