"""The one form of a throughput result on disk: where it was measured, of what code, in what settings, and every sample."""

import statistics
import sys
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiller.engine.errors import TillerError

from .machine import HERE, busy_cores, code_digest, machine


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Machine(_Strict):
    """See `machine()`."""

    name: str
    gpu: str | None
    driver: str | None
    cpu: str
    cores: int
    python: str
    versions: dict[str, str | None]
    commit: str | None
    busy_cores: float | None = None  # by others, in the two seconds before the start


class ArmEntry(_Strict):
    """What was measured under `id`; `aim` is the share of the arm `against` that we want to keep."""

    id: str
    name: str
    against: str
    aim: float | None = None
    at_most: bool = False  # the aim is a ceiling: of a rival
    note: str = ""


class Sample(_Strict):
    """One round of one arm: `batch` requests at once, their output tokens and the seconds that all of them took."""

    round: int
    arm: str
    batch: int
    seconds: float
    tokens: int
    steered_tokens: int = 0
    cached_tokens: int = 0  # prompt tokens served from the prefix cache
    changed: float | None = None  # share of steered requests whose answer is not the unsteered one
    like_ours: float | None = None  # share of output tokens that are those of our engine for the same steering

    @property
    def rate(self) -> float:
        """Output tokens a second."""
        return self.tokens / self.seconds


class Failure(_Strict):
    """Why an arm has no samples, or no more."""

    arm: str
    batch: int
    error: str


class Record(_Strict):
    """A run of `tiller bench throughput` or `tiller bench rivals`, whole or cut short."""

    kind: Literal["throughput", "rivals"]
    machine: Machine
    command: str
    code: str
    settings: dict[str, Any]
    arms: list[ArmEntry] = []
    samples: list[Sample] = []
    failures: list[Failure] = []
    facts: dict[str, Any] = Field(default={}, description="what the engines say of themselves")

    @classmethod
    def begin(cls, kind: Literal["throughput", "rivals"], settings: dict[str, Any]) -> Self:
        """A record of this machine, this code and this command, without arms and samples."""
        place = Machine(**machine(), busy_cores=busy_cores())
        return cls(kind=kind, machine=place, command=command(), code=our_code(), settings=settings)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Raises TillerError where the file holds no such record."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise TillerError(f"{file} is no throughput result: {first}") from None

    def go_on_from(self, file: Path) -> Self:
        """With the samples in `file` where the same code took them on this machine in the same way."""
        if file.exists() and (earlier := type(self).read(file)).origin == self.origin:
            kept = {name: getattr(earlier, name) for name in ("arms", "samples", "failures", "facts")}
            return self.model_copy(update=kept)
        return self

    @property
    def origin(self) -> tuple[Any, ...]:
        place = self.machine
        planned = None if self.kind == "rivals" else [arm.id for arm in self.arms]  # rivals join one after the other
        own = {key: value for key, value in self.settings.items() if key != "rounds"}
        return (self.kind, self.code, place.name, place.cpu, place.versions, own, planned)

    def write(self, file: Path) -> None:
        """In one step: a run that is killed leaves the last whole file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        partial.write_text(self.model_dump_json(indent=1, exclude_defaults=True) + "\n")
        partial.replace(file)

    @property
    def batches(self) -> list[int]:
        return sorted({sample.batch for sample in self.samples}, reverse=True)

    def arm(self, arm_id: str) -> ArmEntry:
        return next(arm for arm in self.arms if arm.id == arm_id)

    def of(self, arm: str, batch: int) -> dict[int, Sample]:
        """Samples of an arm by round."""
        return {sample.round: sample for sample in self.samples if (sample.arm, sample.batch) == (arm, batch)}

    def failed(self, batch: int) -> dict[str, str]:
        """Errors by arm."""
        return {failure.arm: failure.error for failure in self.failures if failure.batch == batch}

    def rate(self, arm: str, batch: int) -> float | None:
        """Median over rounds of output tokens a second; None where the arm has no samples."""
        own = [sample.rate for sample in self.of(arm, batch).values()]
        return statistics.median(own) if own else None

    def shares(self, arm: str, against: str, batch: int) -> list[float]:
        """Throughput of one arm over another's, round by round."""
        own, theirs = self.of(arm, batch), self.of(against, batch)
        return [own[number].rate / theirs[number].rate for number in sorted(own.keys() & theirs.keys())]


def command() -> str:
    """The command line of this process."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def our_code() -> str:
    """Changes with the code that is measured or measures."""
    return code_digest(HERE, HERE.parent / "engine", HERE.parent / "kernels")
