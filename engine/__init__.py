"""Steering inside stock vLLM: per request, at full speed, with a receipt for every answer."""

from .config import Config, load_config
from .errors import ConfigError, SAEFormatError, SpecError, TillerError, UnsupportedError
from .llm import SteeredLLM
from .receipt import FeatureReport, Receipt, UnsteeredError
from .spec import SteeringSpec, parse_spec

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
