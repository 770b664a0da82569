"""Methods that the front end calls on every worker through vLLM's `collective_rpc`."""

from typing import Any

import torch

from tiller.engine import compat
from tiller.engine.inventory import VectorEntry
from tiller.engine.receipt import WorkerReceipt

from .steering import Steering


def tiller_describe(worker: compat.Worker) -> dict[str, Any]:
    """What this worker steers, for the handshake after start."""
    steering = _steering(worker)
    if steering is None:
        return {"steers": False}
    return {
        "steers": True,
        "digest": steering.plan.digest,
        "runner": "v2" if compat.uses_v2(worker) else "v1",
        "layers": steering.plan.layers,
        **steering.describe(),
    }


def tiller_claim(worker: compat.Worker, asked: list[tuple[str, int, int]]) -> list[WorkerReceipt | None]:
    """Receipts of finished requests; see `Steering.claim`."""
    steering = _steering(worker)
    return [None] * len(asked) if steering is None else steering.claim(asked)


def tiller_drop(worker: compat.Worker, names: list[str]) -> None:
    """Forgets requests that ended unclaimed; see `Steering.drop`."""
    steering = _steering(worker)
    if steering is not None:
        steering.drop(names)


def tiller_add_vector(worker: compat.Worker, key: str, layer: int, data: bytes) -> None:
    """Makes a vector known under `key`; `data` is its float32 bytes."""
    steering = _steering(worker)
    assert steering is not None
    vector = torch.frombuffer(bytearray(data), dtype=torch.float32)
    steering.add_vector(key, VectorEntry(path="", layer=layer, version=key.rpartition("@")[2]), vector)


def tiller_remove_vector(worker: compat.Worker, key: str) -> None:
    """Forgets a vector that no request names any more."""
    steering = _steering(worker)
    assert steering is not None
    steering.remove_vector(key)


def tiller_gauges(worker: compat.Worker) -> dict[str, int]:
    """What steering holds at the moment; all zero when nobody is served."""
    steering = _steering(worker)
    if steering is None:
        return {}
    steering.end_step()
    return {
        "admitted": len(steering.admitted),
        "rows_held": steering.rows.num_held,
        "records": len(steering.records),
    }


def tiller_captured(worker: compat.Worker) -> dict[str, list[list[float]]]:
    """The residual of the last step at each site, before steering; empty unless the plan asks to capture."""
    steering = _steering(worker)
    if steering is None:
        return {}
    return {str(s.layer): s.captured.float().tolist() for s in steering.site_list() if s.captured is not None}


METHODS = {
    f.__name__: f
    for f in (
        tiller_describe,
        tiller_claim,
        tiller_drop,
        tiller_add_vector,
        tiller_remove_vector,
        tiller_gauges,
        tiller_captured,
    )
}


def _steering(worker: compat.Worker) -> Steering | None:
    return getattr(compat.model_of(worker), "tiller", None)
