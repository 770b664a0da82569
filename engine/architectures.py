"""Model families that can be steered: where vLLM keeps their class and what their decoder layers return."""

from typing import Literal, NamedTuple

from .errors import UnsupportedError

# What a decoder layer returns, with x the residual stream after it:
#   pair    (hidden, residual), x = hidden + residual
#   summed  (hidden, residual), x = hidden: the pair must not be added up
#   single  x
Convention = Literal["pair", "summed", "single"]


class Architecture(NamedTuple):
    """Where vLLM keeps a model class and what its decoder layers return."""

    module: str
    convention: Convention = "pair"
    layers: str = "model.layers"
    name: str | None = None  # vLLM's class, where it is spelled otherwise


ARCHITECTURES = {
    "Gemma2ForCausalLM": Architecture("gemma2"),
    "Gemma3ForCausalLM": Architecture("gemma3"),
    "GemmaForCausalLM": Architecture("gemma"),
    "GPT2LMHeadModel": Architecture("gpt2", "single", "transformer.h"),
    "LlamaForCausalLM": Architecture("llama"),
    "MistralForCausalLM": Architecture("mistral"),
    "Phi3ForCausalLM": Architecture("phi3"),
    "Qwen2ForCausalLM": Architecture("qwen2"),
    "Qwen2MoeForCausalLM": Architecture("qwen2_moe"),
    "Qwen3ForCausalLM": Architecture("qwen3"),
    "Qwen3MoeForCausalLM": Architecture("qwen3_moe"),
    "StableLmForCausalLM": Architecture("stablelm", "summed", name="StablelmForCausalLM"),
}

# Words by which the names of models tell their families apart, as in `google/gemma-2-2b`.
FAMILIES = (
    "gemma", "gpt2", "gpt-neo", "gpt-oss", "granite", "llama", "mistral", "olmo", "phi", "pythia", "qwen", "stablelm",
)  # fmt: skip


def check_architecture(architectures: list[str]) -> str:
    """The one of `architectures` that can be steered.

    Raises UnsupportedError where there is none: a layer of an unknown family may return a sum or a branch.
    """
    for architecture in architectures:
        if architecture in ARCHITECTURES:
            return architecture
    raise UnsupportedError(
        f"model architecture {architectures} can't be steered; supported: {', '.join(ARCHITECTURES)}. "
        "A family whose layers return (hidden, residual) takes one line in tiller/engine/architectures.py."
    )
