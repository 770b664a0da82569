"""The page at /steering in headless Chromium. With TILLER_SCREENSHOTS=1 it writes its pictures to docs/img."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tiller.engine import load_config

from .asking import FRENCH, QUESTION, chat, check_sums, text
from .conftest import TILLER
from .process import ServerProcess, serving

pytestmark = pytest.mark.browser
IMAGES = Path(__file__).parents[2] / "docs" / "img"
MARKUP = '<img src=x onerror="window.hacked = 1">'
WAIT = 15_000  # milliseconds: the machine may be busy
ENDED = re.compile("^(done|cut at the longest answer)$")
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LOUD = {"features": [{"id": 63, "op": "set", "value": 400.0}]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The demo with a hostile label, a vector, and a profile after which an answer does not end by itself."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("page")
    config = load_config("demo")
    body = config.model_dump(exclude_unset=True)
    body["model"] = config.resolve(config.model)
    body["engine"]["tokenizer"] = config.resolve(body["engine"]["tokenizer"])
    body["saes"]["default"]["path"] = config.resolve(body["saes"]["default"]["path"])
    body["saes"]["default"]["labels"][7] = MARKUP
    body["profiles"]["loud"] = LOUD
    body["vectors"] = {"side": {"path": str(folder / "side.safetensors"), "layer": 15}}
    save_file({"vector": torch.nn.functional.normalize(torch.ones(128), dim=0)}, folder / "side.safetensors")
    (folder / "demo.yaml").write_text(yaml.safe_dump(body))
    with serving(folder, TILLER, "serve", "--config", str(folder / "demo.yaml")) as server:
        yield server


@dataclass
class Visit:
    """A page that was opened, and what it did meanwhile."""

    page: Page
    server: ServerProcess
    console: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)  # bodies of chat completions

    def __getitem__(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def note(self, request: Any) -> None:
        self.hosts.add(urlsplit(request.url).netloc)
        if request.url.endswith("/chat/completions"):
            self.asked.append(request.post_data_json)

    def answer(self) -> None:
        """Presses Answer and waits for both answers."""
        self["#run"].click()
        self.wait_done()

    def wait_done(self) -> None:
        for arm in ("plain", "steered"):
            expect(self[f"#{arm}-state"]).to_have_text(ENDED, timeout=WAIT)


@pytest.fixture
def visit(site: ServerProcess, browser: Browser) -> Iterator[Visit]:
    with browser.new_context(viewport=LAPTOP) as context:  # type: ignore[arg-type]
        visited = open_page(context.new_page(), site)
        expect(visited[".edit"]).to_have_count(3, timeout=WAIT)
        yield visited
        assert visited.hosts == {f"127.0.0.1:{site.port}"}
        assert [line for line in visited.console if "the server responded with a status of 4" not in line] == []


def open_page(page: Page, server: ServerProcess) -> Visit:
    visited = Visit(page, server)
    page.on("console", lambda message: visited.console.append(message.text))
    page.on("pageerror", lambda error: visited.console.append(str(error)))
    page.on("request", visited.note)
    page.goto(f"{server.url}/steering")
    return visited


def test_it_loads_without_a_complaint(visit: Visit) -> None:
    expect(visit["#engine"]).to_contain_text("1,024 features after layer 15")
    expect(visit["#presets button[aria-pressed=true]"]).to_have_text("french")
    expect(visit[".edit >> nth=0"]).to_contain_text("French lines")
    expect(visit[".edit summary code"].first).to_be_visible()
    with visit.server.http() as http:
        recorded = http.get("/v1/steering/features/63").json()["max_act"]
    slider = visit[".edit >> nth=0"].locator("input[type=range]")
    ends = [float(slider.get_attribute(end) or "x") for end in ("min", "max")]
    assert ends == pytest.approx([-2 * recorded, 2 * recorded])
    assert visit.console == [] and visit.asked == []


def test_its_files_allow_nothing_from_elsewhere(site: ServerProcess) -> None:
    with site.http() as http:
        for path in ("", "/page.js", "/page.css", "/icon.svg"):
            answer = http.get(f"/steering{path}")
            policy = answer.headers["content-security-policy"]
            assert answer.status_code == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert not re.search(r"\bstyle=|\bon\w+=|<script>|<style>|https?://", http.get("/steering").text)
        for path in ("/page.py", "/..%2fpage.py", "/x.html"):
            assert http.get(f"/steering{path}").status_code == 404


def test_both_answers_come_and_the_receipt_follows(visit: Visit) -> None:
    visit.answer()
    with visit.server.openai() as client:
        asked: Any = {"messages": QUESTION, "max_tokens": 80}
        expect(visit["#plain"]).to_have_text(text(chat(client, **asked)))
        steered = chat(client, FRENCH, **asked)
    expect(visit["#steered"]).to_have_text(text(steered))
    check_sums(steered.steering)
    shown = dict(zip(visit["#counts dt"].all_inner_texts(), visit["#counts dd"].all_inner_texts(), strict=True))
    assert shown["tokens steered"] == shown["in scope"] == str(steered.steering["tokens_in_scope"])
    assert shown["spec"] == steered.steering["spec_hash"]
    assert visit["#reports tbody tr"].count() == 3


def test_tokens_are_coloured_by_the_chosen_feature(visit: Visit) -> None:
    visit.answer()
    visit["#shown"].select_option("116")
    with visit.server.openai() as client:
        spec = {**FRENCH, "read": {"features": [116], "reduce": "none"}}
        read = chat(client, spec, messages=QUESTION, max_tokens=80).steering["read"]
    tokens = visit["#heat .tokens >> nth=1"].locator(".tok")
    assert tokens.all_text_contents() == read["tokens"]
    values = [float(token.get_attribute("data-value") or "x") for token in tokens.all()]
    assert values == pytest.approx(read["features"]["116"], rel=1e-3)
    heats = [token.evaluate("token => token.style.getPropertyValue('--heat')") for token in tokens.all()]
    assert heats[values.index(max(values))] == "100%" or max(values) < float(visit["#scale"].inner_text())
    assert {heat for heat, value in zip(heats, values, strict=True) if value == 0} == {"0%"}


def test_a_slider_changes_the_request_and_asks_again(visit: Visit) -> None:
    visit.answer()
    before, num = visit.asked[-1]["steering"]["features"], len(visit.asked)
    slider = visit[".edit >> nth=1"].locator("input[type=range]")
    with visit.page.expect_request("**/chat/completions") as request:
        slider.press("ArrowRight")
    after = request.value.post_data_json["steering"]["features"]
    assert after[1]["value"] > before[1]["value"] and [after[0], after[2]] == [before[0], before[2]]
    visit.wait_done()
    assert len(visit.asked) == num + 1, "only the steered answer is asked for again"
    visit["#live"].uncheck()
    slider.press("ArrowRight")
    visit.page.wait_for_timeout(600)
    assert len(visit.asked) == num + 1
    value = visit[".edit >> nth=1"].get_by_label("as a number").input_value()
    assert f'"value":{value}}}' in visit["#code"].inner_text()


def test_operations_units_and_scope_reach_the_request(visit: Visit) -> None:
    visit.page.get_by_role("button", name="none").click()
    visit["#id"].fill("5")
    visit["#id"].press("Enter")
    card = visit[".edit"]
    card.get_by_label("Operation on #5").select_option("set")
    card.get_by_label("Unit of #5").select_option("norm")
    card.get_by_label("Value of #5 as a number").fill("0.2")
    visit["#rest summary"].click()
    visit["#where"].select_option("generated")
    visit["#skip_first"].fill("2")
    visit["#error_term"].uncheck()
    visit["#norm"].check()
    visit["#vectors button"].click()
    visit.answer()
    steering = {name: value for name, value in visit.asked[-1]["steering"].items() if name != "read"}
    assert steering == {
        "features": [{"id": 5, "op": "set", "value": 0.2, "unit": "norm"}],
        "vectors": [{"name": "side", "alpha": 0.3, "unit": "norm"}],
        "error_term": False, "norm": "preserve", "where": "generated", "skip_first": 2,
    }  # fmt: skip
    card.get_by_label("Operation on #5").select_option("ablate")
    assert '"id":5,"op":"ablate"}' in visit["#code"].inner_text()


def test_features_are_found_by_text_label_and_number(visit: Visit) -> None:
    visit["#text"].fill("Bonsoir, je vous remercie.")
    visit["#text"].press("Enter")
    first = visit[".found button >> nth=0"]
    number = first.locator("strong").inner_text()
    first.click()
    expect(visit[".edit strong"]).to_have_text(["#63", "#81", "#116", number])
    visit["#id"].fill("hostile")
    visit["#id"].press("Enter")
    expect(visit[".found button"]).to_have_count(4)
    visit[".found button >> nth=0"].click()
    expect(visit[".edit strong"].last).to_have_text("#6")
    visit["#id"].fill("12")
    visit["#id"].press("Enter")
    expect(visit[".edit strong"].last).to_have_text("#12")
    visit[".edit >> nth=5"].get_by_label("Remove #12").click()
    visit.answer()
    assert [edit["id"] for edit in visit.asked[-1]["steering"]["features"]] == [63, 81, 116, int(number[1:]), 6]


def test_markup_is_shown_as_text(visit: Visit) -> None:
    visit["#id"].fill("7")
    visit["#id"].press("Enter")
    expect(visit[".edit .label"].last).to_have_text(MARKUP)
    visit["#id"].fill("img onerror")
    visit["#id"].press("Enter")
    expect(visit[".found .label"]).to_have_text(MARKUP)
    visit["#text"].fill(f"one two {MARKUP}")
    visit["#text"].press("Enter")
    expect(visit["#found .tokens"]).to_contain_text(MARKUP)
    visit["#prompt"].fill(f"Hello {MARKUP}")
    visit.answer()
    expect(visit["#heat .tokens >> nth=0"]).to_contain_text(MARKUP)
    assert visit["img[src=x]"].count() == 0 and visit.page.evaluate("window.hacked === undefined")


@pytest.mark.parametrize(
    ("control", "given", "message"),
    [
        ("[aria-label='Value of #81 as a number']", "", "op 'add' needs a value"),
        ("#temperature", "-1", "temperature"),
        ("#max_tokens", "100000", "max"),
        ("#skip_first", "-3", "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_explained_at_its_control(visit: Visit, control: str, given: str, message: str) -> None:
    for folded in ("#sampling", "#rest"):
        visit[f"{folded} summary"].click()
    visit[control].fill(given)
    visit["#run"].click()
    expect(visit[control]).to_have_attribute("aria-invalid", "true", timeout=WAIT)
    told = visit[f"#{visit[control].get_attribute('aria-describedby')}"]
    expect(told).to_contain_text(message)
    with visit.server.http() as http:
        error = http.post("/v1/chat/completions", json=visit.asked[-1]).json()["error"]
    assert told.inner_text() in error["message"]
    visit[control].fill("2")
    visit.answer()
    expect(visit[".error"]).to_have_count(0)


def test_a_wrong_number_or_text_is_explained_where_it_stands(visit: Visit) -> None:
    for control, given, message in (
        ("#id", "1024", "feature 1024 is out of range; this SAE has 0 to 1023"),
        ("#id", "", "Input should be a valid integer"),
        ("#text", "", "String should have at least 1 character"),
        ("#text", "word " * 1500, "tokens given, 1 to 1023 are allowed"),
    ):
        visit[control].fill(given)
        visit[control].press("Enter")
        expect(visit[".error"]).to_contain_text(message, timeout=WAIT)
        assert visit[control].get_attribute("aria-describedby") == visit[".error"].get_attribute("id")
        visit[control].fill("5")
        visit[control].press("Enter")
        expect(visit[".error"]).to_have_count(0)


def tab_to(visit: Visit, selector: str) -> None:
    """Presses Tab until `selector` has the focus; everything on the way shows that it has it."""
    for _ in range(80):
        visit.page.keyboard.press("Tab")
        style = visit.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        focused = visit.page.evaluate("() => document.activeElement.outerHTML.slice(0, 80)")
        assert style != "none" or focused.startswith("<body"), focused
        if visit.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is out of reach")


def test_by_keyboard_alone(visit: Visit) -> None:
    keyboard = visit.page.keyboard
    tab_to(visit, "#prompt")
    keyboard.press("Control+a")
    keyboard.type("Good morning, how are you?")
    tab_to(visit, "#presets button:nth-child(3)")
    keyboard.press("Enter")
    expect(visit["#presets button[aria-pressed=true]"]).to_have_text("hostile")
    tab_to(visit, ".edit input[type=range]")
    keyboard.press("ArrowLeft")
    keyboard.press("Control+Enter")
    visit.wait_done()
    assert visit.asked[0]["messages"][0]["content"] == "Good morning, how are you?"
    tab_to(visit, "#heat .tokens")
    keyboard.press("ArrowRight")
    expect(visit["#token"]).to_contain_text("most active are")
    tab_to(visit, "#token button")
    tab_to(visit, "#as-python")
    keyboard.press("Space")
    expect(visit["#code"]).to_contain_text("import openai")


def test_answers_stream_and_escape_stops_them(visit: Visit) -> None:
    visit["#sampling summary"].click()
    visit["#max_tokens"].fill("900")
    visit.page.get_by_role("button", name="loud").click()
    visit["#run"].click()
    expect(visit["#stop"]).to_be_enabled()
    expect(visit["#steered"]).not_to_be_empty(timeout=WAIT)
    start = visit["#steered"].inner_text()
    expect(visit["#steered"]).not_to_have_text(start)  # it grows while it is on its way
    visit.page.keyboard.press("Escape")
    expect(visit["#steered-state"]).to_have_text("stopped")
    expect(visit["#stop"]).to_be_disabled()
    with visit.server.http() as http:
        for _ in range(100):
            rows = re.search(r"^tiller_rows_in_use (\S+)", http.get("/metrics").text, re.MULTILINE)
            if rows is not None and float(rows[1]) == 0:
                break
        else:
            raise AssertionError("the server still answers")
    visit["#max_tokens"].fill("5")
    visit["#run"].click()
    expect(visit["#steered-state"]).to_have_text("cut at the longest answer", timeout=WAIT)


def test_the_copied_request_runs_as_it_is(visit: Visit, tmp_path: Path) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit["#prompt"].fill("Don't you think it's \"cheap\"?\nI do; $HOME `ls` \\n é.")
    visit["#norm"].evaluate("box => box.click()")
    visit.answer()
    answers = []
    for language in ("curl", "python"):
        visit[f"#as-{language}"].click()
        visit["#copy-it"].click()
        expect(visit["#copied"]).to_have_text("copied")
        copied = visit.page.evaluate("navigator.clipboard.readText()")
        command = ["bash", "-c", copied] if language == "curl" else [sys.executable, "-c", copied]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        answers.append(json.loads(ran)["choices"][0]["message"]["content"] if language == "curl" else ran)
    assert answers[0] == visit["#steered"].text_content()
    assert answers[1].startswith(answers[0] + "\n") and "'tokens_steered'" in answers[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_looks(demo: ServerProcess, browser: Browser, scheme: Any, size: Any) -> None:
    """No control, text or contrast that WCAG 2.1 AA forbids, nothing wider than the screen."""
    with browser.new_context(viewport=size, color_scheme=scheme) as context:
        visit = open_page(context.new_page(), demo)
        expect(visit[".edit"]).to_have_count(3, timeout=WAIT)
        visit["#text-form button"].click()
        expect(visit[".found li"].first).to_be_visible(timeout=WAIT)
        visit.answer()
        picture(visit, f"steering-{'phone' if size is PHONE else 'laptop'}-{scheme}")
        visit["#shown"].select_option("116")
        visit["#heat .tok"].first.click()
        visit.page.evaluate("() => document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        visit["#id"].fill("9999")
        visit["#id"].press("Enter")
        expect(visit[".error"]).to_be_visible()
        width = visit.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1] == size["width"]
        form = visit["#key-form"].bounding_box()
        assert form is not None and form["x"] >= 0 and form["x"] + form["width"] <= size["width"]
        tags = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
        report = Axe().run(visit.page, options=tags)
        assert report.violations_count == 0, report.generate_report()


def picture(visit: Visit, name: str) -> None:
    if os.environ.get("TILLER_SCREENSHOTS"):
        visit.page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
        visit.page.mouse.move(0, 0)
        if name.startswith("steering-laptop"):
            visit.page.set_viewport_size({"width": 1280, "height": 1120})
        IMAGES.mkdir(parents=True, exist_ok=True)
        visit.page.screenshot(path=IMAGES / f"{name}.png")
        assert (IMAGES / f"{name}.png").stat().st_size < 300_000


def test_the_key_stays_in_memory(browser: Browser, tmp_path: Path) -> None:
    key = "s3cret-key"
    with serving(tmp_path, TILLER, "serve", "--config", "demo", "--api-key", key) as server:
        with browser.new_context() as context:
            visit = open_page(context.new_page(), server)
            expect(visit["#key"]).to_have_attribute("aria-invalid", "true", timeout=WAIT)
            visit["#key"].fill("wrong")
            visit["#key"].press("Enter")
            expect(visit[".error"]).to_contain_text("API key")
            visit["#key"].fill(key)
            visit["#key"].press("Enter")
            expect(visit[".edit"]).to_have_count(3)
            visit.answer()
            kept = visit.page.evaluate(
                "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
            )
            assert kept == '[{},{},""]' and visit.page.url == f"{server.url}/steering"
            code = visit["#code"].inner_text()
            assert key not in code and "$OPENAI_API_KEY" in code
            ran = subprocess.run(
                ["bash", "-c", code], capture_output=True, text=True, env={**os.environ, "OPENAI_API_KEY": key}
            )
            assert json.loads(ran.stdout)["choices"][0]["message"]["content"] == visit["#steered"].text_content()
        assert key not in server.log
        assert httpx.get(f"{server.url}/v1/steering/features/1").status_code == 401
