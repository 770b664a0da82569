"""Receipts: steered + cached = in scope, whatever happened on the way; a token missed is an error."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiller.engine.inventory import Plan, SAEEntry, VectorEntry
from tiller.engine.receipt import FeatureReport, Receipt, UnsteeredError, align_read
from tiller.engine.spec import parse_spec
from tiller.engine.worker.log import StepLog
from tiller.engine.worker.program import compile_spec
from tiller.engine.worker.receipts import receipt_of
from tiller.engine.worker.site import SiteReport

from ..formulas import make_sae  # noqa: TID252

D_SAE = 24
PLAN = Plan(
    saes={
        name: SAEEntry(path=name, layer=layer, d_sae=D_SAE, d_model=8, format="")
        for name, layer in [("default", 3), ("twin", 3), ("late", 5)]
    },
    vectors={"french": VectorEntry(path="", layer=5)},
)
SAES = {name: make_sae("topk", seed=i) for i, name in enumerate(PLAN.saes)}
VECTORS = {"french": torch.ones(8)}
RECORD = 1
SET = {"features": [{"id": 7, "op": "set", "value": 2.0}]}


class Request:
    """One request in a simulated engine; what its tokens' features were is a function of feature and position."""

    def __init__(self, body, prompt_len=6, extra_width=0, extra_top=0):
        self.spec = parse_spec(body)
        self.scope = self.spec.scope(prompt_len)
        self.programs = compile_spec(self.spec, PLAN, SAES, VECTORS)
        self.log, self.num_reused, self.at = StepLog(), 0, 0
        self.extra_width, self.extra_top = extra_width, extra_top

    def admit(self, num_computed):
        self.num_reused, self.at = max(self.num_reused, num_computed), num_computed

    def step(self, num_tokens, skip=(), idle_layers=()):
        """Computes the next tokens; positions in `skip` and sites in `idle_layers` are bugs of the engine."""
        span = range(self.at, self.at + num_tokens)
        self.at += num_tokens
        positions = np.array([p for p in span if self.scope.lo <= p < self.scope.hi and p not in skip], dtype=np.int64)
        if not len(positions):
            return
        reports = {layer: self._report(layer, positions) for layer in self.programs if layer not in idle_layers}
        self.log.append(np.full(len(positions), RECORD), positions, reports)

    def _report(self, layer, positions):
        before, after, top = [], [], []
        for index, edits in enumerate(self.programs[layer].edits):
            features = [edit.feature for edit in edits] + [0] * self.extra_width
            f = torch.tensor([[activation(i, p) for i in features] for p in positions]).reshape(len(positions), -1)
            before.append(f)
            after.append(f + 1.0)
            num = self.programs[layer].top[index]
            top.append(self._top(positions, num + self.extra_top) if num else None)
        return SiteReport(torch.tensor(positions * 0.5 + layer, dtype=torch.float32), before, after, top)

    def _top(self, positions, num):
        f = torch.tensor([[activation(i, p) for i in range(D_SAE)] for p in positions])
        values, ids = f.sort(dim=-1, descending=True, stable=True)
        return values[:, :num], ids[:, :num]

    def receipt(self, num_fed):
        columns = self.log.take({RECORD}).get(RECORD, {})
        return receipt_of(self.spec, PLAN, self.programs, self.scope, self.num_reused, columns, num_fed)


def activation(feature, position):
    return float(max(0, (feature * 7 + position * 5) % 11 - 4))


def over(feature, positions):
    return [activation(feature, p) for p in positions]


def test_a_request_in_one_step():
    request = Request(SET)
    request.step(6)
    for _ in range(3):
        request.step(1)
    receipt = request.receipt(num_fed=9)
    f = over(7, range(9))
    assert receipt == {
        "spec_hash": request.spec.digest,
        "tokens_in_scope": 9,
        "tokens_steered": 9,
        "tokens_cached": 0,
        "mean_delta_norm": pytest.approx(5.0),
        "layers": {"3": pytest.approx(5.0)},
        "features": [
            {
                "id": 7,
                "sae": "default",
                "op": "set",
                "share_active": pytest.approx(np.mean([a > 0 for a in f])),
                "mean_before": pytest.approx(np.mean(f)),
                "mean_after": pytest.approx(np.mean(f) + 1.0),
            }
        ],
        "read": None,
    }
    again = Receipt.from_worker(json.loads(json.dumps(receipt)))
    assert again.features == [FeatureReport(**receipt["features"][0])] and again.to_dict() == receipt


