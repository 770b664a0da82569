"""What the README shows, runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tiller.engine import parse_spec
from tiller.engine.architectures import ARCHITECTURES
from tiller.engine.config import Config

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[number]


def test_first_steered_request(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(block("python"))
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    plain, steered = [line for line in run.stdout.splitlines() if line.endswith("None") or "Receipt(" in line]
    assert plain.endswith(" None") and "tokens_steered" in steered


def test_request_is_what_the_parser_takes() -> None:
    spec = parse_spec(json.loads(block("json")))
    assert spec.features[0].id == 92506 and spec.vectors[0].alpha == 122.0


def test_config_is_what_the_loader_takes() -> None:
    import yaml

    config = Config(**yaml.safe_load(block("yaml")))
    assert config.saes["default"].layer == 15


def test_every_family_is_named() -> None:
    names = {re.split(r"\d|For|Moe|LMHead", name)[0] for name in ARCHITECTURES}
    prose = README.lower().replace("-", "")
    assert not [name for name in names if name.lower() not in prose]
