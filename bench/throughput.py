"""`tiller bench throughput`: output tokens a second of every arm, in rounds that visit all arms in turn.

A share is the median over rounds of (arm / the arm it is held against) within the same round, so that a noisy minute hits
both. Every round is written as soon as it is over; the same command goes on where it stopped.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from .arms import SHARED_BATCH, Arm, chosen
from .child import Child, ChildError
from .prompts import Lengths, check_config, dtype_of, engine_arguments, engine_child, prompts, text_config
from .record import Failure, Record, Sample
from .shapes import Activation, model_config
from .throughput_report import save_plot, show

TOOLKIT_REQUESTS, TOOLKIT_TOKENS = 2, 16  # one by one: its rate depends on neither


class Settings(NamedTuple):
    """What `tiller bench throughput` was asked for; features, k and activation are of the SAE made up for a shape."""

    model: str
    features: int | None
    k: int | None
    activation: Activation | None
    batches: list[int]
    lengths: Lengths
    rounds: int
    eager: bool

    @property
    def stem(self) -> str:
        """Of the files that hold the results."""
        parts = [Path(self.model).stem if Path(self.model).is_file() else self.model]
        parts += [str(part) for part in (self.features, self.k, self.activation) if part is not None]
        return "-".join(["throughput", *parts, "eager" if self.eager else "compiled"])


class Run(NamedTuple):
    """What a run holds while it measures."""

    settings: Settings
    arms: list[Arm]
    engines: dict[str, Child]
    vocab_size: int
    record: Record
    file: Path


def measure(console: Console, settings: Settings, only: str | None, fresh: bool, out: Path) -> Path:
    """Measures every arm and writes OUT/<machine>/throughput-<model>-(eager|compiled).json and .png; returns the first.

    Raises TillerError where a setting can't be, ChildError where vLLM fails; rounds that are over stay written.
    """
    arms = chosen(only)
    name = model_config(settings.model, settings.features, settings.k, settings.activation)
    config = check_config(name)
    model = text_config(config)
    shared = SHARED_BATCH if any(arm.shared for arm in arms) else 0
    engine = engine_arguments(config, settings.batches, settings.lengths, settings.eager, shared)
    facts = {"d_model": model.hidden_size, "layers": model.num_hidden_layers, "engine": engine}
    facts["dtype"] = str(dtype_of(config, model)).removeprefix("torch.")
    record = Record.begin("throughput", {**settings._asdict(), "lengths": settings.lengths._asdict(), **facts})
    record.arms = [arm.entry(record.machine.gpu is not None) for arm in arms]
    file = out / record.machine.name / f"{settings.stem}.json"
    record = record if fresh else record.go_on_from(file)
    run = Run(settings, arms, {}, model.vocab_size, record, file)
    if any(lacks(run, batch, 0) for batch in settings.batches):
        with ExitStack() as stack:
            for kind in sorted({arm.engine for arm in arms}):  # in turn: what each sees of free memory is true
                with console.status(f"starting {kind}"):
                    run.engines[kind] = stack.enter_context(engine_child(kind, name, engine))
                record.facts[kind] = run.engines[kind].facts
            fill(run, console)
    show(record, console)
    save_plot(record, file.with_suffix(".png"))
    console.print(f"written: {file} and .png", highlight=False, soft_wrap=True)
    return file


def fill(run: Run, console: Console) -> None:
    """Takes the samples that the record lacks, the first batch size first, and writes after each round."""
    with Progress(console=console) as progress:
        todo = [(batch, number) for batch in run.settings.batches for number in range(run.settings.rounds + 1)]
        task = progress.add_task("rounds (the first warms up)", total=len(todo))
        for batch, number in todo:
            if lacks(run, batch, number):
                one_round(run, batch, number)
                run.record.write(run.file)
            progress.advance(task)


def lacks(run: Run, batch: int, number: int) -> bool:
    """Whether a round has to be run; the warm-up, where one of those after it has."""
    numbers = [number] if number else range(1, run.settings.rounds + 1)
    return any(each not in run.record.of(run.arms[0].id, batch) for each in numbers)


def one_round(run: Run, batch: int, number: int) -> None:
    """Every arm once, beginning with another one each time; Hugging Face, where it fails, is noted and left out from then on.

    Round 0 warms up.
    """
    arms = [arm for arm in run.arms if arm.least <= batch]
    for arm in arms[number % len(arms) :] + arms[: number % len(arms)]:
        if arm.id in run.record.failed(batch):
            continue
        try:
            sample = one(arm, run.engines[arm.engine], batch, number, run.settings.lengths, run.vocab_size)
        except ChildError as error:
            if arm.engine != "toolkit":
                raise
            run.record.failures.append(Failure(arm=arm.id, batch=batch, error=str(error)))
            continue
        if number:
            run.record.samples.append(sample)


def one(arm: Arm, engine: Child, batch: int, number: int, lengths: Lengths, vocab_size: int) -> Sample:
    """One arm in one round; raises ChildError where the engine fails or did not steer as the arm's name says."""
    num, answer = batch, lengths.answer
    if arm.shared:
        num = min(batch, SHARED_BATCH)
    if arm.id == "toolkit-1":
        num, answer = min(batch, TOOLKIT_REQUESTS), min(answer, TOOLKIT_TOKENS)
    specs = [arm.spec(index) for index in range(num)]
    order = {"prompts": prompts(num, lengths.prompt, vocab_size, arm.shared), "max_tokens": answer}
    order |= {"specs": specs if any(specs) else None, "one_by_one": arm.id == "toolkit-1"}
    result = engine.ask(order)
    if (result["steered_tokens"] > 0) != any(specs):
        raise ChildError(f"arm {arm.name!r} had {result['steered_tokens']} steered tokens")
    kept = {key: result.get(key, 0) for key in ("seconds", "tokens", "steered_tokens", "cached_tokens")}
    return Sample(round=number, arm=arm.id, batch=batch, **kept)
