"""Engines run inside the test process: the same scheduler, worker and runner as in production, two processes fewer to
start, and the tests can step them. tests/engine/test_processes.py covers the processes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from . import tiny  # noqa: E402  (vLLM reads the variables above when it is imported)
from .oracle import Oracle  # noqa: E402

RUNNER = "v2" if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1" else "v1"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny random model of the given architecture, made once."""
    root = tmp_path_factory.mktemp("models")

    def get(architecture: str) -> Path:
        folder = root / architecture
        if not folder.exists():
            tiny.write_model(folder, architecture)
        return folder

    return get


@pytest.fixture(scope="session")
def saes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One small SAE of each activation at layer 2 and a second TopK at layer 1, as SteeredLLM takes them."""
    root = tmp_path_factory.mktemp("saes")
    return tiny.write_saes(root)


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_vectors(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="session")
def engines(
    models: Callable[[str], Path], saes: dict[str, dict[str, Any]], vectors: dict[str, str]
) -> Iterator[Callable[..., Any]]:
    """`engines(architecture, **vllm_args)`: a SteeredLLM; asking for another one ends the last."""
    from tiller.engine import SteeredLLM

    running: dict[str, Any] = {}

    def get(architecture: str = "Qwen2ForCausalLM", **arguments: Any) -> SteeredLLM:
        key = f"{architecture} {sorted(arguments.items())}"
        if key not in running:
            _end(running)
            own = {"saes": saes, "vectors": vectors, **tiny.ENGINE, **arguments}
            running[key] = SteeredLLM(str(models(architecture)), **own)
            assert running[key].workers[0]["runner"] == RUNNER
        return running[key]

    yield get
    _end(running)


@pytest.fixture(scope="session")
def oracles(models: Callable[[str], Path], saes: Any, vectors: Any) -> Callable[[str], Any]:
    """`oracles(architecture)`: Hugging Face's model with DESIGN's formulas in a hook."""
    made: dict[str, Oracle] = {}

    def get(architecture: str = "Qwen2ForCausalLM") -> Oracle:
        if architecture not in made:
            made[architecture] = Oracle(models(architecture), saes, vectors, tiny.LAYER)
        return made[architecture]

    return get


def _end(running: dict[str, Any]) -> None:
    for llm in running.values():
        llm.shutdown()
    running.clear()
