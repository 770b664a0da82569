"""What is installed is what is here, and each part imports only what it may."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = ["bench", "configs", "engine", "evaluation", "kernels"]

# Names that vLLM documents for users; whatever else is imported from it may move in any release.
PUBLIC_VLLM = {"LLM", "SamplingParams", "ModelRegistry"} | {
    f"sampling_params.{n}" for n in ("RequestOutputKind", "StructuredOutputsParams")
}


def sources(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imports(file):
    """Dotted names that `file` imports anywhere, relative ones made absolute under tiller."""
    package = ["tiller", *file.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(name, module):
    return name == module or name.startswith(f"{module}.")


def test_listed_packages_are_the_folders_with_code():
    found = {f"tiller.{'.'.join(f.parent.relative_to(ROOT).parts)}" for folder in FOLDERS for f in sources(folder)}
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_every_package_is_mapped_to_its_folder():
    mapped = SETUPTOOLS["package-dir"]
    for package in SETUPTOOLS["packages"]:
        top = next(name for name in mapped if within(package, name))
        folder = mapped[top] + package.removeprefix(top).replace(".", "/")
        assert folder == package.removeprefix("tiller.").replace(".", "/") and (ROOT / folder).is_dir()


def test_kernels_is_no_regular_package():
    """`kernels` is Hugging Face's package; transformers would import ours in its place."""
    assert not (ROOT / "kernels/__init__.py").exists()


def test_public_names_are_sorted_and_there():
    import tiller.engine as engine

    assert engine.__all__ == sorted(engine.__all__)
    assert all(getattr(engine, name) is not None for name in engine.__all__)
    own = {
        name for name, value in vars(engine).items() if getattr(value, "__module__", "").startswith("tiller.engine.")
    }
    assert {name for name in own if not name.startswith("_")} <= set(engine.__all__)


FORBIDDEN = [
    # files, what they may not import, why
    ("kernels", "tiller.engine", "ops know nothing about requests"),
    ("kernels", "tiller.evaluation", "ops know nothing about requests"),
    ("kernels", "vllm", "ops run without vLLM"),
    ("kernels", "tiller.bench", "ops know nothing about requests"),
    ("engine", "tiller.evaluation", "the engine serves without it"),
    ("engine", "tiller.bench", "the engine serves without it"),
    ("engine/spec.py", "torch", "a client may build specs"),
    ("engine/spec.py", "vllm", "a client may build specs"),
    ("engine/errors.py", "torch", "a client may catch errors"),
    ("engine/errors.py", "vllm", "a client may catch errors"),
]


@pytest.mark.parametrize(("place", "module", "reason"), FORBIDDEN, ids=[f"{a} {b}" for a, b, _ in FORBIDDEN])
def test_parts_know_only_what_they_may(place, module, reason):
    files = sources(place) if (ROOT / place).is_dir() else [ROOT / place]
    assert files
    assert {str(f.relative_to(ROOT)): n for f in files for n in imports(f) if within(n, module)} == {}, reason


def test_private_vllm_names_stay_in_one_file():
    found = {
        str(file.relative_to(ROOT)): name
        for folder in FOLDERS
        for file in sources(folder)
        for name in imports(file)
        if within(name, "vllm") and name.removeprefix("vllm.") not in PUBLIC_VLLM
    }
    assert set(found) == {"engine/compat.py"}


def test_types_are_checked_across_folders(tmp_path):
    """An editable install's import hook is invisible to mypy, which then takes every name of another folder for Any."""
    (tmp_path / "planted.py").write_text(
        "from tiller.engine.errors import TillerError\n\nTillerError(1, 2, 3, nonsense=4)\n"
    )
    checked = subprocess.run([ROOT / ".ci/types", tmp_path / "planted.py"], capture_output=True, text=True)
    assert checked.returncode == 1 and 'Unexpected keyword argument "nonsense"' in checked.stdout, checked.stdout


def in_front(file):
    """True for a file of the engine that runs in a front end or the scheduler."""
    return file.relative_to(ROOT).parts[:2] != ("engine", "worker")


def test_no_front_end_imports_what_runs_in_a_worker():
    """vLLM's front ends and its scheduler need neither kernels nor Triton."""
    files = [file for file in sources("engine") if in_front(file)]
    found = {str(f.relative_to(ROOT)): n for f in files for n in imports(f) if within(n, "tiller.engine.worker")}
    assert found == {}


def test_importing_the_engine_does_not_import_vllm():
    """vLLM reads environment variables when it is imported, which a caller must still be able to set."""
    code = "import sys, tiller.engine; print('vllm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert result.stdout.strip() == "False"
