"""From a spec to table rows to x': compile_spec, SiteProgram.write and the reference op against the formulas."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiller.engine.inventory import Plan, SAEEntry, VectorEntry
from tiller.engine.spec import parse_spec
from tiller.engine.worker.program import compile_spec
from tiller.engine.worker.site import Batch, Site
from tiller.kernels.reference import encode, steer
from tiller.kernels.sae import SAE
from tiller.kernels.table import NO_SHIFT, NORM_SHIFT, Needs, SiteTable

from ..formulas import Edit, Program, Vector, make_sae, steer_token  # noqa: TID252

D_MODEL, D_SAE, MAX_EDITS, MAX_PROJECTIONS = 8, 24, 12, 4
LAYER, OTHER_LAYER = 3, 5
KINDS = {  # SAEs of a plan: activation, input norm, layer
    "default": ("topk", "none", LAYER),
    "gated": ("gated", "none", LAYER),
    "normed": ("threshold", "layer_norm", LAYER),
    "late": ("relu", "none", OTHER_LAYER),
}
SAES = {
    name: SAE(**{**vars(make_sae(kind, norm, seed=i)), "max_act": torch.linspace(0.5, 3.0, D_SAE)})
    for i, (name, (kind, norm, _)) in enumerate(KINDS.items())
}
VECTORS = {f"v{i}": torch.randn(D_MODEL, generator=torch.Generator().manual_seed(i)) for i in range(3)}
PLAN = Plan(
    saes={n: SAEEntry(path=n, layer=at, d_sae=D_SAE, d_model=D_MODEL, format="") for n, (_, _, at) in KINDS.items()},
    vectors={n: VectorEntry(path=n, layer=OTHER_LAYER if n == "v2" else LAYER) for n in VECTORS},
    max_edits=MAX_EDITS,
    max_projections=MAX_PROJECTIONS,
)
X = torch.randn(6, D_MODEL, generator=torch.Generator().manual_seed(9))


def compiled(body):
    return compile_spec(parse_spec(body), PLAN, SAES, VECTORS)


def saes_at(layer):
    return [SAES[name] for name in PLAN.saes_at(layer)]


def new_table(layer):
    return SiteTable.allocate(3, D_MODEL, len(saes_at(layer)), MAX_EDITS, MAX_PROJECTIONS)


def steered(body, layer=LAYER, x=X, table=None, needs=None):
    """x' under `body`, written to row 2 of `table`; `needs` are those of the row unless a wider batch is asked for."""
    site = compiled(body).get(layer)
    if site is None:
        return x
    table = table or new_table(layer)
    site.write(table, 2)
    return steer(x, torch.full((len(x),), 2), table, saes_at(layer), needs or site.needs).x


def by_formulas(body, layer=LAYER, x=X):
    """The same straight from the request: no merging, every feature edit on the dense code."""
    names = PLAN.saes_at(layer)
    edits = [[_edit(e) for e in body.get("features", []) if e.get("sae", "default") == name] for name in names]
    replaced = {e.get("sae", "default") for e in body.get("features", [])} or {"default"}
    replaced = [names.index(name) + 1 for name in names if name in replaced and not body.get("error_term", True)]
    vectors = [
        Vector(VECTORS[v["name"]], v.get("mode", "add"), *_amount(v["alpha"], v.get("unit", "raw")))
        for v in body.get("vectors", [])
        if PLAN.vectors[v["name"]].layer == layer
    ]
    program = Program(
        edits,
        vectors,
        replace=replaced[0] if replaced else 0,
        preserve=body.get("norm") == "preserve",
        max_norm=body.get("max_norm", float("inf")),
    )
    if not (any(edits) or vectors or replaced):
        return x
    return torch.stack([steer_token(row.double(), program, saes_at(layer)) for row in x]).float()


