"""One request's steering as rows of tensors: SteeringSpec in, one SiteProgram per layer out."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tiller.engine.inventory import Plan
from tiller.engine.spec import FeatureEdit, SteeringSpec, VectorEdit
from tiller.kernels.sae import SAE
from tiller.kernels.table import (
    ADD,
    CAP,
    MAX,
    MIN,
    NO_SHIFT,
    NORM_SHIFT,
    ORTHOGONAL,
    RAW_SHIFT,
    READ,
    SCALE,
    SET,
    EditTable,
    Needs,
    SiteTable,
)

MAX_VALUE = 1e15  # larger request values saturate here, see kernels.reference.MAX_COEFFICIENT
MAX_FLOAT = torch.finfo(torch.float32).max
_OPS = {"add": ADD, "set": SET, "scale": SCALE, "min": MIN, "max": MAX, "ablate": SET}


class Edit(NamedTuple):
    """One entry of an EditTable row."""

    feature: int
    op: int
    value: float = 0.0
    value_per_norm: float = 0.0
    gate: int = -1
    above: float = 0.0


class Projection(NamedTuple):
    """One entry of a SiteTable's projections."""

    direction: Tensor  # [d_model], unit length
    mode: int
    alpha: float
    alpha_per_norm: float


@dataclass(kw_only=True)
class SiteProgram:
    """What one request does at one layer."""

    edits: list[list[Edit]]  # per SAE of the layer
    top: list[int]  # per SAE
    shift: Tensor | None = None  # [d_model] float32
    shift_per_norm: Tensor | None = None
    projections: list[Projection] = field(default_factory=list)
    replace: int = 0
    preserve: bool = False
    max_norm: float = float("inf")

    @property
    def needs(self) -> Needs:
        return Needs(
            shift=NORM_SHIFT if self.shift_per_norm is not None else NO_SHIFT if self.shift is None else RAW_SHIFT,
            projections=len(self.projections),
            num_edits=tuple(len(edits) for edits in self.edits),
            gates=tuple(any(edit.gate >= 0 for edit in edits) for edits in self.edits),
            replace=tuple(self.replace == index + 1 for index in range(len(self.edits))),
            top=tuple(self.top),
            preserve=self.preserve,
            guard=self.max_norm != float("inf"),
        )

    def write(self, table: SiteTable, row: int) -> None:
        """Overwrites row `row` of `table`; entries past the end of a list go back to doing nothing."""
        table.declare(row, self.needs)
        table.vectors[row, 0] = 0.0 if self.shift is None else self.shift
        table.vectors[row, 1] = 0.0 if self.shift_per_norm is None else self.shift_per_norm
        for index, projection in enumerate(self.projections):
            table.vectors[row, 2 + index] = projection.direction
        table.scalars[row] = self._scalars(table.scalars.shape[1])
        for edits, columns in zip(self.edits, table.edits, strict=True):
            _write_edits(columns, row, edits)

    def _scalars(self, width: int) -> Tensor:
        scalars = torch.zeros(width)
        scalars[0] = self.max_norm
        for index, projection in enumerate(self.projections):
            scalars[1 + 3 * index : 4 + 3 * index] = torch.tensor(projection[1:])
        return scalars


def _write_edits(columns: EditTable, row: int, edits: list[Edit]) -> None:
    fresh = EditTable.allocate(1, columns.code.shape[1])
    if edits:
        fresh.code[0, : len(edits)] = torch.tensor([(edit.feature, edit.op, edit.gate) for edit in edits])
        fresh.amount[0, : len(edits)] = torch.tensor([(edit.value, edit.value_per_norm, edit.above) for edit in edits])
    columns.code[row] = fresh.code[0]
    columns.amount[row] = fresh.amount[0]


