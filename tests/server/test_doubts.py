"""An SAE that may be of another model: the server starts, and says so in its log, in GET /v1/steering and on its page."""

from collections.abc import Iterator

import pytest
import yaml
from playwright.sync_api import Browser, expect

from tiller.engine import load_config

from .conftest import TILLER
from .process import ServerProcess, serving

DOUBT = "it was trained on tiller-demo, which may not be qwen-chat"


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The demo, its model under a name that its SAE's files don't know."""
    folder = tmp_path_factory.mktemp("doubtful")
    config = load_config("demo")
    (folder / "qwen-chat").symlink_to(config.resolve(config.model))
    body = config.model_dump(exclude_unset=True)
    body["model"] = "qwen-chat"
    body["engine"]["tokenizer"] = config.resolve(body["engine"]["tokenizer"])
    body["saes"]["default"]["path"] = config.resolve(body["saes"]["default"]["path"])
    (folder / "config.yaml").write_text(yaml.safe_dump(body))
    with serving(folder, TILLER, "serve", "--config", str(folder / "config.yaml")) as server:
        yield server


def test_the_log_and_the_api_name_it(doubtful: ServerProcess) -> None:
    assert f"warning: saes.default: {DOUBT}" in doubtful.log
    with doubtful.http() as http:
        sae = http.get("/v1/steering").json()["saes"]["default"]
    assert (sae["site"], sae["layer"], sae["source"]) == ("resid_post", 15, "file")
    assert [doubt.startswith(DOUBT) for doubt in sae["doubts"]] == [True]


@pytest.mark.browser
def test_the_page_shows_it(doubtful: ServerProcess, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{doubtful.url}/steering")
        expect(page.locator("#doubts")).to_contain_text(f"SAE default: {DOUBT}")
        expect(page.locator("#banner")).to_be_hidden()