def _edit(e):
    unit, value = e.get("unit", "raw"), e.get("value", 0.0)
    maximum = SAES[e.get("sae", "default")].max_act[e["id"]].item()
    raw, per_norm = _amount(value * maximum if unit == "max_act" else value, unit)
    when = e.get("when")
    return Edit(e["id"], e.get("op", "add"), raw, per_norm, (when["feature"], when.get("above", 0.0)) if when else None)


def _amount(value, unit):
    return (0.0, value) if unit == "norm" else (value, 0.0)


VALUE = st.floats(-20, 20, width=16)
UNIT = st.sampled_from(["raw", "norm", "max_act"])
FEATURE = st.integers(0, D_SAE - 1)


@st.composite
def feature_edits(draw, saes=tuple(KINDS)):
    op = draw(st.sampled_from(["add", "add", "set", "scale", "min", "max", "ablate"]))
    edit = {"id": draw(FEATURE), "op": op, "sae": draw(st.sampled_from(saes))}
    if op != "ablate":
        edit["value"] = draw(VALUE)
    if op not in ("scale", "ablate"):
        edit["unit"] = draw(UNIT)
    if draw(st.booleans()):
        edit["when"] = {"feature": draw(FEATURE), "above": draw(st.sampled_from([-1.0, 0.0, 0.5, 1e300, -1e300]))}
    return edit


@st.composite
def vector_edits(draw):
    mode = draw(st.sampled_from(["add", "add", "orthogonal", "cap"]))
    unit = "raw" if mode == "orthogonal" else draw(st.sampled_from(["raw", "norm"]))
    return {"name": draw(st.sampled_from(sorted(VECTORS))), "alpha": draw(VALUE), "mode": mode, "unit": unit}


@st.composite
def bodies(draw):
    error_term = draw(st.booleans())
    saes = tuple(KINDS) if error_term else (draw(st.sampled_from(["default", "gated", "normed"])), "late")
    unique = st.lists(feature_edits(saes), max_size=5, unique_by=lambda e: (e["sae"], e["id"]))
    body = {"features": draw(unique), "vectors": draw(st.lists(vector_edits(), max_size=4)), "error_term": error_term}
    if draw(st.booleans()):
        body["norm"] = "preserve"
    if draw(st.booleans()):
        body["max_norm"] = draw(st.sampled_from([0.1, 2.5, 1e30, 1e300]))
    if draw(st.booleans()):
        sae = draw(st.sampled_from(sorted(KINDS)))
        body["read"] = {"features": draw(st.lists(FEATURE, max_size=3)), "top": draw(st.integers(0, 3)), "sae": sae}
    return body


CLOSE = {"atol": 2e-2, "rtol": 1e-4}  # edits of up to 60 times a norm of 10, in float32


@pytest.mark.parametrize("layer", [LAYER, OTHER_LAYER])
@given(body=bodies())
def test_any_spec_does_what_its_formulas_say(layer, body):
    torch.testing.assert_close(steered(body, layer), by_formulas(body, layer), **CLOSE)


@settings(max_examples=60)
@given(before=st.lists(bodies(), min_size=1, max_size=3), body=bodies())
def test_a_rewritten_row_forgets_what_it_held(before, body):
    """Also where another row of the batch has more edits and projections than this one."""
    every = (True,) * 3
    widest = Needs(NORM_SHIFT, MAX_PROJECTIONS, (MAX_EDITS,) * 3, every, every, (0,) * 3, True, True)
    used = new_table(LAYER)
    for earlier in before:
        steered(earlier, table=used)
    assert torch.equal(steered(body, table=used, needs=widest), steered(body, needs=widest))


@settings(max_examples=60)
@given(body=bodies(), data=st.data())
def test_the_order_of_edits_changes_no_bit(body, data):
    """Requests that differ in order alone share a digest, and with it a row and KV blocks."""
    again = {
        **body,
        "features": data.draw(st.permutations(body["features"])),
        "vectors": data.draw(st.permutations(body["vectors"])),
    }
    assert parse_spec(again).program_key == parse_spec(body).program_key
    for layer in (LAYER, OTHER_LAYER):
        assert torch.equal(steered(again, layer), steered(body, layer))
    for layer, site in compiled(body).items():
        assert [list(edits) for edits in site.edits] == [list(edits) for edits in compiled(again)[layer].edits]


