"""A worker's steps without vLLM: the same requests through the reference and through Triton, laid out on the host (as under
model runner V1) and on the device (V2)."""

import numpy as np
import pytest
import torch

from tiller.engine.worker.steering import Steering
from tiller.kernels.workspace import Workspace

from .test_program import D_MODEL, PLAN, SAES, VECTORS

NUM_REQUESTS, MAX_TOKENS = 6, 40
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SPECS = {
    "plain": None,
    "edits": {"features": [{"id": 3, "op": "set", "value": 2.0}, {"id": 5, "op": "scale", "value": 0.5}]},
    "when": {"features": [{"id": 1, "op": "add", "value": 1.5, "sae": "gated", "when": {"feature": 4, "above": 0.2}}]},
    "replaced": {
        "features": [{"id": 2, "op": "min", "value": 1.0, "sae": "gated"}],
        "error_term": False,
        "where": "prompt",
    },
    "late": {
        "vectors": [{"name": "v2", "alpha": 3.0}, {"name": "v0", "alpha": 0.2, "unit": "norm"}],
        "where": "generated",
    },
    "read": {"read": {"top": 3, "features": [7], "reduce": "none"}, "where": {"start": 2, "end": 7}},
}
WAYS = ("reference", "host", "device")


class Worker:
    """Steering driven as a model runner drives it, over a stream of random tokens that depend on (request, position)."""

    def __init__(self, way):
        self.way = way
        saes = {name: sae.to(DEVICE) for name, sae in SAES.items()}
        with DEVICE:
            self.steering = Steering(PLAN, saes, {n: v.to(DEVICE) for n, v in VECTORS.items()}, D_MODEL, NUM_REQUESTS)
        if way != "reference":
            limits = (len(PLAN.layers), D_MODEL, MAX_TOKENS, PLAN.max_edits, PLAN.max_top)
            self.steering.use_kernels(Workspace(saes, *limits, torch.float32, DEVICE), NUM_REQUESTS)
        self.slots = {name: slot for slot, name in enumerate(reversed(SPECS))}
        self.seen = {}

    def admit(self, name, prompt_len, num_computed=0):
        extra = {"steering": SPECS[name], "steering_id": f"id-{name}"} if SPECS[name] else None
        slot = self.slots[name] if self.way == "device" else -1
        self.steering.admit(name, extra, prompt_len, num_computed, slot)

    def step(self, batch):
        """`batch` {request: (first position, tokens)}: lays out, runs every site, keeps what left it."""
        names = list(batch)
        loc = np.cumsum([0, *(num for _, num in batch.values())]).astype(np.int32)
        positions = torch.cat([torch.arange(first, first + num) for first, num in batch.values()]).to(DEVICE)
        if self.way == "device":
            mapping = torch.tensor([self.slots[name] for name in names], device=DEVICE)
            self.steering.begin_step_on_device(names, torch.from_numpy(loc).to(DEVICE), mapping, positions)
        else:
            self.steering.begin_step(names, loc, positions)
        owners = [(name, position) for name, (first, num) in batch.items() for position in range(first, first + num)]
        stream = torch.stack([token(*owner) for owner in owners]).to(DEVICE)
        for site in self.steering.site_list():
            site.steer_(stream, None)
        self.seen |= dict(zip(owners, stream.cpu(), strict=True))


def token(name, position):
    return torch.randn(D_MODEL, generator=torch.Generator().manual_seed(97 * list(SPECS).index(name) + position))


def run(way):
    """A prefill in chunks, decodes in a changing order, a preemption with recompute, a step of strangers; then receipts."""
    worker = Worker(way)
    for name in SPECS:
        worker.admit(name, prompt_len=5)
    worker.step({name: (0, 3) for name in SPECS})
    worker.step({name: (3, 2) for name in reversed(SPECS)})
    worker.step({name: (5, 1) for name in SPECS})
    worker.steering.release("edits")
    worker.step({"read": (6, 1), "plain": (6, 1), "late": (6, 1)})
    worker.admit("edits", prompt_len=5, num_computed=2)
    worker.step({"edits": (2, 4), "when": (6, 1), "replaced": (6, 1)})
    worker.step({"plain": (7, 2)})
    worker.step({"edits": (6, 1)})
    asked = [(f"id-{name}", -1, 7) for name in SPECS]
    return worker, worker.steering.claim(asked)


@pytest.fixture(scope="module")
def runs():
    return {way: run(way) for way in WAYS}


@pytest.mark.parametrize("way", WAYS[1:])
def test_the_stream_is_the_references(runs, way):
    expected, got = runs["reference"][0].seen, runs[way][0].seen
    assert expected.keys() == got.keys()
    for owner, x in expected.items():
        torch.testing.assert_close(got[owner], x, atol=2e-4, rtol=2e-5, msg=str(owner))
    steered = {owner for owner, x in expected.items() if not torch.equal(x, token(*owner))}
    assert {name for name, _ in steered} == {"edits", "when", "replaced", "late"}
    assert steered == {owner for owner, x in got.items() if not torch.equal(x, token(*owner))}


@pytest.mark.parametrize("way", WAYS[1:])
def test_receipts_are_the_references(runs, way):
    for name, expected, got in zip(SPECS, runs["reference"][1], runs[way][1], strict=True):
        assert (expected is None) == (got is None) == (name == "plain")
        if expected is not None:
            assert_alike(got, expected)
            assert got["tokens_in_scope"] == got["tokens_steered"] + got["tokens_cached"] > 0


def assert_alike(got, expected):
    """Equal, numbers up to float32's rounding."""
    assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            assert_alike(got[key], expected[key])
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for pair in zip(got, expected, strict=True):
            assert_alike(*pair)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    else:
        assert got == expected


@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_nobody_laid_out_steers_nothing(runs, way):
    """A warm-up or an idle data-parallel rank runs the model between steps."""
    worker = runs[way][0]
    worker.admit("edits", prompt_len=5)
    worker.step({"edits": (0, 5)})
    worker.steering.end_step()
    stream = torch.randn(MAX_TOKENS, D_MODEL, device=DEVICE)
    before = stream.clone()
    for site in worker.steering.site_list():
        site.steer_(stream, None)
    assert torch.equal(stream, before)
    worker.steering.release("edits")
