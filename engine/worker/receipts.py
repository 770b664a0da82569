"""A request's rows of the step log made into its receipt."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiller.engine.inventory import Plan
from tiller.engine.receipt import FeatureReport, Receipt, UnsteeredError, WorkerReceipt
from tiller.engine.spec import Scope, SteeringSpec

from .program import SiteProgram


def receipt_of(
    spec: SteeringSpec,
    plan: Plan,
    programs: dict[int, SiteProgram],
    scope: Scope,
    num_reused: int,
    columns: dict[str, NDArray],
    num_fed: int,
) -> WorkerReceipt:
    """The receipt of one request whose first `num_fed` tokens entered the model, from its rows of the step log.

    Raises UnsteeredError where a token in scope neither passed every site nor came from the cache.
    """
    columns = _steered_rows(columns, programs, num_fed)
    steered = columns["position"]
    in_scope = scope.count(num_fed)
    _check_missing(steered, scope, num_reused, num_fed)
    deltas = {str(layer): _mean(columns.get(f"{layer}.delta")) or 0.0 for layer in programs}
    return asdict(
        Receipt(
            spec_hash=spec.digest,
            tokens_in_scope=in_scope,
            tokens_steered=len(steered),
            tokens_cached=in_scope - len(steered),
            mean_delta_norm=sum(deltas.values()),
            layers=deltas,
            features=_features(spec, plan, programs, columns),
            read=_read(spec, plan, programs, columns),
        )
    )


def _steered_rows(columns: dict[str, NDArray], programs: dict[int, SiteProgram], num_fed: int) -> dict[str, NDArray]:
    if not columns:
        return {"position": np.zeros(0, dtype=np.int64)}
    ran = columns["position"] < num_fed
    for layer in programs:
        ran &= ~np.isnan(columns.get(f"{layer}.delta", np.full(len(ran), np.nan)))
    return {name: column[ran] for name, column in columns.items()}


def _check_missing(steered: NDArray, scope: Scope, num_reused: int, num_fed: int) -> None:
    """A position may be missing only below `num_reused`, where the KV cache served it."""
    computed = int((steered >= num_reused).sum())
    expected = scope.count(num_fed, start=num_reused)
    if computed != expected:
        raise UnsteeredError(f"{expected - computed} of {expected} computed tokens in scope were not steered")


def _mean(column: NDArray | None) -> float | None:
    return None if column is None or not len(column) else float(column.mean(dtype=np.float64))


def _features(
    spec: SteeringSpec, plan: Plan, programs: dict[int, SiteProgram], columns: dict[str, NDArray]
) -> list[FeatureReport]:
    reports = []
    for edit in spec.features:
        before, after = _entry(plan, programs, columns, edit.sae, edit.id)
        report = FeatureReport(
            id=edit.id,
            sae=edit.sae,
            op=edit.op,
            share_active=None if before is None else _mean(before > 0),
            mean_before=_mean(before),
            mean_after=_mean(after),
        )
        reports.append(report)
    return reports


def _entry(
    plan: Plan, programs: dict[int, SiteProgram], columns: dict[str, NDArray], sae: str, feature: int
) -> tuple[NDArray | None, NDArray | None]:
    """Activation before and after, per steered token, of one listed feature; None where it was not computed."""
    layer = plan.saes[sae].layer
    index = plan.saes_at(layer).index(sae)
    listed = [edit.feature for edit in programs[layer].edits[index]]
    before, after = columns.get(f"{layer}.{index}.before"), columns.get(f"{layer}.{index}.after")
    if feature not in listed or before is None or after is None:
        return None, None
    column = listed.index(feature)
    return before[:, column], after[:, column]


def _read(
    spec: SteeringSpec, plan: Plan, programs: dict[int, SiteProgram], columns: dict[str, NDArray]
) -> dict[str, Any] | None:
    if spec.read is None:
        return None
    read: dict[str, Any] = {"sae": spec.read.sae, "reduce": spec.read.reduce}
    if spec.read.reduce == "none":
        read["positions"] = columns["position"].tolist()
    if spec.read.features:
        read["features"] = {
            str(feature): _reduce(_entry(plan, programs, columns, spec.read.sae, feature)[0], spec.read.reduce)
            for feature in spec.read.features
        }
    if spec.read.top:
        layer = plan.saes[spec.read.sae].layer
        stem = f"{layer}.{plan.saes_at(layer).index(spec.read.sae)}"
        read["top"] = _top(columns, stem, spec.read.top, spec.read.reduce)
    return read


def _reduce(column: NDArray | None, how: str) -> Any:
    if column is None or not len(column):
        return [] if how == "none" else None
    if how == "none":
        return column.tolist()
    return float(column.max()) if how == "max" else _mean(column)


def _top(columns: dict[str, NDArray], stem: str, num: int, how: str) -> list[Any]:
    """Per token (reduce none) or over all of them, the `num` most active features as [id, activation]."""
    values, ids = columns.get(f"{stem}.top_values"), columns.get(f"{stem}.top_ids")
    if values is None or ids is None or not len(values):
        return []
    values, ids = values[:, :num], ids[:, :num]  # another request in the batch may have asked for more
    if how == "none":
        tokens = zip(ids.tolist(), values.tolist(), strict=True)
        return [[[i, v] for i, v in zip(*token, strict=True) if v > 0] for token in tokens]
    active = values > 0
    features, slot = np.unique(ids[active], return_inverse=True)
    total = np.zeros(len(features), dtype=np.float64)
    if how == "max":
        np.maximum.at(total, slot, values[active])
    else:
        np.add.at(total, slot, values[active] / len(values))
    order = np.lexsort((features, -total))[:num]
    return [[int(features[i]), float(total[i])] for i in order]
