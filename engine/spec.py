"""What a caller attaches to a request: the `steering` object, parsed and checked. Needs neither torch nor vLLM."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property, lru_cache, partial
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from .errors import SpecError
from .suggestion import suggestion

SPEC_KEY = "steering"  # in SamplingParams.extra_args
ID_KEY = "steering_id"  # the caller's name for the request, to ask for its receipt; none asked, none kept
ONLY_COMPLETION = -1  # index of the completion of a request with n = 1
Unit = Literal["raw", "max_act", "norm"]
NO_END = 2**31 - 1  # an open end; above any position that vLLM serves
MAX_SPEC_CHARS = 1_000_000
MAX_CACHED_CHARS = 4_000  # of a spec whose parsed form is kept, since many requests carry the same text

FeatureId = Annotated[int, Field(ge=0)]
Position = Annotated[int, Field(ge=-NO_END, le=NO_END)]
NAME_PATTERN, MAX_NAME = r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", 64  # `.` and `..` are parts of paths, not names
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=MAX_NAME)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class When(_Strict):
    """The edit applies only at tokens where `feature`, before any edit, is active above the bound `above`."""

    feature: FeatureId
    above: float = 0.0


class FeatureEdit(_Strict):
    """One feature's activation changed: add, set, scale, min (at least value), max (at most value) or ablate."""

    id: FeatureId
    op: Literal["add", "set", "scale", "min", "max", "ablate"] = "add"
    value: Annotated[float | None, Field(validate_default=True)] = None
    unit: Unit = "raw"
    sae: Name = "default"
    when: When | None = None

    @field_validator("value")
    @classmethod
    def _check_value(cls, value: float | None, info: ValidationInfo) -> float | None:
        op = info.data.get("op")
        if (value is None) != (op == "ablate"):
            raise ValueError(f"op {op!r} " + ("takes no value" if op == "ablate" else "needs a value"))
        return value

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, unit: Unit, info: ValidationInfo) -> Unit:
        if info.data.get("op") in ("scale", "ablate") and unit != "raw":
            raise ValueError(f"op {info.data['op']!r} has no unit; leave `unit` out")
        return unit


class VectorEdit(_Strict):
    """A named vector v: add alpha * v, scale the part along v by alpha (orthogonal), or cap that part at alpha."""

    name: Name
    alpha: float
    mode: Literal["add", "orthogonal", "cap"] = "add"
    unit: Unit = "raw"
    version: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """Hash of the vector's content, written in at submission: names come and go, cached KV blocks stay."""

    @property
    def pinned(self) -> str:
        """Name and version as one key; no name holds an @."""
        return f"{self.name}@{self.version}"

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, unit: Unit, info: ValidationInfo) -> Unit:
        if info.data.get("mode") == "orthogonal" and unit != "raw":
            raise ValueError("mode 'orthogonal' scales by a pure number; leave `unit` out")
        return unit


class Span(_Strict):
    """Token positions start <= position < end; negative ones count from the prompt's end."""

    start: Position = 0
    end: Position | None = None

    @model_validator(mode="after")
    def _check(self) -> "Span":
        if self.end is not None and (self.start < 0) == (self.end < 0) and self.start >= self.end:
            raise ValueError(f"start {self.start} must be below end {self.end}")
        return self


class Read(_Strict):
    """Activations to report: named features, the `top` most active ones, or both, over the positions of `where`."""

    features: list[FeatureId] = []
    top: Annotated[int, Field(ge=0)] = 0
    reduce: Literal["mean", "max", "none"] = "mean"
    sae: Name = "default"


class Scope(NamedTuple):
    """Absolute token positions that a request steers: lo <= position < hi."""

    lo: int
    hi: int

    def count(self, num_tokens: int, start: int = 0) -> int:
        """How many positions in [start, num_tokens) are in scope."""
        return max(0, min(self.hi, num_tokens) - max(self.lo, start))


