"""RowPool against a model of it: a table whose rows hold what was last written there."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tiller.engine.worker.rows import RowPool

NUM_ROWS = 3


class RowPoolMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.pool = RowPool(NUM_ROWS)
        self.content = {}  # row -> key that was written there
        self.holds = []  # (row, key) of each request
        self.released = []  # free rows with content, the longest free first

    @precondition(lambda self: len(self.holds) < 6)
    @rule(key=st.sampled_from("abcdef"))
    def acquire(self, key):
        held = {row for row, _ in self.holds}
        kept = {content: row for row, content in self.content.items()}
        if len(held) == NUM_ROWS and kept.get(key) not in held:
            return  # more requests at once than there are rows
        row, fresh = self.pool.acquire(key)
        assert 1 <= row <= NUM_ROWS
        assert fresh == (key not in kept), "written again without need, or not written at all"
        if fresh:
            assert row not in held
            if len(self.content) == NUM_ROWS:
                assert row == self.released[0], "the row free for longest goes first"
            self.content[row] = key
        assert self.content[row] == key
        self.released = [r for r in self.released if r != row]
        self.holds.append((row, key))

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data):
        row, _ = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
        self.pool.release(row)
        if all(row != held for held, _ in self.holds):
            self.released.append(row)

    @invariant()
    def holders_find_their_own_program(self):
        assert all(self.content[row] == key for row, key in self.holds)
        assert self.pool.num_held == len({row for row, _ in self.holds}) == len({key for _, key in self.holds})


test_row_pool = RowPoolMachine.TestCase


def test_row_0_is_never_handed_out():
    pool = RowPool(2)
    assert {pool.acquire("a")[0], pool.acquire("b")[0]} == {1, 2}


def test_a_row_nobody_holds_is_used_again_without_writing():
    pool = RowPool(2)
    row, fresh = pool.acquire("a")
    assert fresh
    pool.release(row)
    assert pool.acquire("b")[0] != row
    assert pool.acquire("a") == (row, False)


def test_releasing_too_often_is_a_bug_that_shows():
    pool = RowPool(1)
    row, _ = pool.acquire("a")
    pool.release(row)
    with pytest.raises(KeyError):
        pool.release(row)
