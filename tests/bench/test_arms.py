"""The registry of workloads: what each arm asks of an engine."""

import pytest

from tiller.bench.arms import ARMS, DISTINCT, PLAIN, WORKLOADS, chosen
from tiller.bench.prompts import OWN_LEN, SHARED_LEN, blocks, prompts
from tiller.engine import parse_spec
from tiller.engine.errors import TillerError


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_is_what_the_parser_takes(name):
    specs = [parse_spec(spec) for index in range(256) if (spec := WORKLOADS[name](index)) is not None]
    assert bool(specs) == (name != "unsteered")
    assert not any(spec.idle for spec in specs)
    assert all(edit.id < 1024 for spec in specs for edit in spec.features), "the demo's SAE has them"


@pytest.mark.parametrize("num", DISTINCT)
def test_as_many_distinct_specs_as_its_name_says(num):
    digests = [parse_spec(WORKLOADS[f"distinct-{num}"](index)).digest for index in range(256)]
    assert len(set(digests)) == num and len(set(digests[:num])) == num


def test_every_second_request_is_steered():
    assert [WORKLOADS["mixed"](index) is not None for index in range(4)] == [False, True, False, True]


def test_only_plain_engines_are_asked_nothing_of_and_all_are_held_against_one_that_is_there():
    ids = {arm.id for arm in ARMS}
    assert len(ids) == len(ARMS) and {arm.against for arm in ARMS} <= ids
    assert all(arm.spec(1) is None for arm in ARMS if arm.engine == "plain")


def test_what_is_chosen_comes_with_what_it_is_held_against():
    assert chosen(None) == ARMS
    assert {arm.id for arm in chosen("add")} == {PLAIN, "add"}
    assert {arm.id for arm in chosen("distinct-64, idle")} == {PLAIN, "idle", "distinct-1", "distinct-64"}
    assert {arm.id for arm in chosen("shared")} == {PLAIN} | {a.id for a in ARMS if a.shared}
    with pytest.raises(TillerError, match="--arms: no arm 'ad'; there are plain, idle"):
        chosen("add,ad")


def test_prompts_are_the_same_for_all_and_share_what_they_should():
    assert prompts(3, 5, 100) == prompts(3, 5, 100)
    own = prompts(4, 5, 100)
    assert {len(prompt) for prompt in own} == {5} and len({tuple(prompt) for prompt in own}) == 4
    shared = prompts(4, 5, 100, shared=True)
    assert {len(prompt) for prompt in shared} == {SHARED_LEN + OWN_LEN}
    assert len({tuple(prompt[:SHARED_LEN]) for prompt in shared}) == 1
    assert len({tuple(prompt) for prompt in shared}) == 4
    assert prompts(2, 5, 100) == own[:2], "a smaller batch is a part of the larger one"


@pytest.mark.parametrize(("num", "length", "tokens"), [(1, 1, 128), (3, 128, 384), (2, 129, 512)])
def test_room_is_counted_in_whole_blocks(num, length, tokens):
    assert blocks(num, length) == tokens