def test_tokens_from_the_cache_are_counted_as_such():
    request = Request(SET)
    request.admit(num_computed=4)
    request.step(2)
    request.step(1)
    receipt = request.receipt(num_fed=7)
    assert (receipt["tokens_in_scope"], receipt["tokens_steered"], receipt["tokens_cached"]) == (7, 3, 4)


def test_recomputed_tokens_count_once():
    request = Request(SET)
    request.step(6)
    request.step(1)
    request.admit(num_computed=0)
    request.step(7)
    request.step(1)
    receipt = request.receipt(num_fed=8)
    assert (receipt["tokens_steered"], receipt["tokens_cached"]) == (8, 0)
    assert receipt["features"][0]["mean_before"] == pytest.approx(np.mean(over(7, range(8))))


def test_tokens_computed_past_the_answer_do_not_count():
    """Asynchronous scheduling computes a token more than the answer holds."""
    request = Request({**SET, "read": {"features": [2], "reduce": "none"}})
    request.step(6)
    request.step(1)
    request.step(1)
    receipt = request.receipt(num_fed=7)
    assert receipt["tokens_steered"] == receipt["tokens_in_scope"] == 7
    assert receipt["read"]["features"]["2"] == over(2, range(7))


def test_a_site_never_reached_is_an_error():
    request = Request({**SET, "vectors": [{"name": "french", "alpha": 1.0}]})
    request.step(6)
    request.step(1, idle_layers=[5])
    with pytest.raises(UnsteeredError, match="1 of 7 computed tokens in scope were not steered"):
        request.receipt(num_fed=7)


def test_a_request_never_steered_is_an_error():
    with pytest.raises(UnsteeredError, match="7 of 7"):
        Request(SET).receipt(num_fed=7)


def test_a_request_served_whole_from_the_cache_has_a_receipt():
    request = Request({**SET, "where": "prompt"})
    request.admit(num_computed=6)
    receipt = request.receipt(num_fed=8)
    assert (receipt["tokens_in_scope"], receipt["tokens_steered"], receipt["tokens_cached"]) == (6, 0, 6)
    assert receipt["mean_delta_norm"] == 0.0 and receipt["features"][0]["mean_before"] is None


def test_a_scope_that_the_request_never_enters():
    request = Request({**SET, "where": "generated"})
    request.step(6)
    receipt = request.receipt(num_fed=6)
    assert (receipt["tokens_in_scope"], receipt["tokens_steered"], receipt["tokens_cached"]) == (0, 0, 0)


def test_layers_are_reported_apart_and_summed():
    request = Request({**SET, "vectors": [{"name": "french", "alpha": 1.0}]})
    request.step(5)
    receipt = request.receipt(num_fed=5)
    assert receipt["layers"] == {"3": pytest.approx(4.0), "5": pytest.approx(6.0)}
    assert receipt["mean_delta_norm"] == pytest.approx(10.0)


def test_edits_that_need_no_encoder_report_no_activation():
    request = Request({"features": [{"id": 7, "value": 2.0}]})
    request.step(5)
    assert request.receipt(num_fed=5)["features"] == [
        {"id": 7, "sae": "default", "op": "add", "share_active": None, "mean_before": None, "mean_after": None}
    ]


