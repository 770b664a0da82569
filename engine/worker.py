"""Methods that the front end calls on every worker through vLLM's `collective_rpc`."""

from typing import Any

from . import compat
from .receipt import WorkerReceipt
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


METHODS = {f.__name__: f for f in (tiller_describe, tiller_claim, tiller_gauges, tiller_captured)}


def _steering(worker: compat.Worker) -> Steering | None:
    return getattr(compat.model_of(worker), "tiller", None)
