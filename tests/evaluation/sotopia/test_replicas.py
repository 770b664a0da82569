"""Two replicas of the real engine as Ray actors, one of them killed while it answers."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiller.engine.config import load_config
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.ask import EndpointError, Reply
from tiller.evaluation.sotopia.local import LocalSpeaker
from tiller.evaluation.sotopia.pool import Pool
from tiller.evaluation.sotopia.replicas import _needs, ray_speakers

from .runs import KilledAfter, exported, play
from .stub_process import ask_all, asks


@pytest.fixture(autouse=True)
def no_ray_left() -> Iterator[None]:
    yield
    ray = pytest.importorskip("ray")
    left = ray.is_initialized()
    ray.shutdown()
    assert not left


def test_a_killed_replica_changes_nothing_and_is_replaced(tmp_path: Path, demo_llm: Any) -> None:
    play(tmp_path / "alone", LocalSpeaker(demo_llm), scenarios=4, max_turns=6)
    replicas = ray_speakers(load_config("demo"), 2)
    pool = Pool(replicas)
    killed: list[int] = []

    async def kill() -> None:
        busy = max(replicas, key=lambda replica: pool.loads[replica.name])
        killed.append(await busy.pid())
        os.kill(killed[0], signal.SIGKILL)

    async def see_both() -> None:
        while not all(replica.ready for replica in replicas):
            await asyncio.sleep(0.1)
        for replica in replicas:
            assert isinstance(await replica.ask(asks(1, max_tokens=8)[0]), Reply)
            assert await replica.pid() != killed[0]

    sitting = play(tmp_path / "killed", KilledAfter(pool, 30, kill, see_both), scenarios=4, max_turns=6)
    assert killed and sitting.ending.state == "done"
    assert exported(tmp_path / "killed") == exported(tmp_path / "alone")


def test_an_engine_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    demo = load_config("demo")
    nowhere = demo.saes["default"].model_copy(update={"path": str(tmp_path)})
    pool = Pool(ray_speakers(demo.model_copy(update={"saes": {"default": nowhere}}), 1))
    (error,) = asyncio.run(ask_all(pool, asks(1)))
    assert isinstance(error, EndpointError)
    assert str(error).startswith("replica 0: ") and str(tmp_path) in str(error)


def test_what_does_not_fit_the_cluster_is_refused() -> None:
    config = load_config("demo")
    with pytest.raises(InputError, match="3 replicas of 1 CPU each don't fit: the cluster has 2"):
        _needs(config, 3, {"CPU": 2.0})
    wide = config.model_copy(update={"engine": {**config.engine, "tensor_parallel_size": 4}})
    with pytest.raises(InputError, match="2 replicas of 4 GPU each don't fit: the cluster has 6"):
        _needs(wide, 2, {"CPU": 64.0, "GPU": 6.0})
    assert _needs(wide, 2, {"CPU": 64.0, "GPU": 8.0}) == {"num_gpus": 4, "num_cpus": 1}


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install vllm-tiller\[ray\]"):
        ray_speakers(load_config("demo"), 2)
    monkeypatch.undo()
