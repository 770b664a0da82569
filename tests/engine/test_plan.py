"""What one engine accepts, and the stamp that keeps compiled graphs of different plans apart."""

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from tiller.engine.errors import SpecError
from tiller.engine.inventory import Plan, SAEEntry, VectorEntry, plan_of
from tiller.engine.sae.loader import MAX_ACT_NAME
from tiller.engine.spec import parse_spec


def entry(layer, path="/saes/a", d_sae=100):
    return SAEEntry(path=path, layer=layer, d_sae=d_sae, d_model=8, format="sparsify")


@pytest.fixture
def plan():
    saes = {"default": entry(3), "twin": entry(3, "/saes/twin"), "late": entry(7, "/saes/late", d_sae=50)}
    return Plan(
        saes=saes, vectors={"french": VectorEntry(path="/v/french", layer=5)}, max_edits=4, max_projections=2, max_top=9
    )


def features(*ids, **keys):
    return [{"id": i, "value": 1.0, **keys} for i in ids]


REFUSED = {
    "SAE unknown": ({"features": features(1, sae="other")}, "features[0].sae", "this engine has: default, late, twin"),
    "id too large": ({"features": features(1, 100)}, "features[1].id", "100 is out of range; this SAE has 0 to 99"),
    "id of a smaller SAE": ({"features": features(50, sae="late")}, "features[0].id", "has 0 to 49"),
    "gate too large": ({"features": features(1, when={"feature": 100})}, "features[0].when.feature", "0 to 99"),
    "id huge": ({"features": features(2**70)}, "features[0].id", "out of range"),
    "many edits": ({"features": features(1, 2, 3, 4, 5)}, "features", "5 edits given, at most 4"),
    "maximum unknown": ({"features": features(1, unit="max_act")}, "features[0].unit", "features calibrate"),
    "vector unknown": (
        {"vectors": [{"name": "x", "alpha": 1}]},
        "vectors[0].name",
        "unknown vector 'x'; this engine has: french",
    ),
    "vector unit": (
        {"vectors": [{"name": "french", "alpha": 1, "unit": "max_act"}]},
        "vectors[0].unit",
        "use 'raw' or 'norm'",
    ),
    "many projections": (
        {"vectors": [{"name": "french", "alpha": 1, "mode": "cap"}] * 3},
        "vectors",
        "3 orthogonal or cap vectors given, at most 2",
    ),
    "read SAE": ({"read": {"sae": "other"}}, "read.sae", "unknown SAE 'other'"),
    "read id": ({"read": {"features": [1, 100]}}, "read.features[1]", "0 to 99"),
    "read top": ({"read": {"top": 10}}, "read.top", "10 given, at most 9"),
    "reads and edits": (
        {"features": features(1, 2), "read": {"features": [3, 4, 5]}},
        "read.features",
        "edits and read features together may be at most 4",
    ),
    "two reconstructions": (
        {"error_term": False, "features": [*features(1), *features(1, sae="twin")]},
        "error_term",
        "two SAEs of the same layer are edited",
    ),
}


