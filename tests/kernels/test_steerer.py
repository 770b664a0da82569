"""The whole op in Triton against the reference.

Where weights and tokens are small integers every sum is exact, so both must give the same bits. Elsewhere they may differ as
float32 sums in another order do, and by a bit of the model's dtype.
"""

import itertools

import pytest
import torch

from tiller.kernels.reference import encode

from ..formulas import ACTIVATIONS, INPUT_NORMS, Edit, Program, Vector, make_sae  # noqa: TID252
from . import programs as reference
from .programs import D_MODEL, OPS, tokens
from .steered import DEVICE, exact_sae, exact_tokens, kernels

CLOSE = {"atol": 3e-4, "rtol": 3e-5}


def edit_programs(replace=0, preserve=False):
    """One program an op, gated and not, in both units; some with a guard and with vectors of every mode."""
    g = torch.Generator().manual_seed(5)
    return [
        Program(
            [[Edit(3, op, 1.5), Edit(5, op, 0.7, 0.1, when=(2, 0.2))]],
            vectors=[Vector(torch.randn(D_MODEL, generator=g), mode, 1.2, 0.1) for mode in modes],
            replace=replace,
            preserve=preserve,
            max_norm=2.8 if index % 2 else torch.inf,
        )
        for index, (op, modes) in enumerate(itertools.product(OPS, [(), ("add", "orthogonal", "cap")]))
    ]


def assert_agree(x, rows, programs, saes, outcome, **tolerance):
    expected = reference.run(x.float(), rows, programs, saes)
    steered = torch.as_tensor(rows) > 0
    torch.testing.assert_close(outcome.x[steered], expected.x.to(x.dtype).float()[steered], **tolerance)
    torch.testing.assert_close(outcome.delta.cpu()[steered], expected.delta_norm[steered], **CLOSE)
    assert outcome.delta.cpu()[~steered].isnan().all()
    for index in range(len(saes)):
        for t, row in enumerate(rows):
            own = len(programs[row - 1].edits[index]) if row else 0
            got, before, after = (
                outcome.named(index)[t, :own],
                expected.before[index][t, :own],
                expected.after[index][t, :own],
            )
            torch.testing.assert_close(got, torch.stack([before, after], 1), **tolerance)


