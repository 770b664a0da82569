"""The command line from outside: what there is, what the docs say of it, and how it fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from tiller.evaluation import cli
from tiller.evaluation.inputs import InputError

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
FROZEN = {
    "bench episodes": "--config --in-flight --out --rounds",
    "bench kernels": "--bandwidth --d-model --device --dtype --features --fresh --k --out --peak --repeats --tokens",
    "bench report": "--format --out",
    "bench rivals": "--environments --fresh --max-tokens --model --num-requests --only --out --prompt-len --rounds",
    "bench serve": "--concurrency --config --max-tokens --out --prompt-len --rate --rounds --scale",
    "bench throughput": "--activation --arms --eager --features --fresh --k --max-tokens --model --num-requests --out "
    "--prompt-len --rounds",
    "demo": "--alphas --allow-weak --config --out --prompts --scenarios --seed",
    "doctor": "--config --no-hf",
    "features calibrate": "--config --sae --skip-first --texts",
    "features correlate": "--arm --config --episodes --limit --min-support --out --pool --sae --skip-first",
    "features find": "--config --label --limit --negative --out --positive --positive-value --sae --skip-first --texts",
    "features list": "--config --limit --sae --sort",
    "features show": "--config --sae --skip-first --texts --top",
    "serve": "--config --steering-api-key --steering-dir",
    "sotopia run": "--agent --arm --config --data --dry-run --endpoints --episode-logs --in-flight --max-turns --out "
    "--partner --ray --retry-failed --scenarios --seat --seeds",
    "sotopia list": "--data --show-all",
    "sotopia turn": "--config --data --error-term --feature --no-error-term --op --output-file --profile --record-idx --sae "
    "--seed --steering --turn-idx --unit --vector --where",
    "sotopia report": "--out",
    "sotopia score": "--config --endpoint --judge --out --repeats",
    "sweep": "--alphas --config --dry-run --endpoints --feature --judge --max-turns --norm --out --profile --prompts --ray "
    "--retry-failed --sae --scenarios --seat --seeds --unit --vector --where",
    "generate": "--chat --config --error-term --feature --max-tokens --no-baseline --no-chat --no-error-term --op "
    "--output-file --profile --prompts --sae --seed --steering --temperature --unit --vector --where",
}


def commands() -> dict[str, Any]:
    """Every command by its full name."""
    found = {}
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {f"{name} {sub}": c for sub, c in inner.items()} if inner else {name: command}
    return found


def options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option" and p.name != "help"]


def section(name: str) -> str:
    """What docs/cli.md says of a command."""
    return DOCS.split(f"\n## tiller {name}\n", 1)[1].split("\n## ", 1)[0]


def test_commands_and_options_are_frozen() -> None:
    """A knob more belongs into a config; a command more belongs into this list."""
    found = {
        name: " ".join(sorted(o for p in options(c) for o in [*p.opts, *p.secondary_opts]))
        for name, c in commands().items()
    }
    assert found == {name: " ".join(sorted(text.split())) for name, text in FROZEN.items()}


def test_options_before_the_command_are_frozen() -> None:
    root = typer.main.get_command(cli.app)
    assert {flag for option in options(root) for flag in option.opts} == {"--version"}
    assert "`tiller --version`" in DOCS


@pytest.mark.parametrize("name", FROZEN)
def test_help_and_docs_say_everything(name: str) -> None:
    command = commands()[name]
    assert command.help
    text = section(name)
    for option in options(command):
        assert option.help, option.name
        for flag in [*option.opts, *option.secondary_opts]:
            assert f"`{flag}`" in text, flag


def test_docs_name_only_what_there_is() -> None:
    titles = re.findall(r"^## tiller (.+)$", DOCS, flags=re.MULTILINE)
    assert sorted(titles) == sorted(FROZEN)
    for name in titles:
        known = {flag for p in options(commands()[name]) for flag in [*p.opts, *p.secondary_opts]}
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section(name))) <= known, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "hi", "--config", "nope"], "error: no config 'nope'; give a YAML file or one of: "),
        (["generate", "hi", "--feature", "x=1"], "error: --feature x=1: a feature is named by its number"),
        (["generate", "hi"], "error: nothing to steer with; give --feature"),
        (["generate", "--feature", "3=1"], "error: give one prompt, or a file with --prompts"),
        (["generate", " ", "--feature", "3=1"], "error: the prompt is empty"),
        (["generate", "hi", "--feature", "96=1"], "error: steering.features[0].id: feature 96 is out of range"),
        (["generate", "hi", "--feature", "3=1", "--unit", "max_act"], "error: steering.features[0].unit: no maximum"),
        (
            ["generate", "hi", "--profile", "strong", "--sae", "other"],
            "error: --sae: it is about --feature, and none is ",
        ),
        (
            ["sotopia", "turn", "--profile", "strong", "--sae", "other"],
            "error: --sae: it is about --feature, and none is ",
        ),
        (
            ["sweep", "--profile", "strong", "--sae", "other", "--out", "x", "--scenarios", "1"],
            "error: --sae: it is about --feature, and none is ",
        ),
        (["generate", "hi", "--profile", "strong", "--op", "add"], "error: --op: it is about --feature, and none is "),
        (
            ["generate", "hi", "--steering", "{}", "--unit", "norm"],
            "error: --unit: it is about --feature, and none is ",
        ),
        (["generate", "hi", "--profile", "cold"], "error: profile: unknown profile 'cold'; this config has: strong"),
        (["generate", "--prompts", "none.txt", "--feature", "3=1"], "error: none.txt: can't be read"),
        (["features", "show", "96"], "error: feature: feature 96 is out of range; this SAE has 0 to 95"),
        (["features", "list", "--sae", "x"], "error: sae: unknown SAE 'x'; this config has: default"),
        (["features", "list", "--sort", "density"], "error: --sort: no density is recorded"),
        (["features", "find"], "error: give --positive and --negative, or --texts with --label"),
        (["demo", "--alphas", "1,x"], "error: --alphas: '1,x' given; write numbers"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tiny: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [] if "--config" in arguments else ["--config", str(tiny / "config.yaml")]
    monkeypatch.setattr(sys, "argv", ["tiller", *arguments, *own])
    monkeypatch.setattr(cli, "set_defaults", lambda: None)  # leaves this process's environment alone
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(message)


def test_alphas_always_hold_zero() -> None:
    assert cli.parse_alphas("4,-2,4") == [-2.0, 0.0, 4.0]
    with pytest.raises(InputError):
        cli.parse_alphas("")


def run_tiller(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "tiller.evaluation.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_generate_from_the_shell(tiny: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "deep" / "out.json"
    prompts.write_text('{"prompt": "t5 t6 t9"}\n{"prompt": "t8"}\n')
    done = run_tiller(
        "generate", "--prompts", str(prompts), "--config", str(tiny / "config.yaml"), "--profile", "strong",
        "--max-tokens", "5", "--output-file", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unsteered" in done.stdout and "receipt: 7 tokens in scope = 7 steered + 0 cached" in done.stdout
    records = json.loads(out.read_text())
    assert [record["prompt"] for record in records] == ["t5 t6 t9", "t8"]
    assert records[0]["receipt"]["features"][0]["mean_after"] == 30.0


def test_a_prompt_too_long_is_one_line(tiny: Path) -> None:
    done = run_tiller("generate", "t5 " * 400, "--config", str(tiny / "config.yaml"), "--feature", "3=1")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "256" in line
    assert "Traceback" not in done.stderr


def test_shipped_demo_profiles_are_there() -> None:
    body = yaml.safe_load((Path(__file__).parents[2] / "configs" / "demo.yaml").read_text())
    assert set(body["profiles"]) == {"french", "warm", "hostile"}
