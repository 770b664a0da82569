"""`tiller sotopia run` as one command, with an endpoint in place of an engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tiller.engine.config import load_config
from tiller.evaluation import cli
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.episode_record import Outcome, TurnRecord
from tiller.evaluation.sotopia.export import EPISODES
from tiller.evaluation.sotopia.progress import Progress
from tiller.evaluation.sotopia.progress_view import duration, progress_view
from tiller.evaluation.sotopia.settings import EndpointConfig
from tiller.evaluation.sotopia.speakers import choose_voices

from .stub_process import Stub, stubbed

DEMO = load_config("demo")


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with stubbed() as running:
        yield running


def sotopia_run(out: Path, *arguments: str, stub: Stub | None = None) -> Any:
    speakers = [] if stub is None else ["--agent", f"one@{stub.url}/v1", "--partner", f"two@{stub.url}/v1"]
    return CliRunner().invoke(cli.app, ["sotopia", "run", "--out", str(out), *speakers, *arguments])


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / EPISODES).read_text("utf-8").splitlines()]


def test_a_run_writes_a_line_for_each_scenario_and_arm(stub: Stub, tmp_path: Path) -> None:
    done = sotopia_run(tmp_path, "--scenarios", "3", "--max-turns", "4", "--episode-logs", stub=stub)
    assert done.exit_code == 0, done.output
    assert len(lines(tmp_path)) == 3 * (1 + len(DEMO.profiles))
    assert {line["experiment_model_name_pairs"][1] for line in lines(tmp_path)} == {"one"}
    assert len(list((tmp_path / "EpisodeLog").glob("*.json"))) == 12
    for word in ("unsteered", "french", "hostile", "warm", "max_turns 3", "tokens/s", "tiller sotopia score --out"):
        assert word in " ".join(done.output.split())
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["episodes_done"], status["episodes_total"], status["turns"]) == ("done", 12, 12, 48)


def test_the_second_seat_is_played_by_the_agent(stub: Stub, tmp_path: Path) -> None:
    arguments = ["--scenarios", "2", "--max-turns", "2", "--seat", "each", "--arm", "warm", "--seeds", "2"]
    assert sotopia_run(tmp_path, *arguments, stub=stub).exit_code == 0
    models = {(line["seat"], *line["experiment_model_name_pairs"][1:]) for line in lines(tmp_path)}
    assert models == {("first", "one", "two"), ("second", "two", "one")}
    assert len(lines(tmp_path)) == 2 * 2 * 2
    for line in lines(tmp_path):
        assert [turn["receipt"] is not None for turn in line["turns"]] == [
            line["seat"] == "first",
            line["seat"] == "second",
        ]


def test_a_run_in_which_all_fails_exits_with_1(tmp_path: Path) -> None:
    with stubbed("--no-receipts") as unsteering:
        done = sotopia_run(tmp_path, "--arm", "warm", "--in-flight", "4", stub=unsteering)
    assert done.exit_code == 1
    assert "20 episodes in a row failed, the last by refused" in " ".join(done.output.split())
    assert {line["cause"] for line in lines(tmp_path)} == {"refused"}


def test_a_dry_run_starts_nothing(tmp_path: Path) -> None:
    done = sotopia_run(tmp_path / "run", "--scenarios", "5", "--seeds", "2", "--max-turns", "6", "--dry-run")
    assert done.exit_code == 0
    assert "40: 5 scenes x 4 arms x 1 seat x 2 seeds" in done.output
    assert "at most 240, 256 episodes in flight" in done.output
    assert not (tmp_path / "run").exists()


def test_voices_are_told_by_options() -> None:
    assert choose_voices(DEMO, "demo").models[0].startswith("demo/model@")
    partner = choose_voices(DEMO, "demo", partner="gpt@http://h/v1")
    assert partner.models[1] == "gpt"
    assert (partner.needs_model, partner.max_in_flight) == (True, 256)
    served = choose_voices(DEMO, "demo", endpoints="http://a/v1,http://b/v1")
    assert [replica.model for replica in served.replicas] == ["demo", "demo"]
    assert served.max_in_flight == 512
    assert served.models == choose_voices(DEMO, "demo", num_actors=3).models == choose_voices(DEMO, "demo").models
    large = EndpointConfig(url="http://j/v1", model="large", key_env="LARGE_KEY", max_in_flight=8)
    known = DEMO.model_copy(update={"evaluation": {"endpoints": {"large": large.model_dump()}}})
    assert choose_voices(known, "demo", agent="large").agent == large
    mixed = choose_voices(known, "demo", endpoints="large, http://a/v1")
    assert mixed.replicas[0] == large
    assert (mixed.replicas[1].url, mixed.max_in_flight) == ("http://a/v1", 8 + 256)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"agent": "nobody"}, "--agent: no endpoint 'nobody'; give MODEL@URL"),
        ({"partner": "gpt@example.org"}, "--partner: 'example.org' is no URL"),
        ({"endpoints": "http://a/v1,large"}, "--endpoints: 'large' is no URL such as http"),
        ({"endpoints": "http://a/v1", "num_actors": 2}, "either --endpoints or --ray"),
        ({"agent": "a@http://a/v1", "partner": "b@http://b/v1", "num_actors": 2}, "nothing to say"),
    ],
)
def test_voices_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_voices(DEMO, "demo", **options)
    assert said in str(caught.value)


def test_progress_counts_earlier_sittings_and_tells_the_time_left() -> None:
    progress = Progress(10)
    progress.begin({"a": Outcome(status="failed", cause="timeout"), "b": Outcome(status="complete", cause="left")})
    progress.sample()
    assert progress.seconds_left() is None
    turn = TurnRecord(index=0, seat=0, name="Mina", action_type="speak", argument="", text="", completion_tokens=7)
    for _ in range(6):
        progress.turn(turn)
    progress.end(Outcome(status="complete", cause="left"), num_turns=4)
    rate, tokens = progress.rates()
    assert (progress.done, progress.failed) == (3, 1)
    assert tokens / rate == pytest.approx(7, rel=1e-2)
    left = progress.seconds_left()
    assert left is not None
    assert left == pytest.approx((7 * 4 - 2) / progress.rates()[0], rel=0.2), "two turns of those to come are there"


def test_the_terminal_says_what_a_run_waits_for() -> None:
    progress = Progress(10, notices=lambda: ["paused: endpoint [x], next try in 5 s"])
    for terminal in (True, False):
        console = Console(record=True, force_terminal=terminal, width=120)
        with progress_view(console) as show:
            show(progress)
            shown = console.export_text()
        assert "0 of 10 episodes" in shown
        assert "paused: endpoint [x], next try in 5 s" in shown


@pytest.mark.parametrize(("seconds", "said"), [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min")])
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said
