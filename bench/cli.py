"""`tiller bench`: what steering costs. Needs neither a network nor, for the kernels, vLLM."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from tiller.engine.errors import TillerError

from .number_list import numbers

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Measure what steering costs on this machine."
)
console = Console()

OutOption = Annotated[Path, typer.Option("--out", help="Results go to OUT/<machine>/.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Measure again what is already there.")]
RESULTS = Path("bench/results")
ENVIRONMENTS = Path("runs/rivals")


def _require(out: Path | None, vllm: bool = True) -> None:
    """Raises TillerError where results can't be written to `out`, or vLLM is needed and absent."""
    from tiller.evaluation.writable import require_writable_folder

    if out is not None:
        require_writable_folder(out, "--out")
    if vllm:
        from tiller.engine import compat

        compat.require_vllm()


@app.callback()
def _end_children_too() -> None:
    """Measure what steering costs on this machine."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # engines are processes that have to be ended


@app.command()
def throughput(
    model: Annotated[str, typer.Option(help="A config's name or YAML file, or a shape without weights.")] = "demo",
    features: Annotated[int | None, typer.Option(min=2, help="Features of the SAE made up for a shape.")] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Its active features at a token.")] = None,
    activation: Annotated[Literal["topk", "threshold"] | None, typer.Option(help="Its activation.")] = None,
    arms: Annotated[str | None, typer.Option(help="Only these, and what they are held against: add,edit,...")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count; one more warms up.")] = 5,
    num_requests: Annotated[str, typer.Option(help="Requests at once; batch sizes, with commas between.")] = "256",
    prompt_len: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=2, help="Tokens of an answer.")] = 32,
    eager: Annotated[bool, typer.Option("--eager", help="Without torch.compile.")] = False,
    fresh: FreshOption = False,
    out: OutOption = RESULTS,
) -> None:
    """Output tokens a second of every kind of steering against vLLM without the plugin."""
    from .prompts import Lengths
    from .throughput import Settings, measure

    _require(out)
    batches = list(numbers(num_requests, "--num-requests"))
    lengths = Lengths(prompt_len, max_tokens)
    measure(console, Settings(model, features, k, activation, batches, lengths, rounds, eager), arms, fresh, out)


@app.command()
def rivals(
    model: Annotated[str, typer.Option(help="A config's name or YAML file, or a shape without weights.")] = "demo",
    only: Annotated[str | None, typer.Option(help="Only these, with commas between.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count; one more warms up.")] = 5,
    num_requests: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 64,
    prompt_len: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=2, help="Tokens of an answer.")] = 32,
    environments: Annotated[Path, typer.Option(help="Folder that each rival's environment is made in.")] = ENVIRONMENTS,
    fresh: FreshOption = False,
    out: OutOption = RESULTS,
) -> None:
    """Other ways to steer, each through its own API in an environment of its own, beside vLLM and Tiller.

    Makes what is missing of the environments, which downloads gigabytes.
    """
    from .prompts import Lengths
    from .rival_run import Settings, measure_rivals

    _require(out)
    settings = Settings(model, rounds, num_requests, Lengths(prompt_len, max_tokens))
    measure_rivals(console, settings, only, environments, fresh, out)


@app.command()
def kernels(
    device: Annotated[Literal["cuda", "cpu"] | None, typer.Option(help="Default: cuda where there is one.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Batch sizes, with commas between.")] = None,
    features: Annotated[str | None, typer.Option(help="Dictionary sizes, with commas between.")] = None,
    d_model: Annotated[int | None, typer.Option(min=1, help="Width of the residual stream.")] = None,
    k: Annotated[int, typer.Option(min=1, help="Active features of a token.")] = 64,
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"] | None, typer.Option(help="Of the weights and the stream.")
    ] = None,
    bandwidth: Annotated[float | None, typer.Option(min=0.0, help="The device's TB/s, for the floor.")] = None,
    peak: Annotated[float | None, typer.Option(min=0.0, help="The device's TFLOP/s, for the floor.")] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Most samples of each contender at a shape.")] = 30,
    fresh: FreshOption = False,
    out: OutOption = RESULTS,
) -> None:
    """Time of the steering op, kernel by kernel, against its roofline and against torch."""
    from .kernel_run import run_kernels

    _require(out, vllm=False)
    run_kernels(console, device, tokens, features, d_model, k, dtype, bandwidth, peak, repeats, fresh, out)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    config: Annotated[str, typer.Option(help="A config's name or YAML file, or a shape without weights.")] = "demo",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count; one more warms up.")] = 5,
    concurrency: Annotated[str, typer.Option(help="Requests at once of the closed loops.")] = "1,8,64",
    rate: Annotated[float, typer.Option(min=0.0, help="Requests a second of the open loop; 0 leaves it out.")] = 10.0,
    prompt_len: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=2, help="Tokens of an answer.")] = 32,
    scale: Annotated[float, typer.Option(min=0.01, help="Times the usual number of requests.")] = 1.0,
    out: OutOption = RESULTS,
) -> None:
    """What a server's clients notice: Tiller against plain `vllm serve` under vLLM's own load generator.

    Every other flag is one of `vllm serve` and goes to both servers.
    """
    from .serve import measure_serving

    _require(out)
    depths = numbers(concurrency, "--concurrency")
    measure_serving(console, config, rounds, rate, prompt_len, max_tokens, context.args, out, scale, depths)


@app.command()
def episodes(
    config: Annotated[str, typer.Option(help="A YAML file, or the name of a config that ships.")] = "demo",
    in_flight: Annotated[str, typer.Option(help="Episodes at once, with commas between.")] = "1,8,64",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count; one more warms up.")] = 3,
    out: OutOption = RESULTS,
) -> None:
    """What the runner of Sotopia episodes costs, against the engine alone on the same prompts."""
    from .episodes import measure

    _require(out)
    measure(console, config, numbers(in_flight, "--in-flight"), rounds, out)


@app.command()
def report(
    path: Annotated[list[Path] | None, typer.Argument(help="JSON files, or folders; default: this machine's.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.md and pictures; default: the first PATH.")
    ] = None,
    picture: Annotated[Literal["png", "svg"], typer.Option("--format", help="Of the pictures.")] = "png",
) -> None:
    """Any set of results as tables, here and in Markdown, and as pictures."""
    from .machine import machine
    from .report import write_report

    _require(out, vllm=False)
    write_report(console, path or [RESULTS / machine()["name"]], out, picture)


def main() -> None:
    """Runs the commands where the rest of `tiller` is not installed; what a user can fix is one line and exit code 2."""
    try:
        app()
    except TillerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
