"""The reference ops against the formulas, token by token.

Tolerances are those of float32 sums in another order. The same token may differ in the last bits between batch shapes
on a CPU, whose GEMM splits its sums by shape; where all sums are exact (integer dictionaries), equality is exact.
"""

import itertools

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tiller.kernels.reference import decode, encode
from tiller.kernels.sae import SAE

from ..formulas import (  # noqa: TID252
    ACTIVATIONS,
    INPUT_NORMS,
    Edit,
    Program,
    Vector,
    activations,
    make_sae,
    reconstruction,
    steer_token,
)
from .programs import D_MODEL, D_SAE, INEXACT, OPS, all_needs, assert_matches_formulas, run, steered, tokens


@pytest.mark.parametrize("input_norm", INPUT_NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encode_and_decode_follow_their_formulas(activation, input_norm, dtype):
    sae = make_sae(activation, input_norm, dtype=dtype)
    x = tokens(50)
    f = encode(x, sae)
    expected = torch.stack([activations(row.double(), sae) for row in x])
    assert (expected > 0).any() and (expected == 0).any()
    torch.testing.assert_close(f.double(), expected, **INEXACT)
    torch.testing.assert_close(
        decode(f, sae, x).double(),
        torch.stack([reconstruction(a, sae, row.double()) for a, row in zip(expected, x, strict=True)]),
        **INEXACT,
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_encode_of_an_integer_dictionary_is_exact(activation):
    sae = make_sae(activation, exact=True)
    x = tokens(200, exact=True)
    assert torch.equal(encode(x, sae).double(), torch.stack([activations(row.double(), sae) for row in x]))


@pytest.mark.parametrize("input_norm", INPUT_NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_token_without_any_signal_stays_finite(activation, input_norm):
    """A residual of zeros, or of one constant, has no norm or no spread to divide by."""
    sae = make_sae(activation, input_norm)
    x = torch.zeros(2, D_MODEL)
    x[1] = 3.0
    assert encode(x, sae).isfinite().all()
    program = Program([[Edit(1, "set", 2.0), Edit(2, "add", 1.0)]], replace=1)
    assert_matches_formulas(x, [1, 1], [program], [sae], run(x, [1, 1], [program], [sae]))


VALUES = {"raw": (1.5, 0.0), "norm": (0.0, 0.4)}
WHENS = {"none": None, "open": "open", "closed": "closed", "sometimes": "sometimes"}


def every_program(sae, x):
    """All combinations of what a row can ask for."""
    g = torch.Generator().manual_seed(3)
    f = torch.stack([activations(row.double(), sae) for row in x])
    rate = (f > 0).double().mean(0)
    gates = {None: None, "open": (0, -1.0), "closed": (0, 1e30), "sometimes": (int((rate - 0.5).abs().argmin()), 0.0)}
    directions = torch.randn(3, D_MODEL, generator=g)
    for op, unit, when, replace, preserve, max_norm, mode in itertools.product(
        OPS, VALUES, WHENS.values(), (0, 1), (False, True), (torch.inf, 2.8), ("none", "add", "orthogonal", "cap")
    ):
        raw, per_norm = VALUES[unit]
        edits = [Edit(int(rate.argmax()), op, raw, per_norm, gates[when]), Edit(5, "min", 0.7), Edit(2, "scale", -0.5)]
        vectors = (
            [] if mode == "none" else [Vector(directions[0], mode, raw, per_norm), Vector(directions[1], "cap", -0.2)]
        )
        yield Program([edits], vectors, replace, preserve, max_norm)


@pytest.mark.parametrize("input_norm", INPUT_NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_combination_in_one_batch(activation, input_norm):
    sae = make_sae(activation, input_norm)
    x = tokens(7)
    programs = list(every_program(sae, x))
    rows = [0] + [1 + i for i in range(len(programs))]
    batch = x[torch.arange(len(rows)) % len(x)]
    assert_matches_formulas(batch, rows, programs, [sae], run(batch, rows, programs, [sae]))


@pytest.mark.parametrize("input_norm", INPUT_NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_edits_alone_need_no_replacement(activation, input_norm):
    """Where no row replaces the residual, only named features are encoded: the same result as the dense formula."""
    sae = make_sae(activation, input_norm)
    x = tokens(60)
    programs = [p for p in every_program(sae, x) if not p.replace][:59]
    rows = list(range(60))
    assert_matches_formulas(x, rows, programs, [sae], run(x, rows, programs, [sae]))


def mixed_batch(exact=False):
    saes = [make_sae("topk", exact=exact), make_sae("threshold", seed=1, exact=exact)]
    direction = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    programs = [
        Program([[Edit(3, "set", 5.0)], [Edit(3, "add", 2.0), Edit(4, "ablate")]]),
        Program([[Edit(3, "scale", 2.0), Edit(9, "max", 1.0)], []], replace=1),
        Program([[], [Edit(7, "min", 1.0, when=(2, 0.5))]], replace=2),
        Program([[], []], [Vector(direction, "add", 3.0), Vector(direction, "cap", 1.0)]),
        Program([[Edit(1, "add", 4.0)], []], preserve=not exact),
        Program([[Edit(1, "add", 4.0)], []], max_norm=6.0),
    ]
    x = tokens(70, exact=exact)
    return x, [i % 7 for i in range(70)], programs, saes


def test_two_saes_and_mixed_rows():
    x, rows, programs, saes = mixed_batch()
    result = run(x, rows, programs, saes)
    assert_matches_formulas(x, rows, programs, saes, result)
    torch.testing.assert_close(result.delta_norm, (result.x - x).norm(dim=-1))


def test_row_0_leaves_its_tokens_alone():
    x, rows, programs, saes = mixed_batch()
    result = run(x, rows, programs, saes, all_needs(2))
    idle = torch.tensor(rows) == 0
    assert torch.equal(result.x[idle], x[idle])
    assert not result.delta_norm[idle].any() and result.delta_norm[~idle].any()


@pytest.mark.parametrize("exact", [True, False])
def test_a_token_does_not_depend_on_its_neighbours(exact):
    """Alone, in any order, and beside rows that need more than it does."""
    x, rows, programs, saes = mixed_batch(exact)
    together = run(x, rows, programs, saes)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    others = {
        "permuted": run(x[order], torch.tensor(rows)[order], programs, saes).x[order.argsort()],
        "most needs": run(x, rows, programs, saes, all_needs(2)).x,
        "alone": torch.cat([run(x[t : t + 1], [row], programs, saes).x for t, row in enumerate(rows)]),
        "own needs": torch.cat(
            [steered(x[t : t + 1], programs[row - 1], saes) if row else x[t : t + 1] for t, row in enumerate(rows)]
        ),
    }
    for name, other in others.items():
        tolerance = {"atol": 0.0, "rtol": 0.0} if exact else {"atol": 1e-5, "rtol": 1e-5}
        torch.testing.assert_close(other, together.x, **tolerance, msg=lambda m: f"{name}: {m}")  # noqa: B023


def test_no_tokens_at_all():
    _, _, programs, saes = mixed_batch()
    assert run(torch.zeros(0, D_MODEL), torch.zeros(0, dtype=torch.int64), programs, saes).x.shape == (0, D_MODEL)


def test_replacing_a_token_with_no_active_feature_leaves_the_bias():
    sae = make_sae("threshold", exact=True)
    x = torch.cat([torch.zeros(2, D_MODEL), tokens(3, exact=True), torch.zeros(2, D_MODEL)])
    silent = SAE(**{**vars(sae), "threshold": torch.full((D_SAE,), 1e6)})
    assert torch.equal(steered(x, Program([[]], replace=1), [silent]), sae.b_dec.expand(7, -1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_before_and_after_are_the_listed_features(activation):
    sae = make_sae(activation, exact=True)
    x = tokens(30, exact=True)
    program = Program([[Edit(4, "add", 2.0), Edit(6, "read"), Edit(0, "set", 1.0)]])
    result = run(x, [1] * 30, [program], [sae], all_needs(1))
    f = encode(x, sae)
    assert torch.equal(result.before[0][:, :3], f[:, [4, 6, 0]])
    expected = torch.stack([f[:, 4] + 2.0, f[:, 6], torch.ones(30)], dim=1)
    assert torch.equal(result.after[0][:, :3], expected)


@given(
    value=st.floats(-1e3, 1e3, width=32), seed=st.integers(0, 3), op=st.sampled_from(sorted(OPS)), replace=st.booleans()
)
@example(value=-0.0, seed=0, op="min", replace=False)
def test_any_value_follows_the_formulas(value, seed, op, replace):
    sae, x = make_sae("topk", seed=seed), tokens(4, seed)
    programs = [Program([[Edit(i, op, value) for i in (0, 7)]], replace=int(replace))]
    result = run(x, [1] * 4, programs, [sae])
    for t in range(4):
        expected = steer_token(x[t].double(), programs[0], [sae])
        torch.testing.assert_close(result.x[t].double(), expected, atol=2e-3, rtol=1e-4)
