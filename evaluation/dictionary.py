"""A dictionary seen from its weights alone: decoder norms, neighbours, and the tokens that a feature speaks for."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import cached_file

from tiller.engine.config import Config
from tiller.engine.errors import SpecError
from tiller.engine.plan import Plan, SAEEntry
from tiller.engine.planner import make_plan
from tiller.engine.sae_loader import LoadedSAE, load_sae, max_act_path

from .inputs import InputError

NORM_NAMES = ("model.norm.weight", "transformer.ln_f.weight")
UNEMBEDDING_NAMES = ("lm_head.weight", "model.embed_tokens.weight", "transformer.wte.weight")
CENTRED = ("gpt2", "stablelm")  # a LayerNorm takes the mean away; the other families have an RMSNorm


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


def load_dictionary(config: Config, name: str) -> LoadedSAE:
    """The SAE `name` of `config`, on the CPU.

    Raises TillerError where there is none, or where it can't be read.
    """
    entry = find_sae(make_plan(config), name)
    return load_sae(entry.path, layer=entry.layer, activation=entry.activation)


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


def logit_lens(model: str, direction: Tensor) -> Tensor:
    """Change of each token's logit per unit of `direction` [d_model], up to the final norm's scale: [vocab_size].

    The direction goes straight through the final norm's weight and the unembedding (nostalgebraist, "interpreting GPT:
    the logit lens", 2020); layers in between are left out, so late layers are told better than early ones.
    """
    family = AutoConfig.from_pretrained(model).get_text_config().model_type
    weight = read_weight(model, NORM_NAMES).float()
    if family.startswith("gemma"):
        weight = weight + 1
    if family.startswith(CENTRED):
        direction = direction - direction.mean()
    return read_weight(model, UNEMBEDDING_NAMES).float() @ (direction * weight)


def read_weight(model: str, names: tuple[str, ...]) -> Tensor:
    """The first of the tensors `names` that the safetensors files of a model (folder or hub id) hold.

    Raises InputError where there is none.
    """
    files = weight_files(model)
    for name in names:
        for file in files:
            with safe_open(file, framework="pt") as weights:
                if name in weights.keys():
                    return weights.get_tensor(name)
    raise InputError(f"its safetensors files hold none of: {', '.join(names)}", model)


def weight_files(model: str) -> list[Path]:
    """Every safetensors file of a model (folder, or hub id in the local cache)."""
    config = cached_file(model, "config.json")
    assert config is not None
    files = sorted(Path(config).parent.glob("*.safetensors"))
    if not files:
        raise InputError("it has no safetensors files", model)
    return files


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


def spoken_tokens(config: Config, loaded: LoadedSAE, feature: int, num: int) -> tuple[list[str], list[str]]:
    """The tokens that adding the feature promotes and suppresses most, by `logit_lens`."""
    arguments = config.vllm_arguments()
    tokenizer = AutoTokenizer.from_pretrained(arguments.get("tokenizer", arguments["model"]))
    logits = logit_lens(arguments["model"], loaded.sae.W_dec[feature].float())[: len(tokenizer)]

    def words(ids: Tensor) -> list[str]:
        return [str(tokenizer.decode([i])) for i in ids.tolist()]

    return words(logits.topk(num).indices), words((-logits).topk(num).indices)
