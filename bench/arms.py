"""What the throughput benchmark compares: each arm is an engine and the steering of its requests."""

from collections.abc import Callable
from typing import Any, NamedTuple

Spec = dict[str, Any] | None


class Arm(NamedTuple):
    """`spec(i)` steers request i of a round; `engine` says which process answers."""

    name: str
    engine: str  # "plain": vLLM with the plugin off; "steered": ours
    spec: Callable[[int], Spec]
    aim: float | None = None  # share of unsteered throughput that we want to keep
    against: str = "vLLM without plugin"


def _add(i: int) -> Spec:
    return {"features": [{"id": 7, "value": 0.5}]}


def _distinct(i: int) -> Spec:
    return {"features": [{"id": 7 + i, "value": 0.5 + i / 100}]}


ARMS = [
    Arm("vLLM without plugin", "plain", lambda i: None),
    Arm("plugin idle", "steered", lambda i: None, 0.98),
    Arm("add, one spec", "steered", _add, 0.95),
    Arm("add, 64 distinct specs", "steered", _distinct, 0.95, "add, one spec"),
    Arm("add of 16 features", "steered", lambda i: {"features": [{"id": k, "value": 0.1} for k in range(16)]}),
    Arm("set, error kept", "steered", lambda i: {"features": [{"id": 7, "op": "set", "value": 1.0}]}),
    Arm("add when another is active", "steered",
        lambda i: {"features": [{"id": 7, "value": 0.5, "when": {"feature": 9, "above": 0.1}}]}),
    Arm("TopK replacement", "steered",
        lambda i: {"features": [{"id": 7, "value": 0.5}], "error_term": False}, 0.80),
    Arm("half of the requests add", "steered", lambda i: _add(i) if i % 2 else None),
    Arm("read top 8 features", "steered", lambda i: {"read": {"top": 8}}),
]  # fmt: skip
