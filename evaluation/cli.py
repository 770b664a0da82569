"""The `tiller` command."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tiller.bench.cli import app as bench_app
from tiller.engine.config import load_config
from tiller.engine.errors import TillerError
from tiller.engine.server.settings import KEY_VARIABLE

from .boot import boot, set_defaults
from .features_cli import app as features_app
from .inputs import InputError, Messages, read_prompts
from .jsonl import write_json
from .options import ConfigOption, Op, SAEOption, SeedOption, Unit, VersionOption, were_given
from .output import system_error
from .sotopia.cli import app as sotopia_app
from .spec_options import require_feature, spec_of
from .sweep_cli import sweep
from .writable import require_writable_file, require_writable_folder

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
app.add_typer(bench_app, name="bench")
app.add_typer(features_app, name="features")
app.add_typer(sotopia_app, name="sotopia")
app.command()(sweep)
console = Console()


@app.callback()
def root(context: typer.Context, version: VersionOption = False) -> None:
    """Steer a language model by its SAE features while stock vLLM serves it."""
    if context.invoked_subcommand != "serve":  # whose engine has a process of its own, and whose log is wanted
        set_defaults()


def main() -> None:
    """Runs the command; what a user can fix is one line on stderr and exit code 2."""
    try:
        app()
    except TillerError as error:
        fail(error)
    except Exception as error:
        if _is_client_error(error):
            print(file=sys.stderr)  # the line that vLLM's progress bar is still on
            fail(error)
        sentence = _vllm_absent(error) or system_error(error)
        if sentence is None:
            raise
        fail(sentence)


def fail(error: Exception | str) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def _vllm_absent(error: Exception) -> str | None:
    if not isinstance(error, ModuleNotFoundError) or error.name != "vllm":
        return None
    from tiller.engine.compat import VLLM_ABSENT

    return VLLM_ABSENT


def _is_client_error(error: Exception) -> bool:
    """True for what vLLM says of a wrong request, such as a prompt past the context length."""
    exceptions = sys.modules.get("vllm.exceptions")
    return exceptions is not None and isinstance(error, exceptions.VLLMClientError)


@app.command()
def generate(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="One prompt.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts: one a line, or .jsonl with `prompt` or `messages`.", dir_okay=False)
    ] = None,
    config: ConfigOption = "demo",
    feature: Annotated[list[str], typer.Option(help="ID=VALUE (ID alone with --op ablate); may be repeated.")] = [],  # noqa: B006
    op: Annotated[Op, typer.Option(help="What is done to each --feature.")] = "add",
    unit: Annotated[Unit, typer.Option(help="Unit of each --feature's value.")] = "raw",
    sae: SAEOption = "default",
    profile: Annotated[str | None, typer.Option(help="A profile of the config to start from.")] = None,
    vector: Annotated[list[str], typer.Option(help="NAME=ALPHA, a vector of the config; may be repeated.")] = [],  # noqa: B006
    steering: Annotated[str | None, typer.Option(help="A whole `steering` object as JSON to start from.")] = None,
    where: Annotated[str | None, typer.Option(help="Token positions: all, prompt, generated or START:END.")] = None,
    error_term: Annotated[
        bool | None, typer.Option("--error-term/--no-error-term", help="Keep what the SAE can't reconstruct.")
    ] = None,
    chat: Annotated[
        bool | None, typer.Option("--chat/--no-chat", help="Use the chat template (default: where there is one).")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.7,
    seed: SeedOption = 0,
    no_baseline: Annotated[bool, typer.Option("--no-baseline", help="Leave the unsteered answers out.")] = False,
    output_file: Annotated[Path | None, typer.Option(help="Write the answers as JSON too.", dir_okay=False)] = None,
) -> None:
    """Answer prompts with and without steering, side by side, in one batch."""
    from tiller.engine.build_inventory import make_plan

    from .generate import generate_pairs, record_of
    from .generate_view import show_pairs

    if output_file is not None:
        require_writable_file(output_file, "--output-file")
    require_feature(feature, were_given(context, "sae", "op", "unit"))
    loaded = load_config(config)
    spec = spec_of(
        loaded, features=feature, op=op, unit=unit, sae=sae, vectors=vector, profile=profile, steering=steering,
        where=where, error_term=error_term,
    )  # fmt: skip
    if spec.idle:
        raise InputError("nothing to steer with; give --feature, --vector, --profile or --steering")
    make_plan(loaded).check(spec)
    asked = _prompts(prompt, prompts)
    with boot(loaded) as llm:
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
        pairs = generate_pairs(llm, asked, spec, params, chat, baseline=not no_baseline)
        records = [record_of(pair, spec, params, llm) for pair in pairs]
    show_pairs(console, records)
    if output_file is not None:
        write_json(records if prompts is not None else records[0], output_file)
        console.print(f"wrote {output_file}", highlight=False, soft_wrap=True)


@app.command()
def doctor(
    config: ConfigOption = "demo",
    no_hf: Annotated[
        bool, typer.Option("--no-hf", help="Leave out the comparison with Hugging Face, which loads the model again.")
    ] = False,
) -> None:
    """Say what a config holds, then prove on the running engine that steering reaches the right tensor."""
    from rich.table import Table

    from .doctor import describe_saes, describe_worker, run_checks, versions

    loaded = load_config(config)
    with boot(loaded, capture=True, enforce_eager=True) as llm:
        facts = Table("", "", show_header=False, box=None)
        for name, value in {**versions(), "model": loaded.model, **describe_worker(llm)}.items():
            facts.add_row(name, value)
        for sae in describe_saes(llm.plan):
            facts.add_row(f"SAE {sae.pop('name')}", ", ".join(f"{key} {value}" for key, value in sae.items() if value))
        for name, entry in llm.plan.vectors.items():
            facts.add_row(f"vector {name}", f"layer {entry.layer}, path {entry.path}")
        console.print(facts)
        passed = [_report_check(check.passed, check.name, check.detail) for check in run_checks(llm, not no_hf)]
    if not all(passed):
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    config: ConfigOption = "demo",
    steering_dir: Annotated[
        Path | None, typer.Option(help="Keep profiles and vectors registered at run time here.", file_okay=False)
    ] = None,
    steering_api_key: Annotated[
        str | None, typer.Option(envvar=KEY_VARIABLE, show_envvar=False, help="Key that such changes need.")
    ] = None,
) -> None:
    """Serve a config as vLLM does, with steering; every other flag is one of `vllm serve`."""
    from tiller.engine.server.launch import serve as run

    run(config, context.args, steering_dir, steering_api_key)


def _report_check(passed: bool | None, name: str, detail: str) -> bool:
    word = {True: "[green]PASS[/green]", None: "[yellow]WARN[/yellow]", False: "[red]FAIL[/red]"}[passed]
    console.print(f"{word} {name}", highlight=False)
    console.print(f"     {detail}", style="dim", highlight=False)
    return passed is True


@app.command()
def demo(
    config: ConfigOption = "demo",
    out: Annotated[Path, typer.Option(help="Folder for answers, report and picture.")] = Path("runs/demo"),
    alphas: Annotated[str | None, typer.Option(help="Comma-separated strengths; 0 is always among them.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts at every alpha.")] = 32,
    seed: SeedOption = 0,
    scenarios: Annotated[int, typer.Option(min=0, help="Scenarios whose episodes are played at the end.")] = 24,
    allow_weak: Annotated[bool, typer.Option("--allow-weak", help="Exit 0 even where the effect is missing.")] = False,
) -> None:
    """Find French and tone features, sweep their strength in one batch, then play steered episodes; report it all."""
    from .demo import run_demo
    from .sotopia.demo_run import run_episodes

    chosen = None if alphas is None else parse_alphas(alphas)
    require_writable_folder(out, "--out")
    with boot(config) as llm:
        problems = run_demo(llm, console, out, chosen, prompts, seed)
        if scenarios:
            problems += run_episodes(llm, llm.config, console, out, scenarios)
    if problems and not allow_weak:
        raise typer.Exit(1)


def parse_alphas(text: str) -> list[float]:
    """Distinct numbers, ascending, with 0 among them.

    Raises InputError where one is no number.
    """
    try:
        return sorted({0.0, *map(float, text.split(","))})
    except ValueError:
        raise InputError(f"{text!r} given; write numbers with commas between, as in 0,2,4", "--alphas") from None


def _prompts(prompt: str | None, file: Path | None) -> list[str | Messages]:
    if (prompt is None) == (file is None):
        raise InputError("give one prompt, or a file with --prompts, and not both")
    if file is not None:
        return read_prompts(file)
    assert prompt is not None
    if not prompt.strip():
        raise InputError("the prompt is empty")
    return [prompt]


if __name__ == "__main__":
    main()
