"""Engines of a true shape whose weights can't be had: a public model's config.json with vLLM's dummy weights, and an SAE of
any size made up for it.

    model_config("qwen2.5-7b", features=131072, k=64, activation="topk")  ->  a YAML file like any other config

Speed depends on shapes, dtypes and the number of active features, not on what the weights say. vLLM fills dummy weights
uniformly within 1e-3 of zero, so that the stream of all but Gemma is little more than the token's embedding; the SAE is
scaled to that, so that every token has pre-activations of standard deviation 1 and k active features, different ones
for different tokens. How many are active is measured and stands in the results.
"""

import hashlib
import json
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers

from tiller.engine.config import shipped_configs
from tiller.engine.errors import ConfigError, TillerError

Activation = Literal["topk", "threshold"]
DUMMY_RANGE = 1e-3  # vLLM's dummy weights are uniform in [-1e-3, 1e-3]
DUMMY_RMS = DUMMY_RANGE / 3**0.5


class Shape(NamedTuple):
    """Layer whose stream the SAE reads, and what is measured where nothing else is said."""

    layer: int
    features: int
    k: int
    stream_rms: float = DUMMY_RMS  # at that layer, under dummy weights


SHAPES = {
    "qwen2.5-0.5b": Shape(12, 16_384, 64),
    "qwen2.5-1.5b": Shape(15, 32_768, 64),
    "qwen2.5-7b": Shape(15, 131_072, 64),
    "llama-3.1-8b": Shape(19, 65_536, 91),
    "gemma-2-2b": Shape(12, 16_384, 82, 1.0),
}


def model_config(
    name: str, features: int | None = None, k: int | None = None, activation: Activation | None = None
) -> str:
    """`name` itself where it is a config's name or file; for a shape, the path of a config made for it.

    Raises TillerError where there is neither of that name, or an SAE is asked for beside a config, which has its own.
    """
    if name not in SHAPES:
        if not Path(name).is_file() and name not in shipped_configs():
            known = f"give a YAML file or one of: {', '.join(shipped_configs())}, or a shape: {', '.join(SHAPES)}"
            raise ConfigError(f"no config {name!r}; {known}")
        if (features, k, activation) != (None, None, None):
            raise TillerError(f"{name!r} has its own SAE; one can be made for: {', '.join(SHAPES)}", "--features")
        return name
    shape = SHAPES[name]
    features, k, activation = features or shape.features, k or shape.k, activation or "topk"
    if k >= features:
        raise TillerError(f"{k} given; it must be below the number of features, {features}", "--k")
    return str(materialise(name, features, k, activation, cache_folder()))


def cache_folder() -> Path:
    """Where made-up engines are kept, since a large dictionary takes minutes to write."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiller" / "shapes"


def shape_facts(name: str) -> dict[str, Any]:
    """The config.json of a shape."""
    return json.loads((Path(str(files("tiller.configs"))) / "shapes" / f"{name}.json").read_text())


def materialise(name: str, features: int, k: int, activation: Activation, cache: Path) -> Path:
    """Writes model, tokenizer, SAE and config of a shape below `cache`, unless they are there; returns the config's path."""
    facts, shape = shape_facts(name), SHAPES[name]
    made_of = json.dumps([facts, shape, features, k, activation, Path(__file__).read_text()])
    folder = cache / f"{name}-{features}-{k}-{activation}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"
    file = folder / "config.yaml"
    if not file.exists():  # written last
        _once(folder / "model" / "config.json", lambda path: path.write_text(json.dumps(facts, indent=2)))
        _once(folder / "tokenizer" / "tokenizer.json", lambda path: write_tokenizer(path, facts["vocab_size"]))
        write_sae(folder / "sae", facts["hidden_size"], features, k, activation, shape)
        _once(file, lambda path: path.write_text(yaml.safe_dump(engine_config(facts, shape))))
    return file


def engine_config(facts: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """The config of a shape, as its YAML file holds it."""
    engine = {"tokenizer": "tokenizer", "load_format": "dummy", "max_model_len": 4096, "max_num_batched_tokens": 8192}
    return {"model": "model", "saes": {"default": {"path": "sae", "layer": shape.layer}}, "engine": engine}


def _once(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    write(partial)
    partial.replace(path)


def write_tokenizer(path: Path, vocab_size: int) -> None:
    """A word for each token, t0 t1 ..., so that servers have something to decode with."""
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocab_size)}, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path))
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "t0", "eos_token": "t1"}
    (path.parent / "tokenizer_config.json").write_text(json.dumps(own))
    # Without a family transformers doesn't take the folder; this one's tokenizer.json is taken as it is.
    (path.parent / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


def write_sae(folder: Path, d_model: int, features: int, k: int, activation: Activation, shape: Shape) -> None:
    """Random, in the format of dictionary_learning: TopK, or BatchTopK with the threshold that leaves k features active."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(features, d_model, generator=generator, dtype=torch.float32).to(torch.bfloat16)
    scale = d_model**-0.5
    least = torch.special.ndtri(torch.tensor(1 - k / features, dtype=torch.float64))
    state = {
        "encoder.weight": directions * (scale / shape.stream_rms),
        "encoder.bias": torch.zeros(features),
        "decoder.weight": (directions * (scale * shape.stream_rms)).T,
        "b_dec": torch.zeros(d_model),
        "k": torch.tensor(k, dtype=torch.int32),
        "threshold": least.float(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "ae.pt")
    name = {"topk": "AutoEncoderTopK", "threshold": "BatchTopKSAE"}[activation]
    trainer = {"dict_class": name, "activation_dim": d_model, "dict_size": features, "k": k, "layer": shape.layer}
    trainer |= {"lm_name": "made up", "submodule_name": f"resid_post_layer_{shape.layer}"}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
