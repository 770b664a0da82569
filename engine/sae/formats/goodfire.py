"""Goodfire: one pickled state dict of two linear layers around a ReLU."""

from pathlib import Path

from .files import Weights, tensors_of
from .pickles import holds, the_one
from .stored import Format, StoredSAE

_KEYS = ("encoder_linear.weight", "decoder_linear.weight")


def recognises(location: Path) -> bool:
    return holds(location, *_KEYS)


def read(location: Path, layer: int | None) -> StoredSAE:
    path, content = the_one(location, *_KEYS)
    weights = Weights(path, tensors_of(content))
    return StoredSAE(
        path=location,
        W_enc=weights.take("encoder_linear.weight", "d_sae", "d_model"),
        W_dec=weights.take("decoder_linear.weight", "d_model", "d_sae").T,
        b_enc=weights.take("encoder_linear.bias", "d_sae"),
        b_dec=weights.take("decoder_linear.bias", "d_model"),
        activation="relu",
        centred=False,
    )


FORMAT = Format("goodfire", "a .pt or .pth with encoder_linear and decoder_linear", recognises, read)