@pytest.mark.parametrize("preserve", [False, True])
@pytest.mark.parametrize("replace", [0, 1])
@pytest.mark.parametrize("input_norm", INPUT_NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_operation(activation, input_norm, replace, preserve):
    sae, programs = make_sae(activation, input_norm), edit_programs(replace, preserve)
    rows = [*range(len(programs) + 1), 3, 0, 1]
    x = tokens(len(rows))
    assert_agree(x, rows, programs, [sae], kernels(x, rows, programs, [sae], poison=True), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_half_precision_rounds_to_nearest(activation, dtype):
    """Integer sums are exact, so x' must be the very number that torch's own cast gives."""
    sae = exact_sae(activation, 96, 40)
    programs = [
        Program([[Edit(3, "set", 37.0), Edit(9, "add", 3.0)]]),
        Program([[Edit(3, "scale", 3.0)]], replace=1),
        Program([[]], [Vector(torch.full((40,), 0.3))]),
    ]
    programs[2].vectors[0] = programs[2].vectors[0]._replace(raw=1.0)
    rows = [1, 2, 3, 0] * 5
    x = exact_tokens(20, 40, dtype)
    assert_agree(x, rows, programs, [sae], kernels(x, rows, programs, [sae]), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("d_sae", "k", "d_model", "num"),
    [
        (64, 1, 64, 7),
        (64, 33, 64, 64),
        (64, 64, 896, 7),
        (576, 1, 896, 1),
        (576, 33, 64, 7),
        (576, 64, 64, 64),
        (5000, 1, 64, 64),
        (5000, 33, 896, 1),
        (5000, 64, 64, 7),
        (16384, 1, 64, 1),
        (16384, 33, 64, 7),
        (16384, 64, 896, 7),
        (16384, 64, 64, 64),
        (5000, 64, 3584, 7),
    ],
)
@pytest.mark.parametrize("activation", ["topk", "threshold"])
def test_shapes(activation, d_sae, k, d_model, num):
    """Ragged everything, ties at nearly every boundary; equal bits."""
    sae = exact_sae(activation, d_sae, d_model, k)
    x = exact_tokens(num, d_model)
    ids = encode(x[:1], sae)[0].topk(2).indices.tolist()
    programs = [
        Program([[Edit(ids[0], "scale", 2.0), Edit(d_sae - 1, "set", 3.0), Edit(7, "min", 1.0, when=(ids[1], 0.0))]]),
        Program([[Edit(ids[1], "add", -2.0), Edit(0, "max", 5.0)]], replace=1),
    ]
    rows = [(1, 2, 0)[t % 3] for t in range(num)]
    assert_agree(x, rows, programs, [sae], kernels(x, rows, programs, [sae], poison=True), atol=0, rtol=0)


@pytest.mark.parametrize("share", ["none", "some", "all"])
@pytest.mark.parametrize("pair", [False, True])
def test_tokens_without_a_program_are_not_written(share, pair):
    sae = exact_sae("topk", 96, 40)
    x = torch.where(torch.rand(12, 40) < 0.1, -0.0, exact_tokens(12, 40))
    other = exact_tokens(12, 40, seed=1) if pair else None
    programs = [Program([[Edit(3, "set", 5.0)]], replace=1)]
    rows = {"none": [0] * 12, "some": [0, 1] * 6, "all": [1] * 12}[share]
    outcome = kernels(x, rows, programs, [sae], pair=other)
    for t, row in enumerate(rows):
        untouched = torch.equal(outcome.hidden[t].cpu().view(torch.int32), x[t].view(torch.int32))
        assert untouched == (row == 0)
        if pair:
            assert torch.equal(outcome.residual[t].cpu(), other[t]) == (row == 0)
            assert row == 0 or not outcome.hidden[t].any()
    assert_agree(x if other is None else x + other, rows, programs, [sae], outcome, atol=0, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_edit_without_effect_does_not_write(activation):
    """Zero strength, and scaling by one: the unrounded sum hidden + residual must stay what it was."""
    sae = exact_sae(activation, 96, 40)
    x, other = torch.randn(2, 9, 40).bfloat16()
    idle = [Program([[Edit(i, "add", 0.0), Edit(4, "scale", 1.0)]]) for i in range(3)]
    outcome = kernels(x, [1, 2, 3] * 3, idle, [sae], pair=other)
    assert torch.equal(outcome.hidden.cpu(), x) and torch.equal(outcome.residual.cpu(), other)
    assert not outcome.delta.any()


def test_adding_and_taking_away_again_is_nothing():
    sae = exact_sae("topk", 96, 40)
    x = exact_tokens(6, 40)
    there = kernels(x, [1] * 6, [Program([[Edit(3, "add", 4.0)]])], [sae])
    shift = Vector(sae.W_dec[3].clone(), "add", -4.0)
    back = kernels(there.hidden.cpu(), [1] * 6, [Program([[]], [shift])], [sae])
    assert torch.equal(back.x, x) and not torch.equal(there.x, x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("replace", [0, 1])
def test_a_token_has_the_same_bits_in_every_batch(activation, replace):
    """Alone, among others, at another place, beside other programs, and in other chunks of scratch.

    On a GPU, batches on both sides of a change of tile.
    """
    num = 20 if DEVICE.type == "cpu" else 200
    sae = make_sae(activation, "layer_norm", d_model=40, d_sae=600, k=9)
    x = torch.randn(num, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    programs = [
        Program([[Edit(3, "set", 1.7), Edit(11, "scale", 0.3)]], replace=replace),
        Program([[Edit(i, "add", 0.4) for i in range(4)]], replace=1),
    ]
    rows = [1 + (t % 3 == 1) for t in range(num)]
    together = kernels(x, rows, programs, [sae], poison=True)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(1))
    permuted = kernels(x[order], [rows[t] for t in order], programs, [sae])
    chunked = kernels(x, rows, programs, [sae], scratch=4 * 600 * 7)
    assert chunked.steerer.encoders[0].chunk == 7
    for theirs, inverse in ((permuted, order.argsort()), (chunked, torch.arange(num))):
        assert all(torch.equal(a, b[inverse]) for a, b in zip(together.bits, theirs.bits, strict=True))
    for t in (0, num // 2, num - 1):
        alone = kernels(x[t : t + 1], [rows[t]], programs, [sae], max_tokens=num)
        assert all(torch.equal(a[t : t + 1], b) for a, b in zip(together.bits, alone.bits, strict=True))


def test_several_dictionaries_at_one_site():
    """Each SAE edits, one replaces; the tokens that need an encoder differ from SAE to SAE."""
    saes = [
        make_sae("topk", seed=1),
        make_sae("threshold", seed=2),
        make_sae("gated", "unit_norm", seed=3),
        make_sae("topk", "layer_norm", seed=4),
    ]
    edits = [Edit(2, "set", 1.0), Edit(5, "add", 0.5, when=(7, 0.1))]
    programs = [
        Program([edits, [], edits, []]),
        Program([[], edits, [], edits], replace=4),
        Program([[], [], [], []], [Vector(torch.ones(D_MODEL), "cap", 0.3)], replace=1, preserve=True),
        Program([edits, edits, edits, edits], replace=3),
        Program([[], [], [], []], [Vector(torch.ones(D_MODEL), "add", 0.3)]),
    ]
    rows = [1, 2, 3, 4, 5, 0, 4, 3, 2, 1]
    x = tokens(10)
    assert_agree(x, rows, programs, saes, kernels(x, rows, programs, saes, poison=True), **CLOSE)


def test_site_without_a_dictionary():
    x = tokens(6)
    programs = [Program([], [Vector(torch.ones(D_MODEL), mode, 0.5, 0.1)]) for mode in ("add", "orthogonal", "cap")]
    rows = [0, 1, 2, 3, 1, 0]
    assert_agree(x, rows, programs, [], kernels(x, rows, programs, []), **CLOSE)


@pytest.mark.parametrize("replace", [0, 1])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_token_that_is_not_finite_stays_so_and_is_counted(value, replace):
    sae = exact_sae("topk", 96, 40)
    x = exact_tokens(8, 40)
    x[3, 5] = value
    programs = [Program([[Edit(3, "set", 5.0)]], replace=replace)]
    outcome = kernels(x, [1] * 8, programs, [sae])
    clean = [t for t in range(8) if t != 3]
    if value != value:
        assert torch.equal(outcome.x[3], x[3]) or outcome.x[3].isnan().any()
        assert outcome.delta[3] == torch.inf
    expected = kernels(x[clean], [1] * 7, programs, [sae])
    assert torch.equal(outcome.x[clean], expected.x) and torch.equal(outcome.delta[clean], expected.delta)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("replace", [0, 1])
def test_huge_values_stay_finite(dtype, replace):
    sae = make_sae("topk", d_model=40, d_sae=96)
    x = torch.randn(6, 40).to(dtype)
    huge = [Edit(i, op, (-1) ** i * 1e15) for i, op in enumerate(("add", "set", "min", "scale"))]
    programs = [Program([huge], [Vector(torch.ones(40), mode, 1e15, 1e15) for mode in ("add", "cap")], replace=replace)]
    outcome = kernels(x, [1] * 6, programs, [sae])
    again = kernels(outcome.hidden.cpu(), [1] * 6, programs, [sae])
    for each in (outcome, again):
        assert each.x.isfinite().all() and each.x.norm(dim=-1).isfinite().all() and each.delta.isfinite().all()


@pytest.mark.parametrize("activation", ["threshold", "relu"])
@pytest.mark.parametrize("share", ["no feature", "one", "all"])
def test_replacement_reads_as_many_features_as_are_active(activation, share):
    """Variable L0: rows in which nothing is active, one feature, or the whole dictionary."""
    sae = exact_sae(activation, 600, 40)
    sae.b_enc.fill_({"no feature": -1e6, "one": -1e6, "all": 500.0}[share])
    if share == "one":
        sae.b_enc[417] = 2000.0
    x = exact_tokens(5, 40)
    active = (encode(x, sae) > 0).sum(1).tolist()
    assert active == [{"no feature": 0, "one": 1, "all": 600}[share]] * 5
    programs = [Program([[Edit(417, "set", 2.0)]], replace=1)]
    assert_agree(x, [1] * 5, programs, [sae], kernels(x, [1] * 5, programs, [sae], poison=True), atol=0, rtol=0)


@pytest.mark.parametrize("num", [1, 5, 40])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_read_outs_name_the_most_active_features(activation, num):
    sae = exact_sae(activation, 600, 40, k=40)
    x = exact_tokens(12, 40)
    outcome = kernels(x, [1, 0] * 6, [Program([[]])], [sae], max_top=40, ask=[(1, 0, num)])
    assert torch.equal(outcome.x, x)
    for t, f in enumerate(encode(x, sae)[::2]):
        order = f.sort(descending=True, stable=True)
        best = [(v, i) for v, i in zip(order.values.tolist(), order.indices.tolist(), strict=True) if v > 0][:num]
        assert outcome.top(num)[2 * t] == best
