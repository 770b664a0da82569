"""A dictionary as its file states it: Tiller's names and orientation, but nothing folded or computed yet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tiller.kernels.sae import ActivationKind, InputNorm

from .hooks import Place, place_of


@dataclass(frozen=True, kw_only=True)
class StoredSAE:
    """`pre = W_enc (c x - centred * b_dec) + b_enc`, `decode(f) = (f W_dec + b_dec) / c`, c = `input_scale`.

    Tensors may still be mapped to the file and keep its dtype. `k` and `threshold` are what the file offers, also where
    its own activation uses only one of them.
    """

    path: Path  # the folder, or the file where a folder holds several
    W_enc: Tensor  # [d_sae, d_model]
    W_dec: Tensor  # [d_sae, d_model]
    b_enc: Tensor  # [d_sae]; the gate's bias for a gated SAE
    b_dec: Tensor  # [d_model]
    activation: ActivationKind
    centred: bool
    k: int | None = None
    threshold: Tensor | float | None = None  # [d_sae] or one value
    r_mag: Tensor | None = None  # [d_sae], gated: magnitude = exp(r_mag) W_enc (x - b_dec) + b_mag
    b_mag: Tensor | None = None  # [d_sae], gated
    input_norm: InputNorm = "none"
    input_scale: float = 1.0
    decoder_norm_in: bool = False  # pre is multiplied by norm(W_dec[i]) and W_dec[i] divided by it
    hook: str | None = None  # where it reads, in the words of its files
    hook_out: str | None = None  # where it writes, if its files say so
    file_layer: int | None = None  # where its files or their folders number the layer apart from the hook
    model: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> Place | None:
        """What `hook` means; None where the files name no hook, or one of another form."""
        return place_of(self.hook) if self.hook else None

    @property
    def layer(self) -> int | None:
        """The decoder layer whose resid_post it reads, as its files say; None where they don't, or name another site."""
        if self.hook is None:
            return self.file_layer
        place = self.place
        if place is None or place.layer is not None:
            return None if place is None else place.residual_layer
        return place._replace(layer=self.file_layer).residual_layer

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[1]


@dataclass(frozen=True)
class Format:
    """How one project stores its SAEs. `location` is a folder, or one file of a folder that holds several SAEs."""

    name: str
    layout: str  # what the folder must hold, for error messages
    recognises: Callable[[Path], bool]
    read: Callable[[Path, int | None], StoredSAE]
