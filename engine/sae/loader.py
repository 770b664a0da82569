"""Load a sparse autoencoder of any known format, and check that it fits a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tiller.engine.errors import SAEFormatError
from tiller.kernels.sae import SAE, ActivationKind

from .formats import StoredSAE, recognise
from .formats.canonical import Activation, canonical, choose_activation
from .formats.files import Weights, read_safetensors
from .formats.hooks import Place
from .source import locate

MAX_ACT_NAME = "tiller_max_act.safetensors"


@dataclass(frozen=True, kw_only=True)
class SAEDescription:
    """What an SAE's files say of it, known without reading the large tensors."""

    format: str
    path: Path  # the folder, or the file where a folder holds several SAEs
    d_model: int
    d_sae: int
    activation: ActivationKind
    k: int | None  # TopK only
    layer: int | None  # of resid_post, as the files say, if they do
    file_layer: int | None  # as the files number it apart from the hook
    hook: str | None  # where it reads, in the words of its files
    place: Place | None  # what `hook` means
    model: str | None  # as the files say, if they do
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class LoadedSAE:
    """A dictionary in canonical form, and where it came from."""

    sae: SAE
    format: str
    path: Path
    layer: int | None
    file_layer: int | None
    hook: str | None
    place: Place | None
    model: str | None
    notes: list[str]

    @property
    def d_model(self) -> int:
        return self.sae.d_model

    @property
    def d_sae(self) -> int:
        return self.sae.d_sae


def load_sae(
    path: str | Path,
    subfolder: str | None = None,
    layer: int | None = None,
    activation: Activation = "auto",
) -> LoadedSAE:
    """Read the SAE at `path`, a folder, a file or a hub id, into canonical form on the CPU.

    layer: which one, where a folder holds several.
    activation: see `choose_activation`; "auto" reads BatchTopK as the threshold that its file stores.
    Raises SAEFormatError if nothing is there, or if it can't be read.
    """
    name, stored = _stored(path, subfolder, layer, activation)
    return LoadedSAE(
        sae=canonical(stored, _read_max_act(stored)),
        format=name,
        **_stated(stored),
    )


def describe_sae(
    path: str | Path,
    subfolder: str | None = None,
    layer: int | None = None,
    activation: Activation = "auto",
) -> SAEDescription:
    """As `load_sae`, without the dictionary: cheap, except that an npz archive has to be read whole."""
    name, stored = _stored(path, subfolder, layer, activation)
    return SAEDescription(
        format=name,
        d_model=stored.d_model,
        d_sae=stored.d_sae,
        activation=stored.activation,
        k=stored.k if stored.activation == "topk" else None,
        **_stated(stored),
    )


def check_fits(sae: LoadedSAE | SAEDescription, hidden_size: int, num_layers: int, layer: int) -> None:
    """Raise SAEFormatError unless `sae` can steer after block `layer` of a model of this shape."""
    if sae.d_model != hidden_size:
        trained = f" (it was trained on {sae.model})" if sae.model else ""
        raise SAEFormatError(
            f"{sae.path} is for a residual stream of width {sae.d_model}, the model's is {hidden_size}{trained}; "
            "take an SAE of this model."
        )
    if not 0 <= layer < num_layers:
        raise SAEFormatError(f"layer is {layer}, the model has layers 0 to {num_layers - 1}.", field="layer")


def max_act_path(sae_path: Path) -> Path:
    """Where `tiller features calibrate` keeps the largest activations of the SAE at `sae_path` (`LoadedSAE.path`)."""
    return sae_path / MAX_ACT_NAME if sae_path.is_dir() else sae_path.with_name(f"{sae_path.name}.{MAX_ACT_NAME}")


def _stored(
    path: str | Path, subfolder: str | None, layer: int | None, activation: Activation
) -> tuple[str, StoredSAE]:
    location = locate(path, subfolder, layer)
    if location.is_file() and (location.suffix in (".safetensors", ".npz") or location.name == "ae.pt"):
        location = location.parent
    format_ = recognise(location)
    stored = format_.read(location, layer)
    if stored.hook_out not in (None, stored.hook):
        raise SAEFormatError(
            f"{stored.path}: a transcoder from {stored.hook} to {stored.hook_out} can't steer; take an SAE that reads and "
            "writes one place, resid_post."
        )
    return format_.name, choose_activation(stored, activation)


def _stated(stored: StoredSAE) -> dict[str, Any]:
    """What the files say of the SAE besides its numbers."""
    names = ("path", "layer", "file_layer", "hook", "place", "model")
    return {name: getattr(stored, name) for name in names} | {"notes": list(stored.notes)}


def _read_max_act(stored: StoredSAE) -> Tensor | None:
    path = max_act_path(stored.path)
    if not path.is_file():
        return None
    weights = Weights(path, read_safetensors(path))
    weights.bind(d_sae=stored.d_sae)
    return weights.take("max_act", "d_sae").float().clone()
