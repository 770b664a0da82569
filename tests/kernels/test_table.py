"""Fresh tables do nothing, and survive being handed over as named buffers."""

from types import ModuleType

import pytest
import torch

from tiller.kernels.reference import steer
from tiller.kernels.table import CAP, NO_PROJECTION, NO_SHIFT, NORM_SHIFT, RAW_SHIFT, READ, Needs, SiteTable

from ..formulas import make_sae  # noqa: TID252


@pytest.fixture
def table():
    return SiteTable.allocate(num_rows=5, d_model=8, num_saes=2, max_edits=3, max_projections=2)


def test_every_fresh_row_does_nothing(table):
    saes = [make_sae("topk"), make_sae("gated", "layer_norm", seed=1)]
    most = Needs(NORM_SHIFT, 2, (3, 3), (True, True), (True, True), (2, 2), True, True)
    x = torch.randn(40, 8)
    steered = steer(x, torch.arange(40) % 5, table, saes, most)
    assert torch.equal(steered.x, x)
    assert not steered.delta_norm.any()


def test_codes_of_doing_nothing_are_zero(table):
    assert READ == NO_PROJECTION == NO_SHIFT == 0
    assert not table.vectors.any() and not table.program.any() and not table.scalars[:, 1:].any()
    assert not any(edits.code[..., :2].any() or edits.amount.any() for edits in table.edits)
    assert all((edits.gate == -1).all() for edits in table.edits)
    assert (table.max_norm == torch.inf).all()


def test_tensors_round_trip_under_other_storage(table):
    named = table.tensors()
    assert len(named) == 3 + 2 * 2
    copies = {name: tensor.clone() for name, tensor in named.items()}
    again = table.with_tensors(copies)
    assert again.tensors().keys() == named.keys()
    assert all(again.tensors()[name] is copies[name] for name in named)
    again.edits[1].feature[3, 2] = 7
    again.mode[4, 1] = CAP
    assert copies["edits_1_code"][3, 2].tolist() == [7, READ, -1] and copies["scalars"][4, 4] == CAP
    assert table.edits[1].feature[3, 2] == 0 and table.mode[4, 1] == NO_PROJECTION


def test_site_without_saes_or_projections_can_be_allocated():
    table = SiteTable.allocate(num_rows=2, d_model=4, num_saes=0, max_edits=3, max_projections=0)
    x = torch.randn(3, 4)
    table.shift[1] = 2.0
    steered = steer(x, torch.tensor([0, 1, 0]), table, [], Needs(RAW_SHIFT, 0, (), (), (), (), False, False))
    assert torch.equal(steered.x, x + torch.tensor([[0.0], [2.0], [0.0]]))


def test_memory_that_the_kernels_leave_unfilled_is_poisoned():
    module = ModuleType("tiller.kernels.made_up")
    exec(
        "import torch\nmade = torch.empty(4), torch.ones(2).new_empty(3), torch.empty(2, dtype=torch.int32)",
        vars(module),
    )
    assert all(t.isnan().all() for t in module.made[:2])
    assert (module.made[2] == torch.iinfo(torch.int32).max).all()
