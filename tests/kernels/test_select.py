"""K2 alone, on activations of our choice: exact for every input that an encoder can hand it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tiller.kernels.steerer import Steerer
from tiller.kernels.workspace import Workspace, group_size, num_groups

from ..formulas import Edit, Program, make_sae  # noqa: TID252
from .steered import DEVICE, poison_workspace, table_of

SMALLEST = 1e-45  # a denormal


def select(f, k, edits=(), activation="topk"):
    """Values, ids [n, k] and before [n, len(edits)] that select_kernel finds for activations f [n, F]."""
    num, d_sae = f.shape
    sae = make_sae(activation, d_sae=d_sae, k=k).to(DEVICE)
    programs = [Program([[Edit(feature, "read") for feature in edits]], replace=1)]
    space = Workspace({"sae": sae}, 1, 8, num, 4, k, torch.float32, DEVICE)
    poison_workspace(space)
    space.begin(torch.ones(num, dtype=torch.int32, device=DEVICE))
    encoder = Steerer({"sae": sae}, table_of(programs, 1, 8), space).encoders[0]
    space.f[: num * d_sae] = f.to(DEVICE).flatten()
    groups, size = num_groups(d_sae, k), group_size(d_sae, k)
    padded = torch.nn.functional.pad(f, (0, groups * size - d_sae))
    space.group_max[: num * groups] = padded.view(num, groups, size).amax(-1).to(DEVICE).flatten()
    own = space.saes["sae"]
    own.queue[0] = num
    own.queue[1:] = torch.arange(num).flip(0)  # slot and token are not the same thing
    own.moments.fill_(1.0)
    encoder.select(0, num)
    found = [t[: len(f)].flip(0).cpu() for t in (own.values, own.ids, own.named[:, : len(edits), 0])]
    return found


def stable(f, k):
    """Ids of the k largest by a stable descending sort, in ascending order."""
    return f.sort(dim=-1, descending=True, stable=True).indices[:, :k].sort(-1).values


VALUES = st.sampled_from([0.0, 0.0, 1.0, 1.0, 2.0, SMALLEST, 2 * SMALLEST, 3.4e38, torch.inf]) | st.floats(0, width=32)


@settings(max_examples=60)
@given(f=arrays.arrays("float32", st.tuples(st.integers(1, 3), st.integers(1, 120)), elements=VALUES), data=st.data())
def test_topk_is_a_stable_descending_sort(f, data):
    f = torch.from_numpy(f).abs()
    k = data.draw(st.integers(1, f.shape[1]))
    values, ids, _ = select(f, k)
    assert torch.equal(ids.long(), stable(f, k))
    assert torch.equal(values, f.gather(1, ids.long()))


@pytest.mark.parametrize("k", [1, 33, 64])
@pytest.mark.parametrize("d_sae", [64, 576, 5000, 16384])
@pytest.mark.parametrize("kind", ["random", "ties", "few", "none", "one value", "last group"])
def test_topk_of_large_rows(d_sae, k, kind):
    """Through the group maxima, where most features are never looked at."""
    g = torch.Generator().manual_seed(d_sae + k)
    f = torch.randn(4, d_sae, generator=g).relu()
    match kind:
        case "ties":
            f = torch.randint(0, 4, (4, d_sae), generator=g).float()
        case "few":
            f = torch.where(torch.rand(4, d_sae, generator=g) < 5 / d_sae, f + 1, 0.0)
        case "none":
            f = torch.zeros(4, d_sae)
        case "one value":
            f = torch.full((4, d_sae), 0.1)
        case "last group":
            f[:, -7:] += 100.0
    values, ids, _ = select(f, k)
    assert torch.equal(ids.long(), stable(f, k))
    assert torch.equal(values, f.gather(1, ids.long()))


@given(seed=st.integers(0, 10**6), levels=st.integers(2, 6))
@settings(max_examples=25)
def test_a_named_feature_is_active_iff_it_is_among_the_k_largest(seed, levels):
    """Ties at the boundary: membership must follow the feature's place, not its value alone."""
    g = torch.Generator().manual_seed(seed)
    f = torch.randint(0, levels, (3, 600), generator=g).float()
    edits = torch.randint(0, 600, (4,), generator=g).tolist()
    _, _, before = select(f, 20, edits)
    kept = torch.zeros_like(f).scatter_(1, stable(f, 20), f.gather(1, stable(f, 20)))
    assert torch.equal(before, kept[:, edits])


def test_ties_at_the_boundary_do_occur_above():
    f = torch.randint(0, 4, (3, 600), generator=torch.Generator().manual_seed(0)).float()
    order = f.sort(dim=-1, descending=True, stable=True).values
    assert (order[:, 19] == order[:, 20]).all()


@pytest.mark.parametrize("d_sae", [64, 5000])
def test_elementwise_activations_list_the_groups_that_hold_anything(d_sae):
    f = torch.zeros(2, d_sae)
    f[0, [0, 17, d_sae - 1]] = 1.0
    sae = make_sae("threshold", d_sae=d_sae).to(DEVICE)
    space = Workspace({"sae": sae}, 1, 8, 2, 4, 3, torch.float32, DEVICE)
    poison_workspace(space)
    space.begin(torch.ones(2, dtype=torch.int32, device=DEVICE))
    encoder = Steerer({"sae": sae}, table_of([Program([[]], replace=1)], 1, 8), space).encoders[0]
    size, groups = group_size(d_sae, 3), num_groups(d_sae, 3)
    padded = torch.nn.functional.pad(f, (0, groups * size - d_sae)).view(2, groups, size)
    space.group_max[: 2 * groups] = padded.amax(-1).flatten().to(DEVICE)
    space.f[: 2 * d_sae] = f.flatten().to(DEVICE)
    own = space.saes["sae"]
    own.queue[:] = torch.tensor([2, 0, 1])
    own.moments.fill_(1.0)
    encoder.select(0, 2)
    listed = space.groups[: 2 * (1 + groups)].view(2, 1 + groups).cpu()
    expected = sorted({0, 17 // size, (d_sae - 1) // size})
    assert listed[0, 0] == len(expected) and listed[0, 1 : 1 + len(expected)].tolist() == expected
    assert listed[1, 0] == 0
