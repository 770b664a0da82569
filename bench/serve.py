"""What steering costs a server's clients: plain vLLM and Tiller under the same load, in rounds that visit all arms in turn."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from .machine import machine
from .serve_load import Load, Spec, run_load
from .serve_process import Kind, ServeProcess
from .serve_report import draw, show

PLAIN = "plain vLLM"


class ServeArm(NamedTuple):
    """`spec(i)` steers request i of a load; `aim` is the share of plain throughput that we want to keep."""

    name: str
    server: Kind
    spec: Callable[[int], Spec]
    aim: float | None = None


SERVE_ARMS = [
    ServeArm(PLAIN, "plain", lambda i: None),
    ServeArm("plugin idle", "steered", lambda i: None, 0.98),
    ServeArm("add", "steered", lambda i: {"features": [{"id": 7, "value": 0.5}]}, 0.95),
    ServeArm("named-feature edit", "steered", lambda i: {"features": [{"id": 7, "op": "set", "value": 1.0}]}),
    ServeArm("TopK replacement", "steered", lambda i: {"features": [{"id": 7, "value": 0.5}], "error_term": False}),
    ServeArm("64 distinct adds", "steered", lambda i: {"features": [{"id": 7 + i % 64, "value": 0.5 + i % 64 / 100}]}),
]  # fmt: skip


def loads(rate: float, scale: float = 1.0) -> list[Load]:
    """Closed loops at three depths and an open one."""
    closed = [(1, 8), (8, 48), (64, 192)]
    made = [Load(f"{depth} at once", max(1, round(num * scale)), depth) for depth, num in closed]
    return [*made, Load(f"{rate:g} a second", max(1, round(8 * rate * scale)), rate=rate)]


def measure_serving(
    console: Console,
    config: str,
    rounds: int,
    rate: float,
    prompt_len: int,
    max_tokens: int,
    flags: list[str],
    out: Path,
    scale: float = 1.0,
) -> Path:
    """Measures every arm under every load and writes OUT/<machine>/serve.json and serve.png; returns the first.

    Raises RuntimeError where a server doesn't start, a request fails, or an arm was not steered as it should be.
    """
    from transformers import AutoTokenizer

    from tiller.engine import load_config
    from tiller.engine.server.launch import use_few_threads

    loaded = load_config(config)
    use_few_threads(loaded)  # as `tiller serve` does, here for both
    arguments = loaded.vllm_arguments()
    tokenizer = AutoTokenizer.from_pretrained(arguments.get("tokenizer") or arguments["model"])
    servers: dict[str, ServeProcess] = {}
    samples: list[dict[str, Any]] = []
    try:
        for kind in ("plain", "steered"):
            servers[kind] = ServeProcess(kind, config, flags)  # type: ignore[arg-type]
        for number in track(range(rounds + 1), description="rounds (the first warms up)", console=console):
            for load in loads(rate, scale):
                for arm in SERVE_ARMS[number % len(SERVE_ARMS) :] + SERVE_ARMS[: number % len(SERVE_ARMS)]:
                    result = run_load(servers[arm.server], tokenizer, load, arm.spec, prompt_len, max_tokens)
                    check_steered(arm, result)
                    if number:
                        samples.append({"round": number, "load": load.name, "arm": arm.name, **result})
    finally:
        for server in servers.values():
            server.close()
    settings = {"config": config, "rounds": rounds, "rate": rate, "prompt_len": prompt_len, "max_tokens": max_tokens}
    settings |= {"flags": flags, "loads": [load._asdict() | {"rate": str(load.rate)} for load in loads(rate, scale)]}
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    report = {"machine": machine(), "command": command, "settings": settings, "samples": samples}
    return write(report, console, out)


def check_steered(arm: ServeArm, result: dict[str, float]) -> None:
    """Raises RuntimeError where the server's own count says that an arm was not what its name says."""
    if (result["steered_tokens"] > 0) != (arm.spec(0) is not None):
        raise RuntimeError(f"arm {arm.name!r} had {result['steered_tokens']:.0f} steered tokens")


def write(report: dict[str, Any], console: Console, out: Path) -> Path:
    """The JSON with every sample, the picture beside it, and the tables on the terminal."""
    aims = {arm.name: arm.aim for arm in SERVE_ARMS}
    show(report, aims, PLAIN, console)
    folder = out / report["machine"]["name"]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "serve.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    draw(report, PLAIN, folder / "serve.png")
    console.print(f"written: {file} and serve.png")
    return file
