"""Seconds of contenders that take turns, so that a noisy moment hits all of them.

On a GPU a sample is one replay of a CUDA graph between two events, or plain calls for a contender that no graph can hold.
Before every sample the stream is put back and memory four times the size of L2 is written, so that weights, scratch and
stream come from memory, as they do behind the rest of a model; this holds for every contender at every shape. The graph is
started while that write still runs, so the host's time is not in it. What a graph of one empty kernel takes is measured
beside (overhead_us) and not taken off. On a CPU a sample is the wall clock around a call, caches as they are.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .contenders import Contender

MIN_SAMPLES = 3
SECONDS = {"cuda": 0.4, "cpu": 0.25}  # that the samples of one contender may take at one shape


class Timer:
    """Times contenders on `device`, `repeats` samples each where they fit into SECONDS."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.on_cuda = device.type == "cuda"
        if self.on_cuda:
            size = 4 * torch.cuda.get_device_properties(device).L2_cache_size
            self.flusher = torch.empty(size, dtype=torch.int8, device=device)

    def time(self, contenders: Sequence[Contender]) -> list[list[float]]:
        """Seconds an op, by contender."""
        calls = [self._ready(contender) for contender in contenders]
        budget = [self._num_samples(*pair) for pair in zip(contenders, calls, strict=True)]
        samples: list[list[Callable[[], float]]] = [[] for _ in contenders]
        for number in range(max(budget)):
            for contender, call, num, own in zip(contenders, calls, budget, samples, strict=True):
                if number < num:
                    own.append(self._sample(contender, call))
            self._wait()
        return [
            [read() / contender.launches for read in own] for contender, own in zip(contenders, samples, strict=True)
        ]

    def overhead(self) -> float | None:
        """Seconds between the events around a graph of one kernel that does nothing to speak of; None on a CPU."""
        if not self.on_cuda:
            return None
        empty = torch.zeros(1, device=self.device)
        call = _graph(empty.zero_)
        return float(np.median([self._between_events(call)() for _ in range(self.repeats)]))

    def _ready(self, contender: Contender) -> Callable[[], Any]:
        """Warmed up (Triton and torch compiled at its check) and, where that is possible, in a graph."""
        contender.prepare()
        contender.run()
        self._wait()
        contender.prepare()
        return _graph(contender.run) if self.on_cuda and contender.graph else contender.run

    def _num_samples(self, contender: Contender, call: Callable[[], Any]) -> int:
        seconds = self._sample(contender, call)()
        return max(MIN_SAMPLES, min(self.repeats, int(SECONDS[self.device.type] / max(seconds, 1e-9))))

    def _sample(self, contender: Contender, call: Callable[[], Any]) -> Callable[[], float]:
        contender.prepare()
        if self.on_cuda:
            return self._between_events(call)
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        return lambda: seconds

    def _between_events(self, call: Callable[[], Any]) -> Callable[[], float]:
        """Runs `call` behind the flush; what it returns waits for the time."""
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flusher.zero_()
        begun.record()
        call()
        ended.record()

        def read() -> float:
            ended.synchronize()
            return begun.elapsed_time(ended) / 1000

        return read

    def _wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize(self.device)


def _graph(call: Callable[[], Any]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles in microseconds, with every sample."""
    quartiles = np.percentile(seconds, [25, 50, 75]) * 1e6
    keys = ("q1_us", "median_us", "q3_us")
    return {**{key: round(float(value), 4) for key, value in zip(keys, quartiles, strict=True)},
            "samples_us": [round(value * 1e6, 4) for value in seconds]}  # fmt: skip
