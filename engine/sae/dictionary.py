"""A dictionary seen from its weights alone: decoder norms, neighbours, and what calibration recorded."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tiller.engine.build_inventory import make_plan
from tiller.engine.config import Config
from tiller.engine.errors import SpecError
from tiller.engine.inventory import Plan, SAEEntry

from .loader import LoadedSAE, describe_sae, load_sae, max_act_path


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One row of a dictionary as its weights show it."""

    id: int
    decoder_norm: float
    encoder_bias: float
    max_act: float | None  # as recorded by `tiller features calibrate`
    nearest: list[tuple[int, float]]  # ids and cosines of the decoder rows closest to this one

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_sae(plan: Plan, name: str) -> SAEEntry:
    """Raises SpecError where `plan` has no SAE of that name."""
    if name not in plan.saes:
        raise SpecError(f"unknown SAE {name!r}; this config has: {', '.join(sorted(plan.saes)) or 'none'}", "sae")
    return plan.saes[name]


def num_readable(plan: Plan, sae: str) -> int:
    """How many features a token can report: all that a TopK SAE lets be active, else the engine's limit.

    Raises SpecError for an unknown SAE.
    """
    entry = find_sae(plan, sae)
    k = describe_sae(entry.path, layer=entry.layer, activation=entry.activation).k
    return min(entry.d_sae, plan.max_top, k or plan.max_top)


def load_entry(entry: SAEEntry) -> LoadedSAE:
    """The SAE of a plan, on the CPU. Raises TillerError where it can't be read."""
    return load_sae(entry.path, layer=entry.layer, activation=entry.activation)


def load_dictionary(config: Config, name: str) -> LoadedSAE:
    """The SAE `name` of `config`, on the CPU.

    Raises TillerError where there is none, or where it can't be read.
    """
    return load_entry(find_sae(make_plan(config), name))


def without_encoder(loaded: LoadedSAE) -> LoadedSAE:
    """The same for what this file tells, in half the memory: it can't encode."""
    return replace(loaded, sae=replace(loaded.sae, W_enc=loaded.sae.W_dec))


def decoder_norms(loaded: LoadedSAE) -> Tensor:
    """norm(W_dec[i]) for every feature, [d_sae]."""
    return loaded.sae.W_dec.float().norm(dim=-1)


def describe_feature(loaded: LoadedSAE, feature: int, num_nearest: int = 8) -> Feature:
    """Raises SpecError where `feature` is no row of the dictionary."""
    if not 0 <= feature < loaded.d_sae:
        raise SpecError(f"feature {feature} is out of range; this SAE has 0 to {loaded.d_sae - 1}", "feature")
    norms, recorded = decoder_norms(loaded), recorded_statistics(loaded).get("max_act")
    W_dec = loaded.sae.W_dec.float()
    cosines = W_dec @ W_dec[feature] / (norms * norms[feature]).clamp(min=1e-12)
    cosines[feature] = -torch.inf
    best = cosines.topk(min(num_nearest, loaded.d_sae - 1))
    return Feature(
        id=feature,
        decoder_norm=float(norms[feature]),
        encoder_bias=float(loaded.sae.b_enc[feature]),
        max_act=None if recorded is None else float(recorded[feature]),
        nearest=list(zip(best.indices.tolist(), best.values.tolist(), strict=True)),
    )


def feature_columns(loaded: LoadedSAE) -> dict[str, Tensor]:
    """What is known of every feature, each [d_sae]; max_act and density only where calibration recorded them."""
    columns = {
        "id": torch.arange(loaded.d_sae),
        "norm": decoder_norms(loaded),
        "bias": loaded.sae.b_enc,
    }
    return columns | recorded_statistics(loaded)


def recorded_statistics(loaded: LoadedSAE) -> dict[str, Tensor]:
    """max_act and density as calibration left them beside the SAE; empty where it never ran."""
    file = max_act_path(loaded.path)
    if not file.exists():
        return {}
    tensors = load_file(file)
    return {name: tensors[name].float() for name in ("max_act", "density") if name in tensors}
