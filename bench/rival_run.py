"""`tiller bench rivals`: other ways to steer, on the same prompts, beside vLLM and Tiller in the same rounds.

One rival at a time lives beside the two. A rival that can't be installed or started, that fails, or that answers steered
requests as unsteered ones is a row with its error.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from tiller.engine import Config
from tiller.engine.sae.loader import load_sae

from .arms import PLAIN
from .child import Child, ChildError
from .prompts import Lengths, check_config, dtype_of, engine_arguments, engine_child, prompts, text_config
from .record import ArmEntry, Failure, Record, Sample
from .rival_report import save_rival_plot, show_rivals
from .rivals.environment import Environment, SetupError
from .rivals.protocol import EVERYTHING, Rival
from .rivals.registry import module_name, rivals
from .shapes import model_config

STRENGTH = 20.0  # raw activation added: enough to change answers
SETUP_SECONDS, START_SECONDS, ROUND_SECONDS = 1200, 600, 300
OURS = "tiller"


class Settings(NamedTuple):
    """What `tiller bench rivals` was asked for."""

    model: str
    rounds: int
    batch: int
    lengths: Lengths


class Bench(NamedTuple):
    """What all rivals share."""

    settings: Settings
    config: Config
    layer: int
    vectors: np.ndarray
    requests: list[list[int]]
    engine: dict[str, Any]
    folder: Path
    record: Record
    file: Path


def rows_of(workload: str, num: int) -> list[int | None]:
    """Which of the vectors each request adds."""
    if workload == "distinct":
        return list(range(num))
    if workload == "mixed":
        return [0 if i % 2 else None for i in range(num)]
    return [0 if workload == "add" else None] * num


def spec_of(row: int | None) -> dict[str, Any] | None:
    """The same addition as Tiller's request."""
    return None if row is None else {"features": [{"id": row, "value": STRENGTH}]}


def measure_rivals(
    console: Console, settings: Settings, only: str | None, environments: Path, fresh: bool, out: Path
) -> Path:
    """Measures every rival and writes OUT/<machine>/rivals.json and .png as it goes; returns the first."""
    chosen = rivals(only)
    config = check_config(model_config(settings.model))
    with tempfile.TemporaryDirectory(prefix="tiller-rivals-") as folder:
        bench = _bench(settings, config, Path(folder), out)
        file, record = bench.file, bench.record
        if not fresh:
            bench = bench._replace(record=record.go_on_from(file))
            record = bench.record
        name = model_config(settings.model)
        compiled = {**bench.engine, "enforce_eager": False}
        with engine_child("plain", name, compiled) as baseline, engine_child("steered", name, compiled) as ours:
            for rival in chosen:
                for option in rival.options:
                    one_rival(bench, rival, option, {PLAIN: baseline, OURS: ours}, environments, console)
                    record.write(file)
    show_rivals(record, console)
    save_rival_plot(record, file.with_suffix(".png"))
    console.print(f"written: {file} and .png", highlight=False, soft_wrap=True)
    return file


def _bench(settings: Settings, config: Config, folder: Path, out: Path) -> Bench:
    entry, model = config.saes["default"], text_config(config)
    loaded = load_sae(config.resolve(entry.path), entry.subfolder, entry.layer, entry.activation)
    layer = entry.layer if entry.layer is not None else loaded.layer
    assert layer is not None  # the plan has checked it
    vectors = (STRENGTH * loaded.sae.W_dec[: settings.batch].float()).numpy()
    np.save(folder / "vectors.npy", vectors)
    _merged(config, folder / "model")
    engine = engine_arguments(config, [settings.batch], settings.lengths, True, 0)
    own = {**config.engine, **engine, "dtype": str(dtype_of(config, model)).removeprefix("torch.")}
    own = {key: value for key, value in own.items() if key not in ("tokenizer", "enforce_eager")}  # theirs to choose
    facts = {"layer": layer, "strength": STRENGTH, "dtype": own["dtype"], "engine": own}
    record = Record.begin("rivals", {**settings._asdict(), "lengths": settings.lengths._asdict(), **facts})
    requests = prompts(settings.batch, settings.lengths.prompt, model.vocab_size)
    file = out / record.machine.name / "rivals.json"
    return Bench(settings, config, layer, vectors, requests, own, folder, record, file)


def _merged(config: Config, folder: Path) -> None:
    """Model and tokenizer in one folder, as every rival takes them."""
    folder.mkdir()
    arguments = config.vllm_arguments()
    for source in dict.fromkeys([arguments["model"], arguments.get("tokenizer", arguments["model"])]):
        for entry in Path(source).iterdir():
            if not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry.resolve())


