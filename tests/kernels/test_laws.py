"""Laws that steering keeps whatever the dictionary, and what is left of requests without measure."""

import pytest
import torch

from tiller.kernels.reference import MAX_RESIDUAL, decode, encode

from ..formulas import ACTIVATIONS, INPUT_NORMS, Edit, Program, Vector, make_sae  # noqa: TID252
from .programs import D_MODEL, run, steered, tokens


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(3))
class TestLaws:
    """On integer dictionaries, where float32 is exact, so equal means equal."""

    def setting(self, activation, seed):
        sae, x = make_sae(activation, seed=seed, exact=True), tokens(40, seed, exact=True)
        return sae, x, encode(x, sae)

    def test_nothing_is_left_of_v_minus_v(self, activation, seed):
        sae, x, _ = self.setting(activation, seed)
        there = steered(x, Program([[Edit(3, "add", 4.0)]]), [sae])
        assert torch.equal(there, x + 4.0 * sae.W_dec[3])
        assert torch.equal(there + steered(x, Program([[]], [Vector(sae.W_dec[3], "add", -4.0)]), [sae]) - x, x)

    @pytest.mark.parametrize("edit", [("scale", 1.0), ("min", -7.0), ("max", 1e6), ("add", 0.0), ("read", 9.0)])
    def test_edits_that_change_no_activation_change_no_bit(self, activation, seed, edit):
        sae, x, _ = self.setting(activation, seed)
        x = x + 0.1  # no longer exact: the point is that nothing is added at all
        result = run(x, [1] * 40, [Program([[Edit(i, *edit) for i in range(4)]])], [sae])
        assert torch.equal(result.x, x) and not result.delta_norm.any()

    def test_setting_a_feature_to_what_it_is_changes_no_bit(self, activation, seed):
        sae, x, f = self.setting(activation, seed)
        programs = [Program([[Edit(5, "set", value.item())]]) for value in f[:, 5]]
        assert torch.equal(run(x, range(1, 41), programs, [sae]).x, x)

    def test_additions_sum(self, activation, seed):
        sae, x, _ = self.setting(activation, seed)
        a, b = Edit(1, "add", 2.0), Edit(8, "add", -3.0)
        both = steered(x, Program([[a, b]]), [sae])
        assert torch.equal(both - x, steered(x, Program([[a]]), [sae]) - x + steered(x, Program([[b]]), [sae]) - x)
        assert torch.equal(both, steered(x, Program([[b, a]]), [sae]))

    @pytest.mark.parametrize("replace", [0, 1])
    def test_ablation_three_ways(self, activation, seed, replace):
        sae, x, _ = self.setting(activation, seed)
        results = [
            steered(x, Program([[Edit(2, *edit)]], replace=replace), [sae])
            for edit in [("ablate",), ("set", 0.0), ("scale", 0.0)]
        ]
        assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])

    def test_replacement_differs_from_editing_by_the_error(self, activation, seed):
        sae, x, f = self.setting(activation, seed)
        edits = [[Edit(2, "set", 3.0), Edit(7, "scale", 2.0)]]
        kept, replaced = steered(x, Program(edits), [sae]), steered(x, Program(edits, replace=1), [sae])
        assert torch.equal(kept - replaced, x - decode(f, sae, x))

    def test_minimum_and_maximum_pin_a_feature(self, activation, seed):
        sae, x, f = self.setting(activation, seed)
        low = run(x, [1] * 40, [Program([[Edit(2, "min", 2.0)]])], [sae])
        high = run(x, [1] * 40, [Program([[Edit(2, "max", 2.0)]])], [sae])
        assert torch.equal(low.after[0] + high.after[0], f[:, 2:3] + 2.0)


def test_projections_keep_what_they_should():
    x = tokens(30)
    unit = torch.nn.functional.normalize(torch.ones(D_MODEL), dim=0)

    def along(mode, alpha, per_norm=0.0):
        result = run(x, [1] * 30, [Program([], [Vector(unit, mode, alpha, per_norm)])], [])
        rest = result.x - (result.x @ unit)[:, None] * unit
        torch.testing.assert_close(rest, x - (x @ unit)[:, None] * unit)
        return result.x @ unit

    assert torch.equal(run(x, [1] * 30, [Program([], [Vector(unit, "orthogonal", 1.0)])], []).x, x)
    torch.testing.assert_close(along("orthogonal", 0.0), torch.zeros(30), atol=1e-6, rtol=0)
    torch.testing.assert_close(along("orthogonal", -2.0), -2.0 * (x @ unit))
    torch.testing.assert_close(along("cap", 0.3), (x @ unit).clamp(max=0.3))
    torch.testing.assert_close(along("cap", 0.0, 0.1), torch.minimum(x @ unit, 0.1 * x.norm(dim=-1)))


