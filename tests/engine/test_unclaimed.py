"""Records of requests that have ended: kept for every caller that will ask, bounded for those that are lost."""

import numpy as np
import pytest
import torch

from tiller.engine.spec import ONLY_COMPLETION
from tiller.engine.worker import steering as steering_module
from tiller.engine.worker.steering import Steering

from .test_program import D_MODEL, PLAN, SAES, VECTORS

BOUND = 16
EDIT = {"features": [{"id": 3, "value": 2.0}]}


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch) -> Steering:
    monkeypatch.setattr(steering_module, "MAX_UNCLAIMED", BOUND)
    return Steering(PLAN, SAES, VECTORS, D_MODEL, max_num_seqs=2)


def run(steering: Steering, req_id: str, name: str) -> None:
    """One step of a request of one token that enters the batch and stays."""
    steering.admit(req_id, {"steering": EDIT, "steering_id": name}, 1, 0)
    steering.begin_step([req_id], np.array([0, 1]), torch.arange(1))
    for site in steering.site_list():
        site.steer_(torch.randn(1, D_MODEL), torch.randn(1, D_MODEL))
    steering.end_step()


def test_lost_records_are_bounded_and_the_last_ones_kept(steering: Steering) -> None:
    for number in range(10 * BOUND):
        run(steering, f"r{number}", f"caller{number}")
        steering.release(f"r{number}")
        assert len(steering.records) <= BOUND + BOUND // 8 + 1
        assert len(steering.record_ids) == len(steering.records)
    last = 10 * BOUND - 1
    claimed = steering.claim([(f"caller{number}", ONLY_COMPLETION, 1) for number in range(last - BOUND + 1, last + 1)])
    assert [receipt["tokens_steered"] for receipt in claimed] == [1] * BOUND
    assert steering.claim([("caller0", ONLY_COMPLETION, 1)]) == [None]


def test_a_request_in_the_batch_does_not_keep_lost_ones_alive(steering: Steering) -> None:
    """The oldest record is of a request that still runs; those behind it are dropped all the same, it is not."""
    run(steering, "long", "patient")
    for number in range(4 * BOUND):
        run(steering, f"r{number}", f"caller{number}")
        steering.release(f"r{number}")
    assert len(steering.records) <= 1 + BOUND + BOUND // 8 + 1
    (receipt,) = steering.claim([("patient", ONLY_COMPLETION, 1)])
    assert receipt["tokens_steered"] == 1


def test_completions_of_one_request_wait_for_each_other(steering: Steering) -> None:
    """However many they are: the caller gets them in one answer and asks then."""
    for index in range(3 * BOUND):
        run(steering, f"{index}_many", "many")
        steering.release(f"{index}_many")
    claimed = steering.claim([("many", index, 1) for index in range(3 * BOUND)])
    assert [receipt["tokens_steered"] for receipt in claimed] == [1] * (3 * BOUND)
    assert not steering.records and not steering.record_ids


def test_nothing_is_left_of_what_was_claimed_or_dropped(steering: Steering) -> None:
    run(steering, "a", "claimed")
    run(steering, "b", "dropped")
    steering.claim([("claimed", ONLY_COMPLETION, 1)])
    steering.drop(["dropped"])
    assert not (steering.records or steering.record_ids or steering.admitted or steering.rows.num_held)
    assert not (steering._waiting or steering._in_batch_of)