def one_rival(
    bench: Bench, rival: Rival, option: str, others: dict[str, Child], environments: Path, console: Console
) -> None:
    """All rounds of one rival beside vLLM and Tiller, or the reason why there are none."""
    own = "/".join(part for part in (rival.id, option) if part)
    title = f"{rival.title}{f', {option}' * bool(option)}"
    arms = {workload: f"{own}:{workload}" for workload in rival.workloads}
    known = {arm.id for arm in bench.record.arms}
    note = f"{rival.how}. {rival.limits}."
    entries = [ArmEntry(id=arm, name=title, against=f"{own}:{PLAIN}", note=note) for arm in arms.values()]
    bench.record.arms += [entry for entry in entries if entry.id not in known]
    if all(len(bench.record.of(arm, bench.settings.batch)) >= bench.settings.rounds for arm in arms.values()):
        return
    bench.record.failures = [failure for failure in bench.record.failures if failure.arm not in arms.values()]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    environment = Environment(rival, environments / rival.id)
    try:
        with console.status(f"{title}: environment"):
            environment.make(device, SETUP_SECONDS)
        job = {"model": str(bench.folder / "model"), "layer": bench.layer, "engine": bench.engine, "option": option}
        job |= {"vectors": str(bench.folder / "vectors.npy"), "folder": str(bench.folder)}
        with console.status(f"{title}: start"):
            command = environment.command(module_name(rival), json.dumps(job))
            child = Child(command, environment.variables(), START_SECONDS)
        with child, console.status(f"{title}: rounds"):
            bench.record.facts[own] = child.facts
            rounds(bench, own, arms, child, others)
    except (SetupError, ChildError) as error:
        console.print(f"{title}: {error}", style="red", highlight=False, soft_wrap=True)
        message = str(error).replace(str(environment.folder), "ENVIRONMENT").replace(str(bench.folder), "FOLDER")
        bench.record.failures += [Failure(arm=arm, batch=bench.settings.batch, error=message) for arm in arms.values()]


def rounds(bench: Bench, own: str, arms: dict[str, str], rival: Child, others: dict[str, Child]) -> None:
    """The workloads in turn; a workload that the rival fails at is noted and left out from then on."""
    settings, record = bench.settings, bench.record
    texts: dict[str, list[str]] = {}
    order = [workload for workload in EVERYTHING if workload in arms]
    for number in range(settings.rounds + 1):
        sides = [(f"{own}:{PLAIN}", others[PLAIN], "unsteered")]
        sides += [(f"{own}:{OURS}:{workload}", others[OURS], workload) for workload in order]
        sides += [(arms[workload], rival, workload) for workload in order]
        for arm, child, workload in sides[number % len(sides) :] + sides[: number % len(sides)]:
            if arm in record.failed(settings.batch):
                continue
            try:
                sample = _sample(bench, arm, child, workload, number, texts)
            except ChildError as error:
                if child is not rival:
                    raise
                record.failures.append(Failure(arm=arm, batch=settings.batch, error=str(error)))
                continue
            if number:
                record.samples.append(sample)
        if number == settings.rounds:
            _compare(bench, own, arms, texts)
        record.write(bench.file)


def _sample(bench: Bench, arm: str, child: Child, workload: str, number: int, texts: dict[str, list[str]]) -> Sample:
    rows = rows_of(workload, bench.settings.batch)
    specs = [spec_of(row) for row in rows]
    order = {"prompts": bench.requests, "rows": rows, "max_tokens": bench.settings.lengths.answer}
    result = child.ask({**order, "specs": specs if any(specs) else None}, ROUND_SECONDS)
    texts[arm] = result["texts"]
    kept = {key: result.get(key, 0) for key in ("seconds", "tokens", "steered_tokens", "cached_tokens")}
    return Sample(round=number, arm=arm, batch=bench.settings.batch, **kept)


def _compare(bench: Bench, own: str, arms: dict[str, str], texts: dict[str, list[str]]) -> None:
    """Writes into the last round's samples whether steering changed the answers, and whether they are ours.

    A rival whose steered answers are all the unsteered ones is noted as a failure.
    """
    batch, record = bench.settings.batch, bench.record
    unsteered = texts.get(arms.get("unsteered", ""), texts[f"{own}:{PLAIN}"])
    for workload, arm in arms.items():
        if arm not in texts or arm in record.failed(batch):
            continue
        steered = [i for i, row in enumerate(rows_of(workload, batch)) if row is not None]
        last = record.of(arm, batch)[bench.settings.rounds]
        last.like_ours = _share(texts[arm], texts[f"{own}:{OURS}:{workload}"], range(batch))
        if steered:
            last.changed = 1 - _share(texts[arm], unsteered, steered)
            if last.changed == 0:
                text = "its steered answers are the unsteered ones"
                record.failures.append(Failure(arm=arm, batch=batch, error=text))


def _share(own: list[str], others: list[str], places: Any) -> float:
    """How many of the answers at `places` are the same."""
    return sum(own[i] == others[i] for i in places) / len(places)