def compile_spec(
    spec: SteeringSpec, plan: Plan, saes: dict[str, SAE], vectors: dict[str, Tensor]
) -> dict[int, SiteProgram]:
    """What `spec` does at each layer it touches; `spec` has passed `plan.check`.

    Edits go in an order of their own, because specs that differ in order alone share a row.
    """
    sites: dict[int, SiteProgram] = {}

    def site_of(layer: int) -> SiteProgram:
        if layer not in sites:
            names = plan.saes_at(layer)
            sites[layer] = SiteProgram(edits=[[] for _ in names], top=[0 for _ in names])
        return sites[layer]

    for name in plan.replaced_saes(spec):
        layer = plan.saes[name].layer
        site_of(layer).replace = plan.saes_at(layer).index(name) + 1
    for name in sorted({edit.sae for edit in spec.features}):
        layer = plan.saes[name].layer
        edits = sorted((edit for edit in spec.features if edit.sae == name), key=lambda edit: edit.id)
        is_read = spec.read is not None and spec.read.sae == name
        _add_features(site_of(layer), plan.saes_at(layer).index(name), edits, saes[name], is_read)
    for vector in sorted(spec.vectors, key=VectorEdit.model_dump_json):
        key = plan.vector_key(vector)
        assert key is not None
        _add_vector(site_of(plan.vectors[key].layer), vector, vectors[key])
    if spec.read is not None:
        layer = plan.saes[spec.read.sae].layer
        _add_read(site_of(layer), plan.saes_at(layer).index(spec.read.sae), spec)
    for site in sites.values():
        site.preserve = spec.norm == "preserve"
        site.max_norm = float("inf") if spec.max_norm is None else min(spec.max_norm, MAX_FLOAT)
    return sites


def _add_features(site: SiteProgram, index: int, edits: list[FeatureEdit], sae: SAE, is_read: bool) -> None:
    """Unconditional additions become one vector (no encoder); beside any other edit, or under an SAE that is read, they
    cost nothing more as edits, and then the receipt can tell their activations."""
    mergeable = sae.input_norm == "none" and not site.replace and not is_read
    if mergeable and all(edit.op == "add" and edit.when is None for edit in edits):
        for edit in edits:
            raw, per_norm = _amount(edit, sae)
            _add_shift(site, sae.W_dec[edit.id].float(), raw, per_norm)
        return
    for edit in edits:
        raw, per_norm = _amount(edit, sae)
        gate, above = (edit.when.feature, edit.when.above) if edit.when else (-1, 0.0)
        site.edits[index].append(Edit(edit.id, _OPS[edit.op], raw, per_norm, gate, above))


def _amount(edit: FeatureEdit, sae: SAE) -> tuple[float, float]:
    """The edit's value as a raw activation and as a multiple of the token's residual norm."""
    value = max(-MAX_VALUE, min(MAX_VALUE, edit.value or 0.0))
    if edit.unit == "norm":
        return 0.0, value
    if edit.unit == "max_act":
        assert sae.max_act is not None
        return value * float(sae.max_act[edit.id]), 0.0
    return value, 0.0


def _add_vector(site: SiteProgram, edit: VectorEdit, vector: Tensor) -> None:
    alpha = max(-MAX_VALUE, min(MAX_VALUE, edit.alpha))
    raw, per_norm = (0.0, alpha) if edit.unit == "norm" else (alpha, 0.0)
    if edit.mode == "add":
        _add_shift(site, vector, raw, per_norm)
        return
    mode = ORTHOGONAL if edit.mode == "orthogonal" else CAP
    site.projections.append(Projection(vector / vector.norm(), mode, raw, per_norm))


def _add_shift(site: SiteProgram, direction: Tensor, raw: float, per_norm: float) -> None:
    if raw:
        site.shift = direction * raw + (0.0 if site.shift is None else site.shift)
    if per_norm:
        site.shift_per_norm = direction * per_norm + (0.0 if site.shift_per_norm is None else site.shift_per_norm)


def _add_read(site: SiteProgram, index: int, spec: SteeringSpec) -> None:
    assert spec.read is not None
    listed = {edit.feature for edit in site.edits[index]}
    site.edits[index] += [Edit(feature, READ) for feature in dict.fromkeys(spec.read.features) if feature not in listed]
    site.top[index] = spec.read.top
