"""From a config to a Plan: find every SAE and vector, and check them against the model before any worker starts."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from .architectures import check_architecture
from .config import Config, SAEConfig, VectorConfig
from .errors import ConfigError, TillerError
from .inventory import Plan, SAEEntry, VectorEntry
from .sae.loader import check_fits, describe_sae
from .sae.model_names import names_of
from .sae.position import find_position, model_doubts
from .sae.vector import load_vector, vector_version

log = logging.getLogger(__name__)


def make_plan(config: Config, capture: bool = False) -> Plan:
    """What the engine of `config` will steer.

    Raises TillerError where the model can't be steered, an SAE or vector can't be read, or one doesn't fit the model.
    """
    model = config.resolve(config.model)
    settings = model_settings(model)
    shape, names = _shape(settings), names_of(model, settings)
    saes, vectors = {}, {}
    for name, sae in config.saes.items():
        with _errors_of(f"saes.{name}"):
            saes[name] = _sae_entry(config, sae, settings, names)
            _print_doubts(f"saes.{name}", tuple(saes[name].doubts))
            _check_labels(config.labels(name), saes[name].d_sae)
    layers = {sae.layer for sae in saes.values()}
    for name, vector in config.vectors.items():
        with _errors_of(f"vectors.{name}"):
            vectors[name] = _vector_entry(config, vector, shape, layers)
    plan = Plan(saes=saes, vectors=vectors, capture=capture)
    for name in config.profiles:
        plan.check(config.profile(name), f"profiles.{name}")
    return plan


def model_shape(model: str) -> tuple[int, int]:
    """(hidden size, number of layers) of a folder or hub id; raises as `model_settings` does."""
    return _shape(model_settings(model))


def model_settings(model: str) -> Any:
    """The transformers configuration of a folder or hub id.

    Raises ConfigError where there is no such model, UnsupportedError where its architecture can't be steered.
    """
    try:
        config: Any = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {model!r} can't be read: {str(error).splitlines()[0]}", "model") from None
    check_architecture(config.architectures or [type(config).__name__])
    return config


def _shape(settings: Any) -> tuple[int, int]:
    text = settings.get_text_config()
    return text.hidden_size, text.num_hidden_layers


@contextmanager
def _errors_of(field: str) -> Iterator[None]:
    """Errors inside name the config's key, whatever part of a file they are about."""
    try:
        yield
    except TillerError as error:
        raise type(error)(error.message, field) from None


@cache
def _print_doubts(field: str, doubts: tuple[str, ...]) -> None:
    """Writes each doubt once a process: on stderr, and so in a server's log."""
    for doubt in doubts:
        log.warning("warning: %s: %s", field, doubt)


def _sae_entry(config: Config, entry: SAEConfig, settings: Any, names: list[str]) -> SAEEntry:
    path = config.resolve(entry.path)
    found = describe_sae(path, entry.subfolder, entry.layer, entry.activation)
    position = find_position(found, entry.site, entry.layer)
    check_fits(found, *_shape(settings), position.layer)
    doubts = model_doubts(found, names, settings.model_type, entry.trained_on)
    return SAEEntry(
        path=str(Path(found.path).absolute()),  # not resolved: a hub cache links to blobs without names
        layer=position.layer,
        activation=entry.activation,
        d_sae=found.d_sae,
        d_model=found.d_model,
        format=found.format,
        source=position.source,
        doubts=[*position.doubts, *doubts],
    )


def _check_labels(labels: dict[int, str], d_sae: int) -> None:
    wrong = next((feature for feature in labels if feature >= d_sae), None)
    if wrong is not None:
        raise ConfigError(f"there is a label of feature {wrong}; this SAE has 0 to {d_sae - 1}")


def _vector_entry(config: Config, entry: VectorConfig, shape: tuple[int, int], sae_layers: set[int]) -> VectorEntry:
    path = Path(config.resolve(entry.path)).resolve()
    vector, own_layer = load_vector(path)
    layer = entry.layer if entry.layer is not None else own_layer
    if layer is None and len(sae_layers) == 1:
        layer = next(iter(sae_layers))
    if layer is None:
        raise ConfigError("neither its file nor the config says which layer it belongs to; give `layer`")
    hidden_size, num_layers = shape
    if len(vector) != hidden_size:
        raise ConfigError(f"it has {len(vector)} entries, the model's residual stream has {hidden_size}")
    if not 0 <= layer < num_layers:
        raise ConfigError(f"layer is {layer}, the model has layers 0 to {num_layers - 1}")
    return VectorEntry(path=str(path), layer=layer, version=vector_version(vector, layer), norm=float(vector.norm()))
