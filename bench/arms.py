"""The workloads that all benchmarks share, and the arms of the throughput benchmark: an engine and what is asked of it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from tiller.engine.errors import TillerError

from .record import ArmEntry

Spec = dict[str, Any] | None
SpecOf = Callable[[int], Spec]
DISTINCT = (1, 8, 32, 64, 128, 256)
SHARED_BATCH = 64  # requests at most where each holds the whole long prompt in blocks of its own
PLAIN = "plain"


def distinct(num: int, **more: Any) -> SpecOf:
    """`num` specs that differ in feature and value, in turn."""
    return lambda i: {"features": [{"id": 7 + i % num, "value": 0.5 + i % num / 100}], **more}


def unsteered(i: int) -> Spec:
    return None


def add(i: int) -> Spec:
    return {"features": [{"id": 7, "value": 0.5}]}


WORKLOADS: dict[str, SpecOf] = {
    "unsteered": unsteered,
    "add": add,
    "add16": lambda i: {"features": [{"id": k, "value": 0.1} for k in range(16)]},
    "edit": lambda i: {"features": [{"id": 7, "op": "set", "value": 1.0}]},
    "when": lambda i: {"features": [{"id": 7, "value": 0.5, "when": {"feature": 9, "above": 0.1}}]},
    "replace": lambda i: {"features": [{"id": 7, "value": 0.5}], "error_term": False},
    "read": lambda i: {"read": {"top": 8}},
    "mixed": lambda i: add(i) if i % 2 else None,
    **{f"distinct-{num}": distinct(num) for num in DISTINCT},
    "shared-all": distinct(SHARED_BATCH),
    "shared-generated": distinct(SHARED_BATCH, where="generated"),
}


class Arm(NamedTuple):
    """`engine`: "plain" is vLLM with the plugin off, "steered" is ours, "toolkit" Hugging Face with a hook.

    cpu, gpu: the share of `against` that we want to keep there; for the toolkit, a ceiling.
    """

    id: str
    name: str
    engine: Literal["plain", "steered", "toolkit"] = "steered"
    workload: str = "unsteered"
    against: str = PLAIN
    cpu: float | None = None
    gpu: float | None = None
    shared: bool = False  # one long prompt in front of every request's own
    least: int = 1  # requests at once

    @property
    def spec(self) -> SpecOf:
        return WORKLOADS[self.workload]

    def entry(self, on_gpu: bool) -> ArmEntry:
        aim = self.gpu if on_gpu else self.cpu
        return ArmEntry(id=self.id, name=self.name, against=self.against, aim=aim, at_most=self.engine == "toolkit")


ARMS = [
    Arm(PLAIN, "vLLM without plugin", "plain"),
    Arm("idle", "plugin idle", cpu=0.98, gpu=0.995),
    Arm("add", "add of one feature", workload="add", cpu=0.95, gpu=0.995),
    Arm("add16", "add of 16 features", workload="add16"),
    Arm("edit", "named-feature edit", workload="edit", gpu=0.99),
    Arm("when", "add when another is active", workload="when"),
    Arm("replace", "replacement", workload="replace", cpu=0.80, gpu=0.90),
    Arm("read", "read-out of the top 8", workload="read"),
    Arm("mixed", "every second request steered", workload="mixed", least=2),
    *(
        Arm(f"distinct-{num}", f"{num} distinct spec{'s' * (num > 1)}", workload=f"distinct-{num}",
            against=PLAIN if num == 1 else "distinct-1", cpu=0.95, gpu=0.99 if num > 1 else 0.995, least=num)
        for num in DISTINCT
    ),
    Arm("shared-plain", "long shared prompt, vLLM", "plain", against="shared-plain", shared=True),
    Arm("shared-idle", "long shared prompt, idle", against="shared-plain", shared=True),
    Arm("shared-generated", "long shared prompt, answers steered", workload="shared-generated", against="shared-plain",
        shared=True),
    Arm("shared-all", "long shared prompt, all steered", workload="shared-all", against="shared-plain", shared=True),
    Arm("toolkit-1", "Hugging Face + hook, one by one", "toolkit", "add", "replace", 0.05, 0.05),
    Arm("toolkit-batch", "Hugging Face + hook, one batch", "toolkit", "add", "replace"),
]  # fmt: skip


def chosen(only: str | None) -> list[Arm]:
    """The arms, or families of arms (distinct, shared, toolkit), of these words, and what those are held against.

    Raises TillerError where a word fits none.
    """
    if only is None:
        return ARMS
    wanted = {PLAIN}
    for word in (part.strip() for part in only.split(",")):
        found = {arm.id for arm in ARMS if word in (arm.id, arm.id.split("-")[0])}
        if not found:
            raise TillerError(f"no arm {word!r}; there are {', '.join(arm.id for arm in ARMS)}", "--arms")
        wanted |= found
    wanted |= {arm.against for arm in ARMS if arm.id in wanted}
    return [arm for arm in ARMS if arm.id in wanted]
