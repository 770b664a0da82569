"""`tiller bench kernels`: every operation at every shape against its roofline and against torch.

Results are written as they come, the most telling shapes first, so that a run that is cut short still counts; the same command
goes on where it stopped, as long as the code, the device and torch are the same.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import triton
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch._dynamo.utils import counters

from tiller.kernels.steerer import interpreted

from .check import check, expected_of
from .contenders import Contender, Dense, Eager, Kernels, TopKGather, compiled_steer
from .counts import Count, Shape, floor_of, stages_of
from .machine import HERE, code_digest, machine
from .operations import OPERATIONS, Operation
from .rates import Rates, rates_of
from .stages import stages
from .timing import Timer, summary
from .workload import Dictionaries, Work

# Decode steps of the largest public dictionary first; where time runs out, long prefills are what is missing.
TOKENS_BY_VALUE = (64, 256, 1, 8, 2048, 8192)
FEATURES_BY_VALUE = (131072, 16384, 65536, 576)
MOST_DECODED = 256  # tokens of a step without prefill
COMPILE_SECONDS = {"cuda": 120.0, "cpu": 45.0}  # that torch.compile may take of one run
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Settings:
    """What a run measures; floors are compared with `rates`."""

    device: torch.device
    tokens: Sequence[int]
    features: Sequence[int]
    d_model: int
    k: int
    dtype: str
    repeats: int
    rates: Rates

    @property
    def triton(self) -> str:
        """What becomes of the Triton kernels on this device."""
        if self.device.type == "cuda":
            return f"timed, triton {triton.__version__}"
        return (
            "checked in Triton's interpreter, not timed: no CUDA device" if interpreted() else "not run: no CUDA device"
        )

    def shape(self, tokens: int, d_sae: int) -> Shape:
        return Shape(tokens, d_sae, self.d_model, self.k, DTYPES[self.dtype].itemsize)


def run(settings: Settings, folder: Path, fresh: bool, console: Console) -> dict[str, Any]:
    """Measures what `folder`/kernels.json lacks and returns the whole report.

    Raises WrongResultError where a contender's answer is wrong; the results before it are kept, this shape's are not written.
    """
    torch.manual_seed(0)
    report = begin(settings, None if fresh else _load(folder / "kernels.json"))
    bench = Bench(settings)
    report["overhead_us"] = None if (seconds := bench.timer.overhead()) is None else seconds * 1e6
    done = {_key(result) for result in report["results"]}
    todo = [job for job in jobs(settings) if (job[2].name, job[1], job[0]) not in done]
    with _progress(console) as progress:
        task = progress.add_task("", total=len(todo))
        for d_sae, own in groupby(todo, key=lambda job: job[0]):
            for result in bench.measure_all(d_sae, list(own), lambda text: progress.update(task, description=text)):
                report["results"].append(result)
                write(report, folder)
                progress.advance(task)
    write(report, folder)
    return report


def jobs(settings: Settings) -> list[tuple[int, int, Operation]]:
    """(d_sae, tokens, operation) in the order of their worth."""

    def place(value: int, by_value: Sequence[int]) -> tuple[int, int]:
        return (by_value.index(value), 0) if value in by_value else (len(by_value), value)

    shapes = [(d_sae, tokens) for d_sae in set(settings.features) for tokens in set(settings.tokens)]
    shapes.sort(key=lambda s: (s[1] > MOST_DECODED, place(s[0], FEATURES_BY_VALUE), place(s[1], TOKENS_BY_VALUE)))
    return [(*shape, operation) for shape in shapes for operation in OPERATIONS]


class Bench:
    """Measures jobs; holds one dictionary at a time and what torch.compile has made."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.timer = Timer(settings.device, settings.repeats)
        self.on_cuda = settings.device.type == "cuda"
        self.compiled: dict[str, Callable[..., Any]] = {}
        self.compile_seconds = COMPILE_SECONDS[settings.device.type]

    @torch.inference_mode()
    def measure_all(
        self, d_sae: int, own: Sequence[tuple[int, int, Operation]], tell: Callable[[str], None]
    ) -> Iterator[dict[str, Any]]:
        """One result a job; all are about one dictionary size."""
        settings = self.settings
        tell(f"F={d_sae}: dictionary")
        data = Dictionaries(d_sae, settings.d_model, settings.k, DTYPES[settings.dtype], settings.device)
        for tokens, group in groupby(own, key=lambda job: job[1]):
            hidden, residual = data.stream(tokens)
            for _, _, op in group:
                tell(f"F={d_sae} T={tokens} {op.name}")
                shape = settings.shape(tokens, d_sae)
                saes = data.own[op.activation], data.full[op.activation]
                yield self.measure(Work(op, shape, *saes, hidden, residual, max(settings.tokens)))
                if self.on_cuda:
                    torch.cuda.empty_cache()

    def measure(self, work: Work) -> dict[str, Any]:
        """Checks, then times, every contender of one operation at one shape."""
        contenders, notes = self._contenders(work)
        expected = expected_of(work)
        errors = {name: check(contender, name, expected) for name, contender in contenders.items()}
        notes |= self._compile(work, expected, contenders, errors)
        del expected
        kernels = contenders["tiller"] if "tiller" in contenders else None
        if kernels is not None and not self.on_cuda:
            notes["tiller"] = self.settings.triton
            del contenders["tiller"]
            kernels = None
        assert kernels is None or isinstance(kernels, Kernels)
        counts = stages_of(work.operation, work.shape)
        parts = stages(kernels, list(counts)) if kernels is not None else {}
        times = [summary(own) for own in self.timer.time([*contenders.values(), *parts.values()])]
        result = self._result(work, counts) | {"errors": errors, "notes": notes}
        result["contenders"] = dict(zip(contenders, times[: len(contenders)], strict=True))
        for name, contender in contenders.items():
            result["contenders"][name] |= {"graph": self.on_cuda and contender.graph, "launches": contender.launches}
        for name, own in zip(parts, times[len(contenders) :], strict=True):
            result["stages"][name] |= own
        return derived(result)

    def _contenders(self, work: Work) -> tuple[dict[str, Contender], dict[str, str]]:
        """Who takes part, and why others don't."""
        notes = {}
        found: dict[str, Contender] = {}
        if self.on_cuda or interpreted():
            found["tiller"] = Kernels(work)
        else:
            notes["tiller"] = self.settings.triton
        found["eager"] = Eager(work)
        if not work.operation.idle:
            found["dense"] = Dense(work)
        if work.operation.name == "TopK replacement":
            kernels = found.get("tiller") if self.on_cuda else None
            assert kernels is None or isinstance(kernels, Kernels)
            found["topk+gather"] = TopKGather(work, kernels)
        return found, notes

    def _compile(
        self, work: Work, expected: torch.Tensor, contenders: dict[str, Contender], errors: dict[str, float]
    ) -> dict[str, str]:
        """Adds torch.compile's contender while there is time for compiling; otherwise the reason why not."""
        name = work.operation.name
        if work.operation.idle:
            return {}
        if self.compile_seconds <= 0 and name not in self.compiled:
            return {"compiled": f"not run: {COMPILE_SECONDS[self.settings.device.type]:.0f} s of compiling were spent"}
        contender = Eager(work, self.compiled.setdefault(name, compiled_steer()))
        start = time.perf_counter()
        try:
            errors["compiled"] = check(contender, "compiled", expected)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:  # not ours to mend
            return {"compiled": f"not run: {type(error).__name__}: {str(error).splitlines()[0]}"}
        finally:
            self.compile_seconds -= time.perf_counter() - start
        if not counters["frames"]["ok"]:  # TORCHDYNAMO_DISABLE, say: the function came back as it was
            del errors["compiled"]
            return {"compiled": "not run: torch.compile is switched off"}
        contenders["compiled"] = contender
        return {}

    def _result(self, work: Work, counts: dict[str, Count]) -> dict[str, Any]:
        rates = self.settings.rates
        return {
            "operation": work.operation.name,
            **asdict(work.shape),
            "dtype": self.settings.dtype,
            "floor_us": floor_of(counts, rates) * 1e6,
            "fused_floor_us": floor_of(counts, rates, fused=True) * 1e6,
            "stages": {name: asdict(c) | {"floor_us": c.floor(rates) * 1e6} for name, c in counts.items()},
        }


