"""What a run consists of: units, each one episode (or one prompt) under one arm, named by all that decides its outcome."""

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .profiles import Scene
from .protocol import Protocol

Seat = Literal["first", "second", "both"]
STEERED_SEATS: dict[Seat, tuple[int, ...]] = {"first": (0,), "second": (1,), "both": (0, 1)}


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def digest(content: Any) -> str:
    """SHA-256 of JSON data, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Arm(_Frozen):
    """One treatment. `steering` None is the unsteered baseline; alpha 0 of a target keeps its own arm, which must equal it."""

    name: str
    steering: dict[str, Any] | None = None
    target: str | None = None  # what a sweep varies: the feature, vector or profile
    alpha: float | None = None


UNSTEERED = Arm(name="unsteered")


class Unit(_Frozen):
    """One episode of a scene, or one answer to a prompt, under one arm.

    models: what answers at each seat and by which sampling, as far as it decides the text (model, revision, endpoint).
    """

    scene: Scene | None = None
    prompt: list[dict[str, Any]] | None = None  # chat messages; the answer is one free text of seat 0
    protocol: Protocol
    arm: Arm
    seat: Seat = "first"  # which seats the arm steers
    seed: int = 0
    models: tuple[str, str] = Field(default=("", ""))

    @model_validator(mode="after")
    def _one_kind(self) -> "Unit":
        assert (self.scene is None) != (self.prompt is None), "a unit is either an episode or a prompt"
        return self

    @cached_property
    def unit_id(self) -> str:
        """Changes with everything that can change the outcome, and with nothing else."""
        return digest(self.model_dump(mode="json"))

    @cached_property
    def pair_id(self) -> str:
        """Equal for units that differ in their arm alone: what is compared within, and what seeds the sampling."""
        return digest(self.model_dump(mode="json", exclude={"arm"}))

    @property
    def cluster(self) -> str:
        """What statistics resample whole: the environment, or the prompt."""
        return self.scene.environment.pk if self.scene is not None else digest(self.prompt)[:16]

    def turn_seed(self, turn: int) -> int:
        """Seed of the sampling at `turn` (from 0), alike in every arm: 63 bits of the pair and the turn."""
        return int(digest([self.pair_id, turn])[:16], 16) >> 1

    def steering_of(self, seat: int) -> dict[str, Any] | None:
        """What steers the agent at `seat`."""
        return self.arm.steering if seat in STEERED_SEATS[self.seat] else None
