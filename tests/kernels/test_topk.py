"""TopK is a stable descending sort on every backend: value first, then the lower feature index."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tiller.kernels.reference import encode, encode_pre, select_topk

from ..formulas import ACTIVATIONS, Edit, Program, make_sae  # noqa: TID252
from .programs import D_SAE, needs_of, run, tokens


def by_stable_sort(pre, k):
    """(value descending, feature ascending) by Python's own sort."""
    positive = [max(0.0, value) for value in pre.tolist()]
    ids = sorted(range(len(positive)), key=lambda i: (-positive[i], i))[:k]
    return [(positive[i], i) for i in ids if positive[i] > 0]


def selected(pre, k):
    values, ids = select_topk(pre, k)
    assert values.shape == ids.shape == (len(pre), k)
    return [
        [(v, i) for v, i in zip(*row, strict=True) if v > 0] for row in zip(values.tolist(), ids.tolist(), strict=True)
    ]


HEAVY_TIES = st.sampled_from([0.0, -0.0, -1.0, 1.0, 1.0, 2.0, 1e-45, 3e38, torch.inf, -torch.inf])
PRE_ACTIVATIONS = arrays.arrays("float32", st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=HEAVY_TIES)


@given(
    pre=PRE_ACTIVATIONS | arrays.arrays("float32", (3, 12), elements=st.floats(width=32, allow_nan=False)),
    data=st.data(),
)
def test_topk_is_a_stable_descending_sort(pre, data):
    pre = torch.from_numpy(pre)
    k = data.draw(st.integers(1, pre.shape[1]))
    assert selected(pre, k) == [by_stable_sort(row, k) for row in pre]


def test_tie_order_of_torch_topk_does_not_leak():
    """Rows on which torch.topk keeps other features, or keeps them in another order, than a stable sort."""
    g = torch.Generator().manual_seed(0)
    pre = torch.randint(1, 4, (100, 64), generator=g).float()
    stable = pre.sort(dim=-1, descending=True, stable=True).indices[:, :8]
    theirs = pre.topk(8).indices
    assert (theirs.sort(-1).values != stable.sort(-1).values).any(), "no row shows the boundary; draw others"
    assert torch.equal(select_topk(pre, 8)[1], stable)
    above = pre + torch.where(torch.arange(64) < 8, 10.0, 0.0)  # ties inside the selection, none at its boundary
    stable = above.sort(dim=-1, descending=True, stable=True).indices[:, :8]
    assert (above.topk(8).indices != stable).any(), "no row shows the order; draw others"
    assert torch.equal(select_topk(above, 8)[1], stable)


def test_topk_of_a_row_of_zeros_selects_nothing_of_value():
    values, _ = select_topk(torch.tensor([[0.0, -0.0, -3.0], [-1.0, -2.0, -torch.inf]]), 2)
    assert not values.any()


def test_positive_but_unselected_feature_is_inactive():
    """Under TopK a positive pre-activation is not enough."""
    sae = make_sae("topk", exact=True, k=2)
    x = tokens(100, exact=True)
    pre, f = encode_pre(x, sae), encode(x, sae)
    out_of_top = (pre > 0) & (f == 0)
    feature = int(out_of_top.sum(0).argmax())
    assert 0 < out_of_top[:, feature].sum() < 100
    result = run(x, [1] * 100, [Program([[Edit(feature, "scale", 3.0)]])], [sae])
    assert torch.equal(result.before[0][:, 0], f[:, feature])
    assert torch.equal(result.after[0][:, 0], 3.0 * f[:, feature])
    assert torch.equal(result.x, x + 2.0 * f[:, feature : feature + 1] * sae.W_dec[feature])


@pytest.mark.parametrize("num", [1, 3, 6, D_SAE, 40])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_top_names_the_most_active_features(activation, num):
    sae = make_sae(activation, exact=True)
    x = tokens(50, exact=True)
    needs = needs_of([Program([[]])], 1)._replace(top=(num,))
    values, ids = run(x, [1] * 50, [Program([[]])], [sae], needs).top[0]
    assert values.shape == ids.shape == (50, min(num, D_SAE))
    for t, f in enumerate(encode(x, sae)):
        assert [(v, i) for v, i in zip(values[t].tolist(), ids[t].tolist(), strict=True) if v > 0] == by_stable_sort(
            f, num
        )
