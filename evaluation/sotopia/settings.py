"""What a config says under `evaluation`: the protocol, where the data is, the judges, and endpoints that agents
and judges may be."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tiller.engine.config import Config
from tiller.engine.errors import ConfigError
from tiller.engine.spec import Name

from .judge_settings import JudgeConfig
from .protocol import Protocol


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointConfig(_Strict):
    """An OpenAI-compatible endpoint; the key itself stays in the environment variable `key_env`."""

    url: str = Field(pattern=r"^https?://")  # up to and with /v1
    model: str
    key_env: str | None = None
    requests_per_minute: Annotated[float | None, Field(gt=0)] = None
    max_in_flight: Annotated[int, Field(ge=1)] = 64
    timeout: Annotated[float, Field(gt=0)] = 120.0  # seconds for one answer
    max_attempts: Annotated[int, Field(ge=1)] = 5
    give_up_after: Annotated[float, Field(gt=0)] = 1800.0  # seconds without any answer that end the run
    structured: bool = True  # whether it takes response_format json_schema
    extra_body: dict[str, Any] = {}  # further fields of every request; null leaves out one that we would send

    @field_validator("extra_body")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted({"messages", "model", "n", "steering", "stream", "response_format"} & value.keys()):
            raise ValueError(f"{', '.join(taken)} can't be set here")
        return value


class EvaluationSettings(_Strict):
    """Defaults of the evaluation commands."""

    protocol: Protocol = Protocol()
    data: str | None = None  # folder of profile files; None: the set that ships
    endpoints: dict[Name, EndpointConfig] = {}
    judges: dict[Name, JudgeConfig] = {}


def settings_of(config: Config) -> EvaluationSettings:
    """Raises ConfigError naming the key of `evaluation` that is unknown or wrong."""
    try:
        return EvaluationSettings(**config.evaluation)
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(str(error), "evaluation") from None
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(["evaluation", *map(str, first["loc"])])
        raise ConfigError(first["msg"], path) from None
