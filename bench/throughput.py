"""What steering costs: output tokens a second of every arm, in rounds that visit all arms in turn.

    tiller bench throughput [--rounds 7] [--eager] [--config demo]      (or: python bench/throughput.py)

Prints a table of medians with spread and writes JSON with every sample, the machine and the versions. A share is the
median over rounds of (arm / the arm it is held against) within the same round, so that a noisy minute hits both.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tiller.bench.arms import ARMS, Arm
from tiller.bench.hf_hook import HookedModel
from tiller.bench.machine import machine
from tiller.engine import load_config

HF = "Hugging Face + hook, one at a time"
HF_REQUESTS = 4  # of the round's requests; its rate does not depend on how many wait


class EngineProcess:
    """A child that runs `engine_process.py`; idle between rounds."""

    def __init__(self, kind: str, job: dict[str, Any]) -> None:
        environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "TILLER_DISABLE": "1" if kind == "plain" else "0"}
        command = [sys.executable, "-m", "tiller.bench.engine_process", json.dumps({**job, "kind": kind})]
        self.child = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._wait_for("READY")

    def round(self, specs: list[Any] | None, max_tokens: int) -> dict[str, Any]:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"specs": specs, "max_tokens": max_tokens}) + "\n")
        self.child.stdin.flush()
        return json.loads(self._wait_for("ROUND ").removeprefix("ROUND "))

    def _wait_for(self, word: str) -> str:
        assert self.child.stdout is not None and self.child.stderr is not None
        for line in self.child.stdout:
            if line.startswith(word):
                return line
        raise RuntimeError(f"the engine ended: {self.child.stderr.read()[-2000:]}")

    def close(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait(timeout=60)


def measure(
    config: str, rounds: int, num_requests: int, prompt_len: int, max_tokens: int, eager: bool, out: Path
) -> None:
    """Measures every arm and writes OUT/<machine>/throughput-(eager|compiled).json; `eager` is without torch.compile."""
    engine = {"enforce_eager": eager, "max_num_seqs": num_requests, "enable_prefix_caching": False}
    job = {"config": config, "num_requests": num_requests, "prompt_len": prompt_len, "engine": engine}
    children = {kind: EngineProcess(kind, job) for kind in ("plain", "steered")}
    hooked = HookedModel(load_config(config), feature=7, value=0.5)
    samples: dict[str, list[float]] = {name: [] for name in [*(arm.name for arm in ARMS), HF]}
    for number in track(range(rounds + 1), description="rounds (the first warms up)"):
        for arm in ARMS[number % len(ARMS) :] + ARMS[: number % len(ARMS)]:  # nobody always comes first
            result = children[arm.engine].round(_specs(arm, num_requests), max_tokens)
            _check(arm, result, num_requests)
            if number:
                samples[arm.name].append(result["tokens"] / result["seconds"])
        rate = hooked.tokens_per_second(_few_prompts(prompt_len), max_tokens)
        if number:
            samples[HF].append(rate)
    for child in children.values():
        child.close()
    report = {"machine": machine(), "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])}
    report |= {"settings": {**job, "max_tokens": max_tokens, "rounds": rounds}, "tokens_per_second": samples}
    show(samples)
    folder = out / report["machine"]["name"]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"throughput-{'eager' if eager else 'compiled'}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    Console().print(f"written: {file}")


def _specs(arm: Arm, num: int) -> list[Any] | None:
    specs = [arm.spec(index) for index in range(num)]
    return specs if any(specs) else None


def _check(arm: Arm, result: dict[str, Any], num: int) -> None:
    """A benchmark of an engine that did not steer would be worth nothing."""
    assert (result["steered"] > 0) == any(arm.spec(index) for index in range(num)), (arm.name, result)


def _few_prompts(length: int) -> list[dict[str, list[int]]]:
    return [{"prompt_token_ids": [3 + (7 * i + j) % 500 for j in range(length)]} for i in range(HF_REQUESTS)]


def shares(samples: dict[str, list[float]], name: str, against: str) -> list[float]:
    """Throughput of one arm over another's, round by round."""
    return [ours / theirs for ours, theirs in zip(samples[name], samples[against], strict=True)]


def show(samples: dict[str, list[float]]) -> None:
    """The table of all arms, Hugging Face's last."""
    table = Table("arm", "tokens/s", "share", "min .. max", "held against", "aim", title="medians over rounds")
    for arm in ARMS:
        ratio = shares(samples, arm.name, arm.against)
        aim = "" if arm.aim is None else f">= {arm.aim:.2f}"
        table.add_row(arm.name, _rate(samples[arm.name]), *_summary(ratio), arm.against, aim)
    table.add_row(HF, _rate(samples[HF]), *_summary(shares(samples, HF, "add, one spec")), "add, one spec", "<= 0.10")
    Console(width=120).print(table)


def _rate(values: list[float]) -> str:
    return f"{statistics.median(values):.0f}"


def _summary(ratio: list[float]) -> tuple[str, str]:
    return f"{statistics.median(ratio):.3f}", f"{min(ratio):.3f} .. {max(ratio):.3f}"


if __name__ == "__main__":
    from tiller.bench.cli import app

    app(["throughput", *sys.argv[1:]])
