"""One server of the demo config for all tests here; those that end a server start their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from .process import ServerProcess, serving

TILLER = "tiller.evaluation.cli"
GRAMMAR = ("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}')


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The --steering-dir of the demo server."""
    return tmp_path_factory.mktemp("steering")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Iterator[ServerProcess]:
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    flags = ["--block-size", "32", *tools, *GRAMMAR]
    own = ["--steering-dir", str(kept)]
    with serving(tmp_path_factory.mktemp("demo"), TILLER, "serve", "--config", "demo", *own, *flags) as server:
        yield server


@pytest.fixture(scope="session")
def client(demo: ServerProcess):  # type: ignore[no-untyped-def]
    return demo.openai()


@pytest.fixture(scope="session")
def http(demo: ServerProcess):  # type: ignore[no-untyped-def]
    with demo.http() as own:
        yield own


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own sandbox refuses root
    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags) as chromium:
            yield chromium
