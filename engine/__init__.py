"""Steering inside stock vLLM: per request, at full speed, with a receipt for every answer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config, load_config
    from .errors import ConfigError, SAEFormatError, SpecError, TillerError, UnsupportedError
    from .llm import SteeredLLM
    from .receipt import FeatureReport, Receipt, UnsteeredError
    from .spec import SteeringSpec, parse_spec

_HOME = {
    "Config": "config",
    "ConfigError": "errors",
    "FeatureReport": "receipt",
    "Receipt": "receipt",
    "SAEFormatError": "errors",
    "SpecError": "errors",
    "SteeredLLM": "llm",
    "SteeringSpec": "spec",
    "TillerError": "errors",
    "UnsteeredError": "receipt",
    "UnsupportedError": "errors",
    "load_config": "config",
    "parse_spec": "spec",
}

__all__ = [
    "Config",
    "ConfigError",
    "FeatureReport",
    "Receipt",
    "SAEFormatError",
    "SpecError",
    "SteeredLLM",
    "SteeringSpec",
    "TillerError",
    "UnsteeredError",
    "UnsupportedError",
    "load_config",
    "parse_spec",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: vLLM loads this package in every process, torch or not."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