def test_preserved_norm():
    x = tokens(30)
    sae = make_sae("topk")
    free = steered(x, Program([[Edit(3, "add", 9.0)]]), [sae])
    kept = steered(x, Program([[Edit(3, "add", 9.0)]], preserve=True), [sae])
    torch.testing.assert_close(kept.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(kept, free), torch.ones(30))


def test_tokens_above_the_guard_keep_every_bit():
    x = tokens(30)
    norm = x.norm(dim=-1)
    bound = norm.median().item()
    result = run(x, [1] * 30, [Program([[Edit(3, "set", 9.0)]], replace=1, max_norm=bound)], [make_sae("relu")])
    assert torch.equal(result.x[norm > bound], x[norm > bound])
    assert (result.delta_norm[norm <= bound] > 0).all()


STRONGEST = 1e15  # what a request's largest values become
HUGE = [
    pytest.param(Program([[Edit(i, op, sign * raw, sign * per_norm) for i in range(4)]], replace=replace), id=name)
    for name, op, raw, per_norm, sign, replace in [
        ("add", "add", STRONGEST, 0.0, 1, 0),
        ("add to a reconstruction", "add", STRONGEST, 0.0, -1, 1),
        ("set", "set", STRONGEST, 0.0, -1, 0),
        ("scale", "scale", STRONGEST, 0.0, 1, 0),
        ("scale a reconstruction", "scale", STRONGEST, 0.0, -1, 1),
        ("norm units", "add", 0.0, STRONGEST, 1, 0),
        ("norm units down", "set", 0.0, STRONGEST, -1, 1),
    ]
] + [
    pytest.param(Program([[]], [Vector(torch.ones(D_MODEL), mode, raw, per_norm)] * 2), id=f"{mode} {raw} {per_norm}")
    for mode in ("add", "orthogonal", "cap")
    for raw, per_norm in [(STRONGEST, 0.0), (-STRONGEST, 0.0), (0.0, STRONGEST), (0.0, -STRONGEST)]
    if not (mode == "orthogonal" and per_norm)
]


@pytest.mark.parametrize("preserve", [False, True])
@pytest.mark.parametrize("input_norm", INPUT_NORMS)
@pytest.mark.parametrize("program", HUGE)
def test_the_strongest_request_stays_finite(program, input_norm, preserve):
    """On ordinary tokens, tiny ones and ones that an earlier site has already driven to the limit."""
    x = torch.cat([tokens(6), 1e-20 * tokens(2), 1e4 * tokens(4), MAX_RESIDUAL * tokens(8).sign()])
    for activation in ACTIVATIONS:
        program.preserve = preserve
        result = run(x, [1] * len(x), [program], [make_sae(activation, input_norm)])
        for dtype in (torch.float32, torch.bfloat16):
            out = result.x.to(dtype).float()
            assert out.isfinite().all()
            assert out.norm(dim=-1).isfinite().all(), "a later RMSNorm would give NaN"
        assert result.delta_norm.isfinite().all()
        assert all(t.isfinite().all() for t in [*result.before, *result.after])


@pytest.mark.parametrize("edit", [Edit(3, "read"), Edit(3, "scale", 1.0), Edit(3, "min", -STRONGEST)])
def test_a_saturated_token_that_nothing_changes_keeps_every_bit(edit):
    x = MAX_RESIDUAL * tokens(8).sign()
    assert torch.equal(steered(x, Program([[edit]]), [make_sae("relu")]), x)


def test_saturation_keeps_the_direction_of_the_edit():
    x, v = tokens(5), torch.tensor([1.0, -1.0] * 4)
    out = run(x, [1] * 5, [Program([], [Vector(v, "add", STRONGEST)])], []).x
    torch.testing.assert_close(out, (STRONGEST * v).expand(5, -1))
