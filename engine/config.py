"""Configs: a YAML file, or the name of one that ships in `tiller.configs`, checked and turned into a Plan."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from .errors import ConfigError
from .spec import Name, SteeringSpec, parse_spec
from .suggestion import suggestion

Labels = dict[Annotated[int, Field(ge=0)], str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SAEConfig(_Strict):
    """Where an SAE is and where in the model it belongs; None: as its files say."""

    path: str  # a folder, a file or a hub id
    subfolder: str | None = None
    layer: int | None = None
    site: Literal["resid_post", "resid_pre"] | None = None  # resid_pre of a layer is resid_post of the one before
    trained_on: str | None = None  # the model, confirmed where its name differs from the engine's
    activation: Literal["auto", "topk", "threshold"] | dict[Literal["topk", "threshold"], float] = "auto"
    labels: Labels | str = {}  # what features mean, by id, or a JSON file of that


class VectorConfig(_Strict):
    """Where a steering vector is; its layer may stand in the file."""

    path: str
    layer: int | None = None


class SamplingDefaults(_Strict):
    """What a profile answers with where a request doesn't say; `max_tokens` also caps what it does say."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class Config(_Strict):
    """One engine: the model, what steers it, named profiles, and vLLM's own arguments."""

    model: str
    saes: dict[Name, SAEConfig] = {}
    vectors: dict[Name, VectorConfig] = {}
    profiles: dict[Name, dict[str, Any]] = {}
    engine: dict[str, Any] = Field(default={}, description="any vLLM engine argument")
    evaluation: dict[str, Any] = Field(default={}, description="read and checked by tiller.evaluation alone")
    base: Path | None = Field(default=None, exclude=True)  # folder that relative paths start from

    @field_validator("vectors", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"path": entry} if isinstance(entry, str) else entry for name, entry in value.items()}

    @classmethod
    def checked(cls, body: dict[str, Any], where: str, base: Path | None = None) -> "Config":
        """The config in `body`, its profiles too.

        Raises ConfigError naming the key where one is unknown or wrong.
        """
        try:
            config = cls(**body, base=base)
        except (ValidationError, TypeError) as error:
            raise ConfigError(f"{where}: {_first(error)}") from None
        for profile in config.profiles:
            config.profile(profile)
            config.profile_defaults(profile)
        return config

    def profile(self, name: str) -> SteeringSpec:
        """The spec of a named profile.

        Raises ConfigError where there is none.
        """
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none"
            raise ConfigError(f"unknown profile {name!r}; this config has: {known}", "profile")
        return parse_spec(self.profile_body(name), f"profiles.{name}")

    def profile_body(self, name: str) -> dict[str, Any]:
        """The `steering` object of a profile as it was written."""
        return {key: value for key, value in self.profiles[name].items() if key != "defaults"}

    def profile_defaults(self, name: str) -> SamplingDefaults:
        """The sampling that a profile brings along for the server's clients."""
        try:
            return SamplingDefaults(**self.profiles[name].get("defaults", {}))
        except (ValidationError, TypeError) as error:
            raise ConfigError(_first(error), f"profiles.{name}.defaults") from None

    def labels(self, sae: str) -> dict[int, str]:
        """What the features of an SAE mean, by id, where the config says.

        Raises ConfigError where they stand in a file that is no JSON object of texts by id.
        """
        given = self.saes[sae].labels
        if not isinstance(given, str):
            return given
        try:
            return TypeAdapter(Labels).validate_json(Path(self.resolve(given)).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{given}: {_first(error)}", f"saes.{sae}.labels") from None

    def vllm_arguments(self) -> dict[str, Any]:
        """`engine` and the model as `vllm.LLM` takes them, paths resolved."""
        arguments = {**self.engine, "model": self.resolve(self.model)}
        if "tokenizer" in arguments:
            arguments["tokenizer"] = self.resolve(arguments["tokenizer"])
        return arguments

    def resolve(self, path: str) -> str:
        """`path` from the config's own folder where that exists, else as it stands (another place, or a hub id)."""
        own = None if self.base is None else self.base / path
        return str(own) if own is not None and own.exists() else path


def load_config(name_or_path: str | Path) -> Config:
    """The config in a YAML file, or the shipped one of that name.

    Raises ConfigError naming the key where the file is missing, is no YAML, or has unknown or wrong keys.
    """
    file = _find(name_or_path)
    try:
        body = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}") from None
    if not isinstance(body, dict):
        raise ConfigError(f"{file} must hold a mapping with at least `model`")
    return Config.checked(body, str(file), file.parent)


def shipped_configs() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(Path(str(entry)).stem for entry in files("tiller.configs").iterdir() if entry.name.endswith(".yaml"))


def _find(name_or_path: str | Path) -> Path:
    shipped = Path(str(files("tiller.configs"))) / f"{name_or_path}.yaml"
    for candidate in (Path(name_or_path), shipped):
        if candidate.is_file():
            return candidate.resolve()
    raise ConfigError(f"no config {str(name_or_path)!r}; give a YAML file or one of: {', '.join(shipped_configs())}")


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    errors = error.errors(include_url=False, include_context=False)
    # An unknown key before anything else: what is missing is often the key that was misspelt.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path, message = ".".join(map(str, first["loc"])), first["msg"]
    if first["type"] == "extra_forbidden":
        entries: dict[Any, type[_Strict]] = {"saes": SAEConfig, "vectors": VectorConfig}
        owner = Config if len(first["loc"]) == 1 else entries[first["loc"][0]]
        if error.title == SamplingDefaults.__name__:
            owner = SamplingDefaults
        allowed = [name for name in owner.model_fields if name != "base"]
        message = f"unknown key; allowed: {', '.join(allowed)}{suggestion(first['loc'][-1], allowed)}"
    return f"{path}: {message}"
