"""The README's section on serving runs as written, and docs/server.md names what there is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics import MetricWrapperBase

from tiller.engine.server import metrics
from tiller.engine.server.settings import DIR_VARIABLE, KEY_VARIABLE

from .process import ServerProcess

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().split("\n## Serve\n", 1)[1].split("\n## ", 1)[0]
DOCS = (ROOT / "docs" / "server.md").read_text()
ADDRESS = "localhost:8000"


def blocks(language: str, text: str = SECTION) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def curl(demo: ServerProcess, block: str) -> list[dict]:
    """The answers to the commands of a block, each of which prints one JSON object."""
    script = block.replace(ADDRESS, f"127.0.0.1:{demo.port}")
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found, rest = [], done.stdout.strip()
    while rest:
        body, end = json.JSONDecoder().raw_decode(rest)
        found.append(body)
        rest = rest[end:].lstrip()
    return found


def test_curl_examples(demo: ServerProcess) -> None:
    first, second = blocks("bash")
    (answer,) = curl(demo, first)
    assert answer["steering"]["tokens_steered"] > 0 and answer["choices"][0]["message"]["content"]
    can, made, text, gone = curl(demo, second)
    assert can["object"] == "steering" and made["name"] == "gallic" and gone["deleted"]
    assert text["steering"]["features"][0]["id"] == 63 and text["usage"]["completion_tokens"] <= 64


def test_python_example(demo: ServerProcess, tmp_path: Path) -> None:
    (block,) = blocks("python")
    script = tmp_path / "example.py"
    script.write_text(block.replace(ADDRESS, f"127.0.0.1:{demo.port}"))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 and done.stdout.splitlines()[0].split()[-1].isdecimal()


@pytest.mark.parametrize("index", range(len(blocks("bash", DOCS))))
def test_examples_of_the_contract(demo: ServerProcess, index: int, tmp_path: Path) -> None:
    for body in curl(
        demo, blocks("bash", DOCS)[index].replace("/tmp/side.safetensors", str(tmp_path / "v.safetensors"))
    ):
        assert "error" not in body, body


def test_the_contract_names_every_route_metric_and_limit(http: httpx.Client) -> None:
    paths = [path for path in http.get("/openapi.json").json()["paths"] if path.startswith("/v1/steering")]
    own = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    samples = [described.name for metric in own for described in metric.describe()]
    limits = http.get("/v1/steering").json()["limits"]
    words = [*paths, *samples, *limits, DIR_VARIABLE, KEY_VARIABLE]
    assert [word for word in words if word not in DOCS] == []
