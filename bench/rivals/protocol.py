"""How an engine under test answers the benchmark (see `bench/child.py`), and what the benchmark knows of a rival."""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

Order = dict[str, Any]  # prompts: lists of tokens; rows: of the vectors, None where unsteered; max_tokens
Call = Callable[[], Any]
Read = Callable[[Any], dict[str, Any]]  # of what the call returned: at least `tokens`
Prepare = Callable[[Order], tuple[Call, Read]]

EVERYTHING = ("unsteered", "add", "mixed", "distinct")


class Rival(NamedTuple):
    """One way to steer. Its environment gets the `sources`, then the `packages`, then what `setup` does."""

    id: str
    title: str
    how: str
    limits: str
    workloads: tuple[str, ...]  # of EVERYTHING, those that it can express
    packages: dict[str, tuple[str, ...]]  # by device: arguments of one `pip install`
    sources: dict[str, tuple[str, str, str]] = {}  # folder: git repository, commit, and the path in it that is needed
    setup: tuple[
        tuple[str, ...], ...
    ] = ()  # commands; {python} is the environment's, {site} its packages, {root} its folder
    options: tuple[str, ...] = ("",)  # an engine for each, which the adapter finds as job["option"]


def answer(load: Callable[[dict[str, Any]], tuple[dict[str, Any], Prepare]]) -> None:
    """Loads the engine of the job in argv[1], then answers an order a line; only the call itself is timed."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log
    facts, prepare = load(json.loads(sys.argv[1]))
    out.write(f"READY {json.dumps(facts)}\n")
    for line in sys.stdin:
        try:
            out.write(f"ROUND {json.dumps(_round(prepare, json.loads(line)))}\n")
        except Exception as error:  # the engine's own, whatever it is: the benchmark reports it
            text = (str(error).strip() or repr(error)).splitlines()[0]
            out.write(f"FAILED {json.dumps(f'{type(error).__name__}: {text}'[:600])}\n")


def _round(prepare: Prepare, order: Order) -> dict[str, Any]:
    call, read = prepare(order)
    start = time.perf_counter()
    result = call()
    return {"seconds": time.perf_counter() - start, **read(result)}


def vllm_version() -> str:
    """Of the environment's own."""
    return import_module("vllm").__version__


def of_vllm(outputs: list[Any]) -> dict[str, Any]:
    """Tokens and texts of vLLM's RequestOutputs."""
    return {
        "tokens": sum(len(output.outputs[0].token_ids) for output in outputs),
        "cached_tokens": sum(output.num_cached_tokens or 0 for output in outputs),
        "texts": [output.outputs[0].text for output in outputs],
    }


def token_prompts(order: Order) -> list[Any]:
    """The prompts as vLLM takes them."""
    return [{"prompt_token_ids": prompt} for prompt in order["prompts"]]
