"""Judging a run: killed and resumed, repeated, with what is missing counted."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tiller.evaluation import cli
from tiller.evaluation.sotopia.ask import EndpointError
from tiller.evaluation.sotopia.journal import Journal
from tiller.evaluation.sotopia.journal_reader import JournalReader
from tiller.evaluation.sotopia.judge_settings import SotopiaConfig
from tiller.evaluation.sotopia.judges.judge import Judge
from tiller.evaluation.sotopia.judges.lexical import LexicalJudge
from tiller.evaluation.sotopia.judges.repetition import RepetitionJudge
from tiller.evaluation.sotopia.judges.sotopia import SotopiaJudge
from tiller.evaluation.sotopia.profiles import Scene
from tiller.evaluation.sotopia.score import score_run
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm

from .judged import JudgingModel, judging_model, make_record, sotopia_answer, write_run

NUM, IN_FLIGHT = 40, 3
STEERED = Arm(name="warm", steering={"features": [{"id": 1, "value": 2.0}]})


@pytest.fixture
def model() -> Iterator[JudgingModel]:
    with judging_model() as found:
        yield found


@pytest.fixture
def run(scene: Scene, tmp_path: Path) -> Path:
    """Forty episodes under two arms, told apart by what is said in them, and one that failed."""
    records = [
        make_record(scene, f"It is offer {i}.", "Thank you, dear!", seed=i, arm=(UNSTEERED, STEERED)[i % 2])
        for i in range(NUM)
    ]
    failed = make_record(scene, "Hello", seed=NUM, cause="timeout")
    asyncio.run(write_run(tmp_path / "run", [*records, failed]))
    return tmp_path / "run"


def judge_run(run: Path, model: JudgingModel, repeats: int = 1, **settings: Any) -> None:
    config = SotopiaConfig(**settings)

    def judging(speaker: Any) -> Any:
        own = SotopiaJudge("sotopia", config, speaker, "judge")
        return score_run(run, [own.repeated(k) for k in range(repeats)])

    model.run(judging)


def offers(model: JudgingModel) -> Counter[int]:
    """How often the judge was asked about each episode."""
    return Counter(int(re.search(r"offer (\d+)", question)[1]) for question in model.questions)  # type: ignore[index]


def scored_offers(run: Path) -> set[int]:
    """The episodes that have scores."""
    with JournalReader(run) as journal:
        numbers = {unit.unit_id: unit.seed for unit in journal.units}
        return {numbers[score.unit_id] for score in journal.scores()}


def tiller(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tiller.evaluation.cli", *arguments]


def test_a_killed_scoring_goes_on_and_judges_nothing_twice(run: Path, model: JudgingModel, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: none\nevaluation: {judges: {social: {kind: sotopia, in_flight: 3}}}\n")
    command = tiller(
        "sotopia", "score", "--config", str(config), "--out", str(run), "--judge", "social",
        "--endpoint", f"judge@{model.config.url}",
    )  # fmt: skip
    model.delay = 0.1
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(model.asked) < 15 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 15 <= len(model.asked) < NUM, "it was killed in the middle"
    kept, before = scored_offers(run), offers(model)
    assert len(kept) >= 15 - 2 * IN_FLIGHT and kept <= before.keys()
    model.delay = 0.0
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    again = offers(model) - before
    assert set(again) == set(range(NUM)) - kept  # what was kept is not asked again, all else is
    assert scored_offers(run) == set(range(NUM))
    assert max(before.values()) == 1 and len(before.keys() - kept) <= 2 * IN_FLIGHT  # only what was on its way

    whole = tmp_path / "whole"
    with JournalReader(run) as journal:
        asyncio.run(write_run(whole, list(journal.records())))
    judge_run(whole, model, in_flight=7)
    resumed = (run / "scores.jsonl").read_text().replace('"social"', '"sotopia"')
    assert (whole / "scores.jsonl").read_text() == resumed


def test_a_second_command_asks_nothing_and_another_judge_asks_all(run: Path, model: JudgingModel) -> None:
    judge_run(run, model)
    assert len(model.asked) == NUM  # the failed unit is none of its business
    judge_run(run, model)
    assert len(model.asked) == NUM
    judge_run(run, model, temperature=0.5)
    assert len(model.asked) == 2 * NUM
    with JournalReader(run) as journal:
        assert [len(units) for units in journal.judged().values()] == [NUM, NUM]


def test_repeats_are_kept_apart(run: Path, model: JudgingModel) -> None:
    judge_run(run, model, repeats=3)
    assert len(model.asked) == 3 * NUM
    assert {body["seed"] for body in model.asked} == {0, 1, 2}
    with JournalReader(run) as journal:
        bases = {judge_id.split("#")[0] for judge_id in journal.judged()}
        assert len(journal.judged()) == 3 and len(bases) == 1


def test_no_answer_is_asked_for_again_and_a_wrong_one_is_not(run: Path, model: JudgingModel) -> None:
    def answer(body: dict[str, Any]) -> str | int:
        number = int(re.search(r"offer (\d+)", body["messages"][-1]["content"])[1])  # type: ignore[index]
        return 500 if number % 4 == 0 else "no" if number % 4 == 1 else json.dumps(sotopia_answer(body))

    model.answer = answer
    judge_run(run, model)
    with JournalReader(run) as journal:
        causes = Counter(score.cause for score in journal.scores())
        assert causes == {"": NUM // 2 * 16, "server_error": NUM // 4 * 16, "unparsable": NUM // 4 * 16}
        assert all(score.value is None for score in journal.scores() if score.cause)
    model.asked.clear()
    model.answer = lambda body: json.dumps(sotopia_answer(body))
    judge_run(run, model)
    assert set(offers(model)) == set(range(0, NUM, 4))
    with JournalReader(run) as journal:
        causes = Counter(score.cause for score in journal.scores())
        assert causes == {"": NUM // 4 * 3 * 16, "unparsable": NUM // 4 * 16}


def test_an_endpoint_that_is_gone_ends_it_and_what_was_judged_stays(run: Path, model: JudgingModel) -> None:
    model.answer = lambda body: json.dumps(sotopia_answer(body)) if len(model.asked) <= 10 else 401
    with pytest.raises(EndpointError):
        judge_run(run, model, in_flight=2)
    assert 8 <= len(scored_offers(run)) <= 10


def test_a_run_that_goes_on_can_be_judged(run: Path) -> None:
    with Journal(run):  # as the runner holds it
        asyncio.run(score_run(run, [RepetitionJudge("repetition")]))
    assert scored_offers(run) == set(range(NUM))


class HandsOnJudge(RepetitionJudge):
    """Judges one unit at a time and tells the order."""

    batch_size = 1

    def __init__(self, seen: list[str]) -> None:
        super().__init__("repetition")
        self.seen = seen

    async def judge_batch(self, records: Sequence[Any]) -> Any:
        self.seen += [record.unit.unit_id for record in records]
        return await super().judge_batch(records)


def test_batches_do_not_change_scores(run: Path, tmp_path: Path) -> None:
    with JournalReader(run) as journal:
        records = list(journal.records())
        planned = [unit.unit_id for unit in journal.units]
    asyncio.run(write_run(tmp_path / "other", records))
    seen: list[str] = []
    asyncio.run(score_run(run, [HandsOnJudge(seen)]))
    asyncio.run(score_run(tmp_path / "other", [RepetitionJudge("repetition")]))
    assert seen == planned[:NUM]
    assert (run / "scores.jsonl").read_bytes() == (tmp_path / "other" / "scores.jsonl").read_bytes()


def test_progress_counts_to_the_end(run: Path) -> None:
    told: list[tuple[str, int, int]] = []
    judges: list[Judge] = [LexicalJudge("lexical"), RepetitionJudge("repetition")]
    asyncio.run(score_run(run, judges, lambda judge, done, total, scores: told.append((judge.name, done, total))))
    assert told[-1] == ("repetition", NUM, NUM)
    assert ("lexical", NUM, NUM) in told


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Runs `tiller sotopia score` in this process and gives what it prints, errors as their text."""
    (tmp_path / "words.json").write_text('{"thanks": {"positive": ["thank you"]}}')
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: none\nevaluation: {judges: {thanks: {kind: lexical, lexicon: words.json},"
        " gone: {kind: sotopia, endpoint: nowhere}}}\n"
    )
    monkeypatch.setattr(cli, "set_defaults", lambda: None)

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(cli.app, ["sotopia", "score", "--config", str(config), *arguments])
        return result.output if result.exit_code == 0 else str(result.exception)

    return invoke


def test_the_table_has_arms_and_gaps(run: Path, model: JudgingModel, command: Callable[..., str]) -> None:
    said = command("--out", str(run))
    assert "fluency is left out: this config's model is not what spoke" in said
    rows = {tuple(cell.strip() for cell in line.strip("│ ").split("│")) for line in said.splitlines() if "│" in line}
    assert ("partner", "thanks_per_100_words", "33.3", "33.3") in rows
    assert ("agent", "turns", "1", "1") in rows
    model.answer = lambda body: (
        "no" if "offer 1." in body["messages"][-1]["content"] else json.dumps(sotopia_answer(body))
    )
    said = command("--out", str(run), "--judge", "sotopia", "--endpoint", f"m@{model.config.url}", "--repeats", "2")
    assert re.search(r"│ agent +│ goal +│ +[\d.]+ │ +[\d.]+ \(2 missing\) │", said)
    assert "sotopia: of 80 judged episodes, with a score missing: 2 unparsable" in said
    assert "sotopia, asked 2 times, goal: 100% equal, noise 0, ICC " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--judge", "mood"],
            "--judge: no judge 'mood'; there are: lexical, repetition, fluency, sotopia, thanks, gone",
        ),
        (["--judge", "sae_ts"], "--judge sae_ts: it needs settings; write evaluation.judges.sae_ts: {kind: sae_ts, "),
        (["--judge", "gone"], "evaluation.judges: no endpoint 'nowhere'; give MODEL@URL, or one of "),
        (["--judge", "sotopia", "--endpoint", "x"], "--endpoint: no endpoint 'x'; give MODEL@URL, or one of "),
    ],
)
def test_a_mistake_says_what_to_do(run: Path, command: Callable[..., str], arguments: list[str], message: str) -> None:
    assert command("--out", str(run), *arguments).startswith(message)


def test_a_folder_without_a_run_is_left_alone(tmp_path: Path, command: Callable[..., str]) -> None:
    assert "there is no run here" in command("--out", str(tmp_path / "none"), "--judge", "repetition")
    assert not (tmp_path / "none").exists()
