"""What one engine can steer: SAEs, vectors and limits. Travels to every process inside vLLM's `additional_config`."""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file

from .errors import SpecError
from .sae.loader import max_act_path
from .spec import FeatureEdit, SteeringSpec, VectorEdit

PLAN_KEY = "tiller"  # in vLLM's additional_config


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SAEEntry(_Frozen):
    """One dictionary as the front end found it on disk; workers load it again from `path`."""

    path: str  # a local folder or file
    layer: int
    activation: Any = "auto"
    d_sae: int
    d_model: int
    format: str
    site: Literal["resid_post"] = "resid_post"
    source: Literal["file", "path", "config", "default"] = "default"  # how the site is known
    doubts: list[str] = []


class VectorEntry(_Frozen):
    """One steering vector: a safetensors file with a single tensor [d_model]."""

    path: str
    layer: int
    version: str = ""  # hash of its content
    norm: float = 0.0


class Plan(_Frozen):
    """Everything that shapes the traced graph and the tables; equal plans may share compiled artefacts."""

    saes: dict[str, SAEEntry] = {}
    vectors: dict[str, VectorEntry] = {}
    max_edits: int = 256
    max_projections: int = 4
    max_top: int = 128
    max_vectors: int = 64
    capture: bool = False  # keep the residual of the last step, for `tiller doctor`

    @property
    def layers(self) -> list[int]:
        """Layers with a steering site, ascending."""
        return sorted({sae.layer for sae in self.saes.values()} | {vector.layer for vector in self.vectors.values()})

    def saes_at(self, layer: int) -> list[str]:
        """Names of the SAEs of one layer, in table order."""
        return [name for name, entry in self.saes.items() if entry.layer == layer]

    @property
    def named_vectors(self) -> dict[str, VectorEntry]:
        """The vectors that a new request can name; the others, `name@version`, are held by requests under way."""
        return {name: entry for name, entry in self.vectors.items() if "@" not in name}

    @property
    def digest(self) -> str:
        """Tells plans and versions of Tiller apart: in what workers report, and in the key of vLLM's compile cache."""
        body = self.model_dump_json() + version("vllm-tiller")
        return hashlib.sha256(body.encode()).hexdigest()[:16]

    def replaced_saes(self, spec: SteeringSpec) -> list[str]:
        """SAEs whose reconstruction replaces the residual under `spec`: those it edits, else the default one."""
        if spec.error_term:
            return []
        return list(dict.fromkeys(edit.sae for edit in spec.features)) or [self.default_sae()]

    def vector_key(self, edit: VectorEdit) -> str | None:
        """The key in `vectors` of the vector that `edit` means; None where that version of it is not here."""
        if edit.version is not None and edit.pinned in self.vectors:
            return edit.pinned
        entry = self.vectors.get(edit.name)
        return edit.name if entry is not None and edit.version in (None, entry.version) else None

    def pin(self, spec: SteeringSpec) -> SteeringSpec:
        """`spec`, which has passed `check`, with a version for each vector: as they are now where it names none."""
        versions = {edit.name: self.vectors[edit.name].version for edit in spec.vectors if edit.version is None}
        return spec.pin(versions) if versions else spec

    def default_sae(self) -> str:
        """The SAE meant by a spec that names none: the only one, else `default`, which may not exist."""
        return next(iter(self.saes)) if len(self.saes) == 1 else "default"

    def check(self, spec: SteeringSpec, field: str = "steering") -> None:
        """Raises SpecError where this engine can't do what `spec`, the caller's `field`, asks."""
        if (num := len(spec.features)) > self.max_edits:
            raise SpecError(f"{num} edits given, at most {self.max_edits} are allowed", f"{field}.features")
        for index, edit in enumerate(spec.features):
            self._check_feature(edit, f"{field}.features[{index}]")
        if (num := len(spec.vectors)) > self.max_vectors:
            raise SpecError(f"{num} vectors given, at most {self.max_vectors} are allowed", f"{field}.vectors")
        for index, vector in enumerate(spec.vectors):
            self._check_vector(vector, f"{field}.vectors[{index}]")
        projections = sum(vector.mode != "add" for vector in spec.vectors)
        if projections > self.max_projections:
            raise SpecError(
                f"{projections} orthogonal or cap vectors given, at most {self.max_projections} are allowed",
                f"{field}.vectors",
            )
        self._check_read(spec, f"{field}.read")
        self._check_replaced(spec, f"{field}.error_term")

    def _check_feature(self, edit: FeatureEdit, field: str) -> None:
        sae = self._known_sae(edit.sae, f"{field}.sae")
        self._known_feature(edit.id, sae, f"{field}.id")
        if edit.when is not None:
            self._known_feature(edit.when.feature, sae, f"{field}.when.feature")
        if edit.unit == "max_act":
            recorded = recorded_max_act(sae.path)
            if recorded is None or not recorded[edit.id] > 0:
                raise SpecError(
                    f"no maximum is recorded for feature {edit.id}; run `tiller features calibrate` or use unit 'raw'",
                    f"{field}.unit",
                )

    def _check_vector(self, vector: VectorEdit, field: str) -> None:
        if self.vector_key(vector) is None:
            if vector.name in self.vectors:
                now = self.vectors[vector.name].version
                raise SpecError(f"{vector.version} given; {vector.name!r} is now {now}", f"{field}.version")
            known = ", ".join(sorted(self.named_vectors)) or "none"
            raise SpecError(f"unknown vector {vector.name!r}; this engine has: {known}", f"{field}.name")
        if vector.unit == "max_act":
            raise SpecError("vectors have no recorded maximum; use 'raw' or 'norm'", f"{field}.unit")

    def _check_read(self, spec: SteeringSpec, field: str) -> None:
        if spec.read is None:
            return
        sae = self._known_sae(spec.read.sae, f"{field}.sae")
        for index, feature in enumerate(spec.read.features):
            self._known_feature(feature, sae, f"{field}.features[{index}]")
        if spec.read.top > self.max_top:
            raise SpecError(f"{spec.read.top} given, at most {self.max_top} are allowed", f"{field}.top")
        if len(set(spec.read.features)) + len(spec.features) > self.max_edits:
            raise SpecError(f"edits and read features together may be at most {self.max_edits}", f"{field}.features")

    def _check_replaced(self, spec: SteeringSpec, field: str) -> None:
        layers = [self._known_sae(name, field).layer for name in self.replaced_saes(spec)]
        if len(set(layers)) < len(layers):
            raise SpecError(
                "error_term false replaces the residual by one reconstruction a layer; "
                "two SAEs of the same layer are edited: keep the error term or edit one of them",
                field,
            )

    def _known_sae(self, name: str, field: str) -> SAEEntry:
        if name not in self.saes:
            known = ", ".join(sorted(self.saes)) or "none"
            raise SpecError(f"unknown SAE {name!r}; this engine has: {known}", field)
        return self.saes[name]

    def _known_feature(self, feature: int, sae: SAEEntry, field: str) -> None:
        if feature >= sae.d_sae:
            raise SpecError(f"feature {feature} is out of range; this SAE has 0 to {sae.d_sae - 1}", field)


_last: tuple[Any, "Plan"] | None = (
    None  # body and plan; a plan is replaced as a whole, so the body's identity is enough
)


def plan_of(additional_config: Any) -> Plan | None:
    """The plan inside vLLM's `additional_config`; None where this engine was not asked to steer.

    Asked several times a request, so the last one is kept.
    """
    global _last
    body = additional_config.get(PLAN_KEY) if isinstance(additional_config, dict) else None
    if body is None:
        return None
    last = _last
    if last is None or last[0] is not body:
        last = _last = (body, Plan.model_validate(body))
    return last[1]


@lru_cache(maxsize=64)
def recorded_max_act(sae_path: str) -> Any | None:
    """Maximum activation per feature [d_sae] as recorded beside the SAE; None where it was never calibrated."""
    file = max_act_path(Path(sae_path))
    return load_file(file)["max_act"] if file.exists() else None
