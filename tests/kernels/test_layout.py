"""Rows per token on the device, against the same worked out token by token."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiller.kernels.layout import Layout
from tiller.kernels.workspace import Workspace

from ..formulas import make_sae  # noqa: TID252
from .steered import DEVICE, poison_workspace

LARGEST, SLOTS = 300, 140


@st.composite
def steps(draw):
    """Requests with (tokens in this step, computed before, slot), and (row, start, end, record) of every slot."""
    num = draw(st.integers(1, 130))
    slots = draw(st.permutations(range(SLOTS)))[:num]
    lengths = draw(st.lists(st.integers(1, 2 if num > 50 else 40), min_size=num, max_size=num))
    computed = draw(st.lists(st.integers(0, 60), min_size=num, max_size=num))
    scopes = st.tuples(st.integers(0, 9), st.integers(0, 50), st.integers(0, 80), st.integers(-1, 99))
    return lengths, computed, slots, draw(st.lists(scopes, min_size=SLOTS, max_size=SLOTS))


@settings(max_examples=30)
@given(step=steps(), padding=st.integers(0, 3))
def test_every_token_gets_the_row_of_its_request_inside_its_scope(step, padding):
    lengths, computed, slots, table = step
    rows, records, positions = [], [], []
    for length, first, slot in zip(lengths, computed, slots, strict=True):
        row, start, end, record = table[slot]
        for position in range(first, first + length):
            inside = start <= position < end
            rows.append(row if inside else 0)
            records.append(record if inside else -1)
            positions.append(position)
    rows, records = ((values + [other] * LARGEST)[:LARGEST] for values, other in ((rows, 0), (records, -1)))
    num = min(len(positions), LARGEST)
    workspace = Workspace({"sae": make_sae("topk").to(DEVICE)}, 2, 8, LARGEST, 1, 0, torch.float32, DEVICE)
    poison_workspace(workspace)
    layout = Layout(workspace, SLOTS, DEVICE)
    layout.slots.copy_(torch.tensor(table))
    loc = torch.tensor([0, *lengths]).cumsum(0)
    layout.begin(
        loc.to(DEVICE, torch.int32),
        torch.tensor(slots, device=DEVICE),
        torch.tensor(positions[:num] + [5] * min(padding, LARGEST - num), device=DEVICE),
    )
    assert workspace.rows.tolist() == rows
    assert layout.records.tolist() == records
    assert workspace.delta.isnan().all() and not workspace.queues[:, 0].any()