def test_each_edit_is_reported_under_its_own_sae_in_the_order_given():
    edits = [(9, "twin"), (7, "default"), (2, "default"), (4, "late")]
    request = Request({"features": [{"id": i, "op": "set", "value": 1.0, "sae": sae} for i, sae in edits]})
    request.step(6)
    reports = request.receipt(num_fed=6)["features"]
    assert [(r["id"], r["sae"]) for r in reports] == edits
    assert [r["mean_before"] for r in reports] == [pytest.approx(np.mean(over(i, range(6)))) for i, _ in edits]


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize(("reduce", "fold"), [("mean", np.mean), ("max", np.max), ("none", list)])
def test_reads_do_not_depend_on_what_neighbours_ask_for(reduce, fold, extra):
    body = {"read": {"features": [2, 9], "top": 3, "reduce": reduce}, "where": "prompt"}
    request = Request(body, extra_width=extra, extra_top=extra)
    request.step(4)
    request.extra_width = request.extra_top = 0
    request.step(4)
    read = request.receipt(num_fed=8)["read"]
    assert read["sae"] == "default" and read["reduce"] == reduce
    assert {i: pytest.approx(fold(over(int(i), range(6)))) for i in ("2", "9")} == read["features"]
    assert read.get("positions") == (list(range(6)) if reduce == "none" else None)
    top = [sorted(((activation(i, p), -i) for i in range(D_SAE)), reverse=True)[:3] for p in range(6)]
    if reduce == "none":
        assert read["top"] == [[[-i, a] for a, i in row if a > 0] for row in top]
        return
    total = {}
    for a, i in (entry for row in top for entry in row if entry[0] > 0):
        total.setdefault(-i, []).append(a)
    folded = {i: max(found) if reduce == "max" else sum(found) / 6 for i, found in total.items()}
    expected = sorted(folded.items(), key=lambda entry: (-entry[1], entry[0]))[:3]
    assert read["top"] == [[i, pytest.approx(a)] for i, a in expected]


def test_reads_of_nothing_computed():
    for reduce, nothing in [("mean", None), ("none", [])]:
        request = Request({"read": {"features": [2], "top": 3, "reduce": reduce}, "where": "generated"})
        request.step(6)
        read = request.receipt(num_fed=6)["read"]
        assert read["features"] == {"2": nothing} and read["top"] == []


WHERE = st.sampled_from(["all", "prompt", "generated"]) | st.builds(
    lambda start, length: {"start": start, "end": start + length}, st.integers(0, 9), st.integers(1, 9)
)


@st.composite
def courses(draw):
    """A request's life: chunks, preemptions, cache hits; some tokens may be computed past its end."""
    prompt_len, generated = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    body = {**SET, "where": draw(WHERE), "skip_first": draw(st.integers(0, 3))}
    request = Request(body, prompt_len, draw(st.integers(0, 2)))
    num_fed = prompt_len + generated - 1
    request.admit(draw(st.integers(0, prompt_len - 1)))
    while request.at < num_fed:
        if draw(st.integers(0, 4)) == 0:
            request.admit(draw(st.integers(0, request.at)))
        request.extra_width = draw(st.integers(0, 2))
        request.step(draw(st.integers(1, 4)))
    return request, num_fed


@given(course=courses())
def test_steered_and_cached_are_all_there_is(course):
    request, num_fed = course
    receipt = request.receipt(num_fed)
    in_scope = request.scope.count(num_fed)
    assert receipt["tokens_in_scope"] == in_scope
    assert receipt["tokens_steered"] + receipt["tokens_cached"] == in_scope
    assert 0 <= receipt["tokens_cached"] <= min(request.num_reused, in_scope)


@given(course=courses(), data=st.data())
def test_one_token_missed_is_never_hidden(course, data):
    """Of the tokens that no cache can have served, any one that passed unsteered is found."""
    request, num_fed = course
    candidates = [p for p in range(request.num_reused, num_fed) if request.scope.lo <= p < request.scope.hi]
    if not candidates:
        return
    missed = data.draw(st.sampled_from(candidates))
    columns = request.log.take({RECORD})[RECORD]
    kept = columns["position"] != missed
    columns = {name: column[kept] for name, column in columns.items()}
    with pytest.raises(UnsteeredError, match="1 of"):
        receipt_of(request.spec, PLAN, request.programs, request.scope, request.num_reused, columns, num_fed)


def test_read_out_names_its_tokens() -> None:
    receipt = Receipt(
        spec_hash="",
        tokens_in_scope=2,
        tokens_steered=2,
        tokens_cached=0,
        mean_delta_norm=0.0,
        read={"positions": [1, 3]},
    )
    read = align_read(receipt, [10, 11, 12], [13, 14], str).read
    assert read == {"positions": [1, 3], "prompt_len": 3, "token_ids": [11, 13], "tokens": ["11", "13"]}