@pytest.mark.parametrize(("body", "field", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_this_engine_cannot_do_is_refused(plan, body, field, message):
    spec = parse_spec(body)
    with pytest.raises(SpecError) as caught:
        plan.check(spec)
    assert caught.value.field == f"steering.{field}"
    assert message in caught.value.message
    with pytest.raises(SpecError) as caught:
        plan.check(spec, "profiles.warm")
    assert caught.value.field == f"profiles.warm.{field}"


@pytest.mark.parametrize(
    "body",
    [
        {"features": features(0, 99)},
        {"features": [*features(1), *features(1, sae="twin"), *features(49, sae="late")]},
        {"features": [*features(1), *features(1, sae="late")], "error_term": False},
        {"error_term": False},
        {"vectors": [{"name": "french", "alpha": 1}] * 9},
        {"read": {"features": [1, 1, 2, 3, 4, 1], "top": 9}},
    ],
)
def test_what_it_can_do_passes(plan, body):
    plan.check(parse_spec(body))


def test_engine_without_saes_says_so():
    with pytest.raises(SpecError, match="unknown SAE 'default'; this engine has: none"):
        Plan().check(parse_spec({"error_term": False}))
    with pytest.raises(SpecError, match="unknown vector 'a'; this engine has: none"):
        Plan().check(parse_spec({"vectors": [{"name": "a", "alpha": 1}]}))


def test_max_act_needs_a_recorded_maximum_of_that_feature(tmp_path):
    save_file({"max_act": torch.tensor([0.0, 2.5])}, tmp_path / MAX_ACT_NAME)
    plan = Plan(saes={"default": entry(3, str(tmp_path), d_sae=2)})
    plan.check(parse_spec({"features": features(1, unit="max_act")}))
    with pytest.raises(SpecError, match="no maximum is recorded for feature 0"):
        plan.check(parse_spec({"features": features(0, unit="max_act")}))


def test_replaced_saes(plan):
    def replaced(**body):
        return plan.replaced_saes(parse_spec(body))

    assert replaced(features=features(1, sae="late")) == []
    assert replaced(error_term=False) == ["default"]
    assert replaced(error_term=False, features=features(1, 2, sae="late")) == ["late"]
    alone, several = Plan(saes={"only": entry(3)}), Plan(saes={"one": entry(3), "two": entry(4)})
    assert alone.replaced_saes(parse_spec({"error_term": False})) == ["only"]
    with pytest.raises(SpecError, match="unknown SAE 'default'; this engine has: one, two"):
        several.check(parse_spec({"error_term": False}))


def test_layers_and_their_saes(plan):
    assert plan.layers == [3, 5, 7]
    assert plan.saes_at(3) == ["default", "twin"] and plan.saes_at(5) == [] and plan.saes_at(7) == ["late"]


def test_plan_crosses_processes_as_json(plan):
    sent = json.loads(json.dumps({"tiller": plan.model_dump(mode="json"), "other": 1}))
    assert plan_of(sent) == plan and plan_of(sent).digest == plan.digest
    assert plan_of(sent).saes_at(3) == plan.saes_at(3)
    assert plan_of({"other": 1}) is None and plan_of(None) is None
    with pytest.raises(ValidationError, match="extra"):
        plan_of({"tiller": {**sent["tiller"], "surprise": 1}})


@pytest.mark.parametrize(
    "change",
    [
        {"saes": {"default": entry(4)}},
        {"saes": {"default": entry(3, "/saes/b")}},
        {"saes": {"renamed": entry(3)}},
        {"saes": {"default": entry(3, d_sae=101)}},
        {"vectors": {"french": VectorEntry(path="/v/french", layer=5)}},
        {"max_edits": 5},
        {"capture": True},
    ],
)
def test_digest_tells_plans_apart(change):
    assert Plan(**{"saes": {"default": entry(3)}, **change}).digest != Plan(saes={"default": entry(3)}).digest
    assert Plan(saes={"default": entry(3)}).digest == Plan(saes={"default": entry(3)}).digest


def test_a_vector_is_known_by_content() -> None:
    """Specs that differ in a vector's version alone share neither table row nor cached block."""
    old, new = "0" * 16, "1" * 16
    spec = parse_spec({"vectors": [{"name": "french", "alpha": 2.0}]})
    plans = [Plan(vectors={"french": VectorEntry(path="", layer=5, version=version)}) for version in (old, new)]
    pinned = [plan.pin(spec) for plan in plans]
    assert [p.vectors[0].version for p in pinned] == [old, new]
    assert len({spec.digest, *(p.digest for p in pinned)}) == len({p.program_key for p in pinned}) + 1 == 3
    plans[0].check(pinned[0])
    with pytest.raises(SpecError, match=f"{old} given; 'french' is now {new}") as caught:
        plans[1].check(pinned[0])
    assert caught.value.field == "steering.vectors[0].version"
    both = Plan(vectors={**plans[1].vectors, f"french@{old}": plans[0].vectors["french"]})
    both.check(pinned[0])
    assert [both.vector_key(p.vectors[0]) for p in pinned] == [f"french@{old}", "french"]


def test_number_of_vectors_is_bounded() -> None:
    plan = Plan(vectors={"french": VectorEntry(path="", layer=5)}, max_vectors=2)
    edit = {"name": "french", "alpha": 2.0}
    plan.check(parse_spec({"vectors": [edit] * 2}))
    with pytest.raises(SpecError, match="3 vectors given, at most 2"):
        plan.check(parse_spec({"vectors": [edit] * 3}))