class SteeringSpec(_Strict):
    """The `steering` object of a request; DESIGN's section 3 in code."""

    features: list[FeatureEdit] = []
    vectors: list[VectorEdit] = []
    error_term: bool = True
    norm: Literal["free", "preserve"] = "free"
    where: Literal["all", "prompt", "generated"] | Span = "all"
    skip_first: Annotated[int, Field(ge=0, le=NO_END)] = 0
    max_norm: Annotated[float, Field(gt=0)] | None = None
    read: Read | None = None

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: list[FeatureEdit]) -> list[FeatureEdit]:
        seen: set[tuple[str, int]] = set()
        for edit in features:
            if (edit.sae, edit.id) in seen:
                raise ValueError(f"feature {edit.id} of SAE {edit.sae!r} is edited twice; merge the two edits")
            seen.add((edit.sae, edit.id))
        return features

    @property
    def edits_nothing(self) -> bool:
        """True where the residual stays as it is whatever the input."""
        return self.error_term and not self.features and not self.vectors

    @property
    def idle(self) -> bool:
        """True where there is neither anything to edit nor to read."""
        return self.edits_nothing and self.read is None

    def pin(self, versions: Mapping[str, str]) -> "SteeringSpec":
        """The same spec with each vector's version, by name, written in where there is none."""
        pinned = [
            edit if edit.version is not None else edit.model_copy(update={"version": versions[edit.name]})
            for edit in self.vectors
        ]
        # Not model_copy, which would take over the hashes that this spec has cached.
        return SteeringSpec(**{**{name: getattr(self, name) for name in type(self).model_fields}, "vectors": pinned})

    def scope(self, prompt_len: int) -> Scope:
        """The positions this spec covers in a request whose prompt has `prompt_len` tokens."""
        if isinstance(self.where, Span):
            lo, hi = _absolute(self.where.start, prompt_len), _absolute(self.where.end, prompt_len)
        else:
            lo = prompt_len if self.where == "generated" else 0
            hi = prompt_len if self.where == "prompt" else NO_END
        return Scope(max(lo, self.skip_first), hi)

    @cached_property
    def digest(self) -> str:
        """Hash of what the spec does to a token; equal for specs that differ only in `where`, `read` or order."""
        body = self.model_dump(include={"features", "vectors", "error_term", "norm", "max_norm"})
        body["features"].sort(key=lambda edit: (edit["sae"], edit["id"]))
        body["vectors"].sort(key=lambda edit: json.dumps(edit, sort_keys=True))
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def program_key(self) -> str:
        """Hash of all that shapes the table rows: the digest and what is read."""
        read = self.read.model_dump_json() if self.read else ""
        return hashlib.sha256((self.digest + read).encode()).hexdigest()[:16]


def parse_spec(given: Any, field: str = "steering") -> SteeringSpec:
    """The spec in `given`: a SteeringSpec, a mapping, or a JSON text of one.

    Raises SpecError naming the offending field.
    """
    if isinstance(given, SteeringSpec):
        return given
    text = given if isinstance(given, str) else _dump(given, field)
    if len(text) > MAX_SPEC_CHARS:
        raise SpecError(f"{len(text)} characters given, at most {MAX_SPEC_CHARS} are allowed", field)
    return _parse_cached(text, field) if len(text) <= MAX_CACHED_CHARS else _parse(text, field)


@lru_cache(maxsize=4096)
def _parse_cached(text: str, field: str) -> SteeringSpec:
    return _parse(text, field)


def _parse(text: str, field: str) -> SteeringSpec:
    try:
        spec = SteeringSpec.model_validate_json(text)
    except ValidationError as error:
        raise _explain(error, field) from None
    json.loads(text, object_pairs_hook=partial(_refuse_repeats, field))
    return spec


def _refuse_repeats(field: str, pairs: list[tuple[str, Any]]) -> None:
    """JSON parsers disagree on which of two equal keys counts."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise SpecError(f"key {name!r} is given twice in one object", field)
        seen.add(name)


def _dump(given: Any, field: str) -> str:
    if not isinstance(given, dict):
        raise SpecError(f"{type(given).__name__} given; pass an object like {{'features': [...]}} or its JSON", field)
    try:
        return json.dumps(given, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"not expressible as JSON ({error})", field) from None


def _explain(error: ValidationError, field: str) -> SpecError:
    first = _most_telling(error.errors(include_url=False, include_context=False))
    loc = first["loc"]
    if loc[:1] == ("where",):
        loc = loc[:1] + loc[2:]  # pydantic names the branch, users don't
    path = field + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    given = repr(first["input"])
    shown = given if len(given) <= 80 else given[:77] + "..."
    return SpecError(f"{_reason(first['type'], first['msg'], loc)} (given: {shown})", path)


def _most_telling(errors: list[Any]) -> Any:
    """An unknown key before anything else: what is missing is often the key that was misspelt."""
    unknown = [e for e in errors if e["type"] == "extra_forbidden"]
    # `where` is a word or an object: report the branch that the given value tried to be.
    fitting = [e for e in errors if not (e["type"] == "literal_error" and isinstance(e["input"], dict))]
    return (unknown or fitting or errors)[0]


def _reason(error_type: str, message: str, loc: tuple[int | str, ...]) -> str:
    if error_type == "extra_forbidden":
        owner = next((_OBJECTS[part] for part in reversed(loc[:-1]) if part in _OBJECTS), SteeringSpec)
        return f"unknown key; allowed: {', '.join(owner.model_fields)}{suggestion(loc[-1], owner.model_fields)}"
    if error_type in ("string_pattern_mismatch", "string_too_long") and loc[-1] in ("name", "sae"):
        return f"a name has 1 to {MAX_NAME} of the characters A-Z a-z 0-9 . _ - and is not dots alone"
    if error_type == "literal_error" and loc == ("where",):
        return "must be 'all', 'prompt', 'generated' or {start, end}"
    return message.removeprefix("Value error, ")


_OBJECTS: dict[int | str, type[_Strict]] = {
    "features": FeatureEdit,
    "vectors": VectorEdit,
    "when": When,
    "where": Span,
    "read": Read,
}


def _absolute(position: int | None, prompt_len: int) -> int:
    if position is None:
        return NO_END
    return position if position >= 0 else max(0, prompt_len + position)