def derived(result: dict[str, Any]) -> dict[str, Any]:
    """`result` with the share of the floor of all that was timed, and each contender's time over that of Triton's kernels, or
    where these have none, of eager torch."""
    own = result["contenders"]
    base = "tiller" if "tiller" in own else "eager"
    for entry in own.values():
        entry["share_of_floor"] = result["floor_us"] / entry["median_us"]
        entry["ratio"] = entry["median_us"] / own[base]["median_us"]
    for stage in result["stages"].values():
        if "median_us" in stage:
            stage["share_of_floor"] = stage["floor_us"] / stage["median_us"]
    return result | {"ratios_against": base}


def begin(settings: Settings, earlier: dict[str, Any] | None) -> dict[str, Any]:
    """A report without results, or with those of an `earlier` one that the same code measured in the same way."""
    report: dict[str, Any] = {
        "kind": "kernels",
        "machine": machine(settings.device.type),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "code": code_digest(HERE, HERE.parent / "kernels"),
        "device": settings.device.type,
        "settings": {
            "d_model": settings.d_model,
            "k": settings.k,
            "dtype": settings.dtype,
            "repeats": settings.repeats,
        },
        "rates": settings.rates._asdict(),
        "triton": settings.triton,
        "timing": " ".join((sys.modules[Timer.__module__].__doc__ or "").split()),
        "results": [],
    }
    if earlier is None or _origin(earlier) != _origin(report):
        return report
    report["rates"] = earlier["rates"]
    return report | {"results": earlier["results"]}


def _origin(report: dict[str, Any]) -> tuple[Any, ...]:
    versions = report["machine"]["versions"]
    return (
        report["code"], report["device"], report["machine"]["name"], report["triton"], report["settings"],
        versions["torch"], versions["triton"],
    )  # fmt: skip


def _key(result: dict[str, Any]) -> tuple[str, int, int]:
    return result["operation"], result["tokens"], result["d_sae"]


def _load(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


def write(report: dict[str, Any], folder: Path) -> None:
    """All of `report`, in one step: a run that is killed leaves the last whole file."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "kernels.json.part"
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(folder / "kernels.json")


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.description}"), console=console)


def settings_of(
    device: str, tokens: Sequence[int], features: Sequence[int], d_model: int, k: int, dtype: str, repeats: int,
    bandwidth: float | None, peak: float | None,
) -> Settings:  # fmt: skip
    """Settings with the device's ceilings; measures them where they are neither given nor known."""
    rates = rates_of(torch.device(device), DTYPES[dtype], bandwidth, peak)
    return Settings(torch.device(device), tokens, features, d_model, k, dtype, repeats, rates)