ADDS = [{"id": 1, "value": 2.0}, {"id": 2, "value": -1.0, "unit": "norm"}, {"id": 3, "value": 0.5, "unit": "max_act"}]


def test_the_order_of_vectors_changes_no_bit_of_their_sum():
    vectors = [{"name": name, "alpha": alpha} for name, alpha in [("v0", 0.1), ("v1", 0.3), ("v0", 0.7), ("v1", -1.3)]]
    sums = [compiled({"vectors": list(order)})[LAYER].shift for order in itertools.permutations(vectors)]
    assert all(torch.equal(sums[0], other) for other in sums)


def test_unconditional_additions_need_no_encoder():
    site = compiled({"features": ADDS, "vectors": [{"name": "v0", "alpha": 3.0}]})[LAYER]
    assert not any(site.edits) and site.needs.num_edits == (0, 0, 0)
    W = SAES["default"].W_dec
    torch.testing.assert_close(site.shift, 2.0 * W[1] + 0.5 * SAES["default"].max_act[3] * W[3] + 3.0 * VECTORS["v0"])
    torch.testing.assert_close(site.shift_per_norm, -W[2])


@pytest.mark.parametrize(
    "body",
    [
        {"features": [*ADDS, {"id": 9, "op": "set", "value": 1.0}]},
        {"features": [*ADDS[:2], {**ADDS[2], "when": {"feature": 4}}]},
        {"features": ADDS, "error_term": False},
        {"features": [{**edit, "sae": "normed"} for edit in ADDS]},
        {"features": ADDS, "read": {"features": [1]}},
        {"features": ADDS, "read": {"top": 1}},
    ],
    ids=["beside a set", "a gated one", "replaced", "normalised input", "read", "read top"],
)
def test_additions_stay_edits_where_an_encoder_runs_anyway(body):
    """There the receipt can tell what they did to each feature."""
    site = compiled(body)[LAYER]
    assert {e["id"] for e in body["features"]} <= {edit.feature for edits in site.edits for edit in edits}
    assert site.shift is None and site.shift_per_norm is None
    torch.testing.assert_close(steered(body), by_formulas(body), **CLOSE)


def test_additions_of_one_sae_are_merged_beside_edits_of_another():
    body = {"features": [*ADDS, {"id": 4, "op": "ablate", "sae": "gated"}]}
    site = compiled(body)[LAYER]
    assert [len(edits) for edits in site.edits] == [0, 1, 0] and site.shift is not None
    torch.testing.assert_close(steered(body), by_formulas(body), **CLOSE)


def test_layers_that_nothing_touches_get_no_program():
    assert compiled({"features": ADDS}).keys() == {LAYER}
    assert compiled({"vectors": [{"name": "v2", "alpha": 1.0}]}).keys() == {OTHER_LAYER}
    assert compiled({"read": {"top": 2, "sae": "late"}}).keys() == {OTHER_LAYER}
    assert compiled({"error_term": False, "vectors": [{"name": "v2", "alpha": 1.0}]}).keys() == {LAYER, OTHER_LAYER}


def test_needs_name_only_what_the_row_uses():
    needs = compiled({"features": [{"id": 1, "op": "set", "value": 2.0, "sae": "gated"}]})[LAYER].needs
    assert needs == (NO_SHIFT, 0, (0, 1, 0), (False,) * 3, (False,) * 3, (0, 0, 0), False, False)
    body = {
        "features": [{"id": 1, "op": "set", "value": 2.0, "when": {"feature": 3}}],
        "vectors": [{"name": "v0", "alpha": 1.0, "unit": "norm"}, {"name": "v1", "alpha": 1.0, "mode": "cap"}],
        "error_term": False,
        "norm": "preserve",
        "max_norm": 5.0,
        "read": {"top": 4, "sae": "normed"},
    }
    every = compiled(body)[LAYER].needs
    assert every == (NORM_SHIFT, 1, (1, 0, 0), (True, False, False), (True, False, False), (0, 0, 4), True, True)


