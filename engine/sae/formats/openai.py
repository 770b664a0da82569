"""openai/sparse_autoencoder: one pickled state dict that names its activation; a TopK one normalises its input."""

from dataclasses import replace
from pathlib import Path

from tiller.engine.errors import SAEFormatError

from .files import Weights, require_int, tensors_of
from .pickles import holds, the_one
from .stored import Format, StoredSAE

_KEYS = ("pre_bias", "latent_bias", "encoder.weight")


def recognises(location: Path) -> bool:
    return holds(location, *_KEYS)


def read(location: Path, layer: int | None) -> StoredSAE:
    path, content = the_one(location, *_KEYS)
    weights = Weights(path, tensors_of(content))
    stored = StoredSAE(
        path=location,
        W_enc=weights.take("encoder.weight", "d_sae", "d_model"),
        W_dec=weights.take("decoder.weight", "d_model", "d_sae").T,
        b_enc=weights.take("latent_bias", "d_sae"),
        b_dec=weights.take("pre_bias", "d_model"),
        activation="relu",
        centred=True,
    )
    activation, state = content.get("activation", "ReLU"), content.get("activation_state_dict") or {}
    after = state.get("postact_fn", "ReLU")
    if activation not in ("ReLU", "TopK") or after != "ReLU":
        raise SAEFormatError(
            f"{path}: the activation {activation} followed by {after} isn't supported; accepted are ReLU, "
            "and TopK with ReLU."
        )
    if activation == "ReLU":
        return stored
    return replace(stored, activation="topk", k=require_int(state, "k", path), input_norm="layer_norm")


FORMAT = Format("openai", "a .pt with pre_bias, latent_bias, encoder.weight, decoder.weight", recognises, read)
