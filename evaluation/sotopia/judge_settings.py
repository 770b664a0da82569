"""What a config says of a judge, by its kind."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tiller.engine.spec import Name

Order = Literal["seats", "swapped", "both"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _AskingConfig(_Strict):
    """A judge that asks a language model. `endpoint` None: the config's own model, unsteered."""

    endpoint: Name | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=16)] = 4096
    max_reasoning_chars: Annotated[int | None, Field(ge=1)] = 600  # longest reason for one score; None: no bound
    in_flight: Annotated[int, Field(ge=1)] = 64  # units judged at a time


class SotopiaConfig(_AskingConfig):
    """Sotopia's seven dimensions. `order`: which agent is named first; `both` asks twice and scores the mean."""

    kind: Literal["sotopia"] = "sotopia"
    order: Order = "seats"


class SaeTsConfig(_AskingConfig):
    """SAE-TS: how much of a behaviour a text shows, and how coherent it is."""

    kind: Literal["sae_ts"] = "sae_ts"
    behaviour: str = Field(min_length=1)  # a sentence that is true of a text with the behaviour
    max_tokens: Annotated[int, Field(ge=16)] = 64


class AxbenchConfig(_AskingConfig):
    """AxBench: concept, instruction and fluency."""

    kind: Literal["axbench"] = "axbench"
    concept: str = Field(min_length=1)
    max_tokens: Annotated[int, Field(ge=16)] = 512


class LexicalConfig(_Strict):
    """Words of a trait. `lexicon` None: the demo's French and tone; else a JSON file of word lists."""

    kind: Literal["lexical"] = "lexical"
    lexicon: str | None = None


class ClassifierConfig(_Strict):
    """A sequence classifier of Hugging Face: a folder or a hub id. `labels` empty: all that it has."""

    kind: Literal["classifier"] = "classifier"
    model: str
    revision: str | None = None
    labels: tuple[str, ...] = ()
    device: str = "cpu"


class FluencyConfig(_Strict):
    """Log-probability under the config's own model, unsteered."""

    kind: Literal["fluency"] = "fluency"


class RepetitionConfig(_Strict):
    """Counts that need no model: repetition, length, validity, why it stopped."""

    kind: Literal["repetition"] = "repetition"


AskingConfig = SotopiaConfig | SaeTsConfig | AxbenchConfig
JudgeConfig = Annotated[
    AskingConfig | LexicalConfig | ClassifierConfig | FluencyConfig | RepetitionConfig, Field(discriminator="kind")
]
