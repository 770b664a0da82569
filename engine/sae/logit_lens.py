"""The tokens that a direction of the residual stream speaks for, read off the model's own files."""

from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig
from transformers.utils import cached_file

from tiller.engine.errors import ConfigError

NORM_NAMES = ("model.norm.weight", "transformer.ln_f.weight")
UNEMBEDDING_NAMES = ("lm_head.weight", "model.embed_tokens.weight", "transformer.wte.weight")
CENTRED = ("gpt2", "stablelm")  # a LayerNorm takes the mean away; the other families have an RMSNorm


def logit_lens(model: str, direction: Tensor) -> Tensor:
    """Change of each token's logit per unit of `direction` [d_model], up to the final norm's scale: [vocab_size].

    The direction goes straight through the final norm's weight and the unembedding (nostalgebraist, "interpreting GPT:
    the logit lens", 2020); layers in between are left out, so late layers are told better than early ones.
    Raises ConfigError where the model's files don't hold these tensors.
    """
    family = AutoConfig.from_pretrained(model).get_text_config().model_type
    weight = read_weight(model, NORM_NAMES).float()
    if family.startswith("gemma"):
        weight = weight + 1
    if family.startswith(CENTRED):
        direction = direction - direction.mean()
    return read_weight(model, UNEMBEDDING_NAMES).float() @ (direction * weight)


def spoken_ids(logits: Tensor, num: int) -> tuple[list[int], list[int]]:
    """Ids of the tokens that `logits` promote and suppress most, `num` of each, the strongest first."""
    num = min(num, len(logits))
    return logits.topk(num).indices.tolist(), (-logits).topk(num).indices.tolist()


def read_weight(model: str, names: tuple[str, ...]) -> Tensor:
    """The first of the tensors `names` that the safetensors files of a model (folder or hub id) hold.

    Raises ConfigError where there is none.
    """
    files = weight_files(model)
    for name in names:
        for file in files:
            with safe_open(file, framework="pt") as weights:
                if name in weights.keys():
                    return weights.get_tensor(name)
    raise ConfigError(f"its safetensors files hold none of: {', '.join(names)}", model)


def weight_files(model: str) -> list[Path]:
    """Every safetensors file of a model (folder, or hub id in the local cache)."""
    config = cached_file(model, "config.json")
    assert config is not None
    files = sorted(Path(config).parent.glob("*.safetensors"))
    if not files:
        raise ConfigError("it has no safetensors files", model)
    return files