def test_reads_list_each_feature_once_and_steer_nothing():
    body = {"features": [{"id": 7, "op": "set", "value": 1.0}], "read": {"features": [2, 7, 2, 5]}}
    site = compiled(body)[LAYER]
    assert [edit.feature for edit in site.edits[0]] == [7, 2, 5]
    assert torch.equal(steered({"read": {"features": [1, 2], "top": 3}}), X)


def test_read_additions_report_what_they_added():
    site = compiled({"features": [{"id": 7, "value": 4.0}], "read": {"features": [7]}})[LAYER]
    table = new_table(LAYER)
    site.write(table, 1)
    result = steer(X, torch.ones(6, dtype=torch.int64), table, saes_at(LAYER), site.needs)
    f = encode(X, SAES["default"])[:, 7]
    torch.testing.assert_close(result.before[0][:, 0], f)
    torch.testing.assert_close(result.after[0][:, 0], f + 4.0)


HUGE = [1e38, -1e38, 1e300, -1e300, 5e-324]


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "body",
    [
        *(
            {"features": [{"id": i, "op": op, "unit": unit} for i in range(4)], "error_term": error_term}
            for op in ("add", "set", "min", "max")
            for unit in ("raw", "norm", "max_act")
            for error_term in (True, False)
        ),
        {"features": [{"id": i, "op": "scale"} for i in range(4)]},
        {"features": [{"id": 1, "op": "set", "sae": "normed"}], "norm": "preserve"},
        *(
            {"vectors": [{"name": n, "mode": mode, "unit": unit} for n in ("v0", "v1")]}
            for mode, unit in [("add", "raw"), ("add", "norm"), ("cap", "raw"), ("cap", "norm"), ("orthogonal", "raw")]
        ),
    ],
    ids=str,
)
def test_no_request_leaves_inf_or_nan_behind(body, dtype, value):
    """Through a site in each dtype that a model may run in, up and down at once."""
    body = {
        **body,
        "features": [{**e, "value": value * (-1) ** e["id"]} for e in body.get("features", [])],
        "vectors": [{**v, "alpha": value} for v in body.get("vectors", [])],
    }
    site = Site(LAYER, {name: SAES[name] for name in PLAN.saes_at(LAYER)}, 3, D_MODEL, (MAX_EDITS, MAX_PROJECTIONS))
    site.write_row(1, compiled(body)[LAYER])
    hidden = torch.cat([X, 1e3 * X]).to(dtype)
    for _ in range(2):  # the second time on a residual that is already saturated
        site.begin(Batch(torch.arange(12), torch.ones(12, dtype=torch.int64), True), {1})
        site.steer_(hidden, None)
        assert hidden.isfinite().all()
        assert hidden.float().norm(dim=-1).isfinite().all()
        assert site.step.report.delta_norm.isfinite().all()


@pytest.mark.parametrize("value", [1e38, 1e300, 1e-30])
def test_bounds_beyond_float32_are_bounds(value):
    edit = {"id": 1, "op": "set", "value": 2.0}
    assert torch.equal(
        steered({"features": [edit], "max_norm": value}), X if value < 1 else steered({"features": [edit]})
    )
    gated = {"features": [{**edit, "when": {"feature": 1, "above": value}}]}
    torch.testing.assert_close(steered(gated), by_formulas(gated))
    opened = {"features": [{**edit, "when": {"feature": 1, "above": -value}}]}
    torch.testing.assert_close(steered(opened), by_formulas(opened))
