"""The step log hands out each request's rows once, by position, whatever the order of steps."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiller.engine.worker.host_copy import Transfer
from tiller.engine.worker.log import StepLog
from tiller.engine.worker.site import SiteReport


def report(deltas, width=0, top=None):
    """delta_norm, and `width` features whose activation is 10 * delta + column."""
    delta = torch.tensor(deltas, dtype=torch.float32)
    features = 10 * delta[:, None] + torch.arange(width)
    tops = [None] if top is None else [(features[:, :1].expand(-1, top), torch.arange(top).expand(len(delta), -1))]
    return SiteReport(delta, [features], [features + 0.5], tops)


def append(log, records, positions, deltas, layer=3, **shape):
    log.append(np.array(records), np.array(positions), {layer: report(deltas, **shape)} if deltas else {})


def test_nothing_logged_is_nothing_taken():
    assert StepLog().take({1}) == {}
    log = StepLog()
    append(log, [1], [0], [0.5])
    assert log.take(set()) == {}
    assert log.take({1})[1]["3.delta"].tolist() == [0.5]
    assert log.take({1}) == {}


def test_taking_one_record_leaves_the_others():
    log = StepLog()
    append(log, [1, 1, 2], [0, 1, 7], [0.0, 0.1, 0.2])
    append(log, [2, 1], [8, 2], [0.3, 0.4])
    taken = log.take({1})
    assert taken.keys() == {1}
    assert taken[1]["position"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(taken[1]["3.delta"], [0.0, 0.1, 0.4], rtol=1e-6)
    append(log, [2], [9], [0.5])
    assert log.take({2, 5})[2]["position"].tolist() == [7, 8, 9]


def test_a_position_computed_again_counts_once_and_the_last_time_holds():
    """After a preemption both times agree. A rejected draft token was another token: its KV was overwritten."""
    log = StepLog()
    append(log, [1, 1, 1], [4, 5, 6], [0.4, 0.5, 0.6])
    append(log, [1, 1], [6, 5], [6.6, 5.5])
    taken = log.take({1})[1]
    assert taken["position"].tolist() == [4, 5, 6]
    np.testing.assert_allclose(taken["3.delta"], [0.4, 5.5, 6.6], rtol=1e-6)


def test_tokens_that_nobody_will_ask_for_are_not_kept():
    log = StepLog()
    for step in range(3):
        append(log, [-1, 1, -1], [step, step, step], [0.1, 0.2, 0.3])
        assert log.take({1})[1]["position"].tolist() == [step]
    assert log.take({-1}) == {}


def test_a_site_that_did_not_run_leaves_nan():
    log = StepLog()
    append(log, [1], [0], [0.5], layer=3)
    append(log, [1], [1], [0.7], layer=5)
    columns = log.take({1})[1]
    np.testing.assert_array_equal(np.isnan(columns["3.delta"]), [False, True])
    np.testing.assert_array_equal(np.isnan(columns["5.delta"]), [True, False])


def test_steps_of_different_widths_are_padded():
    """Another request in the batch may list more features, or ask for more of the top."""
    log = StepLog()
    append(log, [1], [0], [0.0])
    append(log, [1], [1], [1.0], width=1)
    append(log, [1, 2], [2, 0], [2.0, 9.0], width=3, top=2)
    append(log, [1], [3], [3.0], width=2, top=1)
    columns = log.take({1})[1]
    nan = np.nan
    before = [[nan, nan, nan], [10, nan, nan], [20, 21, 22], [30, 31, nan]]
    np.testing.assert_array_equal(columns["3.0.before"], np.array(before, dtype=np.float32))
    np.testing.assert_array_equal(columns["3.0.after"], np.array(before, dtype=np.float32) + 0.5)
    np.testing.assert_array_equal(columns["3.0.top_ids"], [[-1, -1], [-1, -1], [0, 1], [0, -1]])
    assert columns["3.0.top_ids"].dtype == np.int64


STEPS = st.lists(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), max_size=6, unique=True).map(sorted),
    min_size=1,
    max_size=6,
)


@given(steps=STEPS, data=st.data())
def test_any_steps_taken_in_any_portions(steps, data):
    log, expected, taken = StepLog(), {1: {}, 2: {}, 3: {}}, {1: {}, 2: {}, 3: {}}
    for number, step in enumerate(steps):
        if step:
            records, positions = zip(*step, strict=True)
            append(log, records, positions, [float(number)] * len(step), width=number % 3)
        for record, position in step:
            expected[record][position] = float(number)
        for record, columns in log.take(data.draw(st.sets(st.integers(1, 3)))).items():
            assert np.all(np.diff(columns["position"]) > 0) and set(columns["record"]) == {record}
            taken[record] |= dict(zip(columns["position"].tolist(), columns["3.delta"].tolist(), strict=True))
    for record, columns in log.take({1, 2, 3}).items():
        taken[record] |= dict(zip(columns["position"].tolist(), columns["3.delta"].tolist(), strict=True))
    assert taken == expected


def transferred(records, positions, deltas):
    columns = {"record": torch.tensor(records), "position": torch.tensor(positions), "3.delta": torch.tensor(deltas)}
    features = torch.tensor(deltas)[:, None] * torch.tensor([10.0, 100.0])
    ids = torch.arange(len(deltas))[:, None].expand(-1, 3)
    columns |= {"3.0.before": features, "3.0.top_ids": ids}
    return Transfer({name: c.int() if c.dtype == torch.int64 else c for name, c in columns.items()})


def test_columns_from_the_device_join_the_others():
    """They come as one block for the whole batch; tokens that nobody asks for are in it and are left out."""
    log = StepLog()
    append(log, [1], [0], [0.5], width=2)
    log.append_later(transferred([-1, 1, 2], [9, 1, 4], [float("nan"), 0.25, 1.5]))
    log.append_later(transferred([1, -1], [2, 7], [0.125, 3.0]))
    taken = log.take({1, 2})
    assert taken[1]["position"].tolist() == [0, 1, 2] and taken[2]["position"].tolist() == [4]
    assert taken[1]["3.delta"].tolist() == [0.5, 0.25, 0.125]
    assert taken[1]["3.0.before"].tolist() == [[5.0, 6.0], [2.5, 25.0], [1.25, 12.5]]
    assert taken[2]["3.0.top_ids"].tolist() == [[2, 2, 2]] and taken[2]["3.0.top_ids"].dtype == np.int64


def test_what_a_transfer_holds_does_not_change_with_its_source():
    source = torch.tensor([1.0, 2.0])
    transfer = Transfer(
        {"record": torch.tensor([1, 1]).int(), "position": torch.tensor([0, 1]).int(), "3.delta": source}
    )
    source.fill_(9.0)
    assert transfer.columns()["3.delta"].tolist() == [1.0, 2.0]
