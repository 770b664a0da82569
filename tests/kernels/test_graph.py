"""Inside a CUDA graph: what was captured once steers every later step by the tables and rows it then finds."""

import pytest
import torch

from tiller.kernels.steerer import Steerer
from tiller.kernels.workspace import Workspace

from ..formulas import Edit, Program  # noqa: TID252
from . import programs as reference
from .steered import exact_sae, exact_tokens, table_of

pytestmark = pytest.mark.gpu
NUM = 48


@pytest.fixture(params=["topk", "threshold"])
def captured(request):
    """A graph of the op over (hidden, residual), with its table, workspace and SAE; captured while nothing was steered."""
    sae = exact_sae(request.param, 5000, 256, k=33)
    on_device = sae.to("cuda", torch.bfloat16)
    table = table_of([Program([[]])] * 4, 1, 256)
    space = Workspace({"sae": on_device}, 1, 256, NUM, 4, 0, torch.bfloat16, torch.device("cuda"))
    steerer = Steerer({"sae": on_device}, table, space)
    hidden, residual = torch.zeros(2, NUM, 256, device="cuda", dtype=torch.bfloat16)
    space.begin(torch.zeros(0, dtype=torch.int32, device="cuda"))
    steerer(hidden, residual)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steerer(hidden, residual)
    return graph, hidden, residual, table, space, sae


def test_replays_follow_changing_tables(captured):
    graph, hidden, residual, table, space, sae = captured
    for step in range(6):
        x, other = exact_tokens(NUM, 256, seed=step), exact_tokens(NUM, 256, seed=100 + step)
        own = [
            Program([[Edit(step, "set", 3.0 + step)]], replace=step % 2),
            Program([[Edit(7, "add", 1.0), Edit(9 + step, "scale", 2.0)]]),
        ]
        rows = [(t + step) % 3 if step != 3 else 0 for t in range(NUM)]
        for row, program in enumerate(own, start=1):
            fresh = table_of([program], 1, 256)
            for mine, theirs in zip(table.tensors().values(), fresh.tensors().values(), strict=True):
                mine[row].copy_(theirs[1])
        hidden.copy_(x)
        residual.copy_(other)
        space.begin(torch.tensor(rows, dtype=torch.int32, device="cuda"))
        graph.replay()
        expected = reference.run(x + other, rows, own, [sae]).x
        assert torch.equal((hidden + residual).float().cpu(), expected.bfloat16().float())


def test_a_replay_over_idle_rows_changes_nothing(captured):
    graph, hidden, residual, _, space, _ = captured
    x = torch.randn(2, NUM, 256, device="cuda").bfloat16()
    hidden.copy_(x[0])
    residual.copy_(x[1])
    space.begin(torch.zeros(0, dtype=torch.int32, device="cuda"))
    graph.replay()
    assert torch.equal(hidden, x[0]) and torch.equal(residual, x[1])
    assert space.delta.isnan().all()


def test_nothing_waits_for_the_host(captured):
    _, hidden, residual, table, space, sae = captured
    steerer = Steerer({"sae": sae.to("cuda", torch.bfloat16)}, table, space)
    torch.cuda.set_sync_debug_mode("error")
    try:
        steerer(hidden, residual)
    finally:
        torch.cuda.set_sync_debug_mode("default")
