"""What steering costs a server's clients: plain vLLM and Tiller under the same load, in rounds that visit all arms in turn."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from tiller.evaluation.plotting import write_png

from .arms import WORKLOADS
from .machine import busy_cores, machine
from .record import command
from .serve_load import Load, Spec, run_load
from .serve_process import Kind, ServeProcess
from .serve_report import draw, tables
from .shapes import model_config
from .submission import submission_cost

PLAIN = "plain vLLM"
DEPTHS = (1, 8, 64)  # requests at once


class ServeArm(NamedTuple):
    """`spec(i)` steers request i of a load; `aim` is the share of plain throughput that we want to keep."""

    name: str
    server: Kind
    spec: Callable[[int], Spec]
    aim: float | None = None


SERVE_ARMS = [
    ServeArm(PLAIN, "plain", WORKLOADS["unsteered"]),
    ServeArm("plugin idle", "steered", WORKLOADS["unsteered"], 0.98),
    ServeArm("add", "steered", WORKLOADS["add"], 0.95),
    ServeArm("named-feature edit", "steered", WORKLOADS["edit"]),
    ServeArm("TopK replacement", "steered", WORKLOADS["replace"]),
    ServeArm("64 distinct adds", "steered", WORKLOADS["distinct-64"]),
]
AIMS = {arm.name: arm.aim for arm in SERVE_ARMS}


def loads(rate: float, scale: float = 1.0, depths: Sequence[int] = DEPTHS) -> list[Load]:
    """Closed loops at several depths and, at a `rate` above 0, an open one."""
    closed = [(depth, {1: 8, 8: 48}.get(depth, 3 * depth)) for depth in depths]
    made = [Load(f"{depth} at once", max(1, round(num * scale)), depth) for depth, num in closed]
    return [*made, *([Load(f"{rate:g} a second", max(1, round(8 * rate * scale)), rate=rate)] if rate else [])]


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
    depths: Sequence[int] = DEPTHS,
) -> Path:
    """Measures every arm under every load and writes OUT/<machine>/serve.json, round by round, and .png; returns the first.

    Raises RuntimeError where a server doesn't start, a request fails, or an arm was not steered as it should be.
    """
    from transformers import AutoTokenizer

    from tiller.engine import load_config
    from tiller.engine.server.launch import use_few_threads

    model, config = config, model_config(config)
    loaded = load_config(config)
    use_few_threads(loaded)  # as `tiller serve` does, here for both
    arguments = loaded.vllm_arguments()
    tokenizer = AutoTokenizer.from_pretrained(arguments.get("tokenizer") or arguments["model"])
    settings = {"config": model, "rounds": rounds, "rate": rate, "prompt_len": prompt_len, "max_tokens": max_tokens}
    own = loads(rate, scale, depths)
    settings |= {"flags": flags, "loads": [load._asdict() | {"rate": str(load.rate)} for load in own]}
    report: dict[str, Any] = {
        "kind": "serve",
        "machine": {**machine(), "busy_cores": busy_cores()},
        "command": command(),
        "settings": settings,
    }
    report |= {"submission_ms": submission_cost(config), "samples": []}
    folder = out / report["machine"]["name"]
    file = folder / ("serve.json" if model == "demo" else f"serve-{Path(model).stem}.json")
    servers: dict[str, ServeProcess] = {}
    try:
        for kind in ("plain", "steered"):
            servers[kind] = ServeProcess(kind, config, flags)  # type: ignore[arg-type]
        for number in track(range(rounds + 1), description="rounds (the first warms up)", console=console):
            for load in own:
                seed = f"{number} {load.name}"  # every arm gets the same prompts, and gets them once
                for arm in SERVE_ARMS[number % len(SERVE_ARMS) :] + SERVE_ARMS[: number % len(SERVE_ARMS)]:
                    result = run_load(servers[arm.server], tokenizer, load, arm.spec, prompt_len, max_tokens, seed)
                    check_steered(arm, result)
                    if number:
                        report["samples"].append({"round": number, "load": load.name, "arm": arm.name, **result})
            write(report, file)
    finally:
        for server in servers.values():
            server.close()
    for table in tables(report, AIMS, PLAIN):
        table.show(console)
    write_png(draw(report, PLAIN), file.with_suffix(".png"))
    console.print(f"written: {file} and .png", highlight=False, soft_wrap=True)
    return file


def check_steered(arm: ServeArm, result: dict[str, float]) -> None:
    """Raises RuntimeError where the server's own count says that an arm was not what its name says."""
    if (result["steered_tokens"] > 0) != (arm.spec(0) is not None):
        raise RuntimeError(f"arm {arm.name!r} had {result['steered_tokens']:.0f} steered tokens")


def write(report: dict[str, Any], file: Path) -> None:
    """In one step: a run that is killed leaves the last whole round."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(file)
