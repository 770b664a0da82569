"""The report of a run that the journal holds: files, figures, escaping, and texts that keep clear of each other."""

import csv
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from tiller.evaluation.sotopia.figures import pareto
from tiller.evaluation.sotopia.outcome_report import Findings, write_run_report
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm, Unit

from .made_run import record, scores, sweep_run, swept, units, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings, list[Unit]]:
    out = tmp_path_factory.mktemp("run")
    given = sweep_run(out)
    return out, write_run_report(out), given


def test_tables_hold_every_unit_turn_and_score(run: tuple[Path, Findings, list[Unit]]) -> None:
    out, found, given = run
    episodes, turns, scored = (pq.read_table(out / f"{name}.parquet") for name in ("episodes", "turns", "scores"))
    assert episodes["unit_id"].to_pylist() == [unit.unit_id for unit in given]
    assert turns.num_rows == 4 * len(given) and scored.num_rows == 4 * len(given)
    assert sum(episodes["tokens_in_scope"].to_pylist()) == 30 * 2 * 24 * 12
    assert set(scored["role"].to_pylist()) == {"agent", "partner"}


def test_the_summary_says_what_the_effects_say(run: tuple[Path, Findings, list[Unit]]) -> None:
    out, found, _ = run
    with (out / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.measures) * len(found.design.arms)
    effect = found.effects[0][4]
    row = next(r for r in rows if r["arm"] == effect.arm.name and r["metric"] == "tone")
    assert float(row["delta"]) == pytest.approx(effect.delta.value, rel=1e-5)
    assert float(row["p_holm"]) == pytest.approx(effect.p_holm, rel=1e-5) and row["worst_low"] == ""


def test_the_page_loads_nothing_and_escapes_what_was_said(run: tuple[Path, Findings, list[Unit]]) -> None:
    html = (run[0] / "report.html").read_text(encoding="utf-8")
    links = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']+)|url\(([^)]+)\)|@import", html)
    assert all(link.startswith("#") for pair in links for link in pair if link)
    assert "&lt;i&gt;line 0&lt;/i&gt;" in html and "<i>line" not in html and "win &lt;b&gt;" in html
    assert "prefers-color-scheme: dark" in html and "#1f2933" in html.split("</style>")[0]
    assert "#1f2933" not in html.split("</style>", 1)[1]  # figures take the page's colours


def test_figures_come_as_svg_and_png(run: tuple[Path, Findings, list[Unit]]) -> None:
    names = {path.stem for path in (run[0] / "figures").iterdir()}
    assert names == {
        "dose-0-words.tone.agent", "dose-0-fluency.mean_logprob.agent", "dose-0-sotopia.goal.agent",
        "pareto-words.tone.agent",
    }  # fmt: skip
    for name in names:
        assert (run[0] / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (run[0] / "figures" / f"{name}.svg").read_text()


def test_labels_of_the_front_lie_on_nothing(run: tuple[Path, Findings, list[Unit]]) -> None:
    found = run[1]
    figure = pareto(found.tradeoffs[0], found.design)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = [text for text in figure.axes[0].texts if isinstance(text, Annotation) and text.get_text()]
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
    assert len(boxes) == 10
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_equal_runs_give_equal_pages(run: tuple[Path, Findings, list[Unit]], tmp_path: Path) -> None:
    sweep_run(tmp_path)
    write_run_report(tmp_path)
    for name in ("report.html", "summary.csv"):
        assert (tmp_path / name).read_bytes() == (run[0] / name).read_bytes()


def test_a_run_without_scores_or_alphas_still_has_a_report(tmp_path: Path) -> None:
    warm = Arm(name="warm", target="warm", steering={"features": [{"id": 1, "value": 2.0}]})
    given = units([UNSTEERED, warm], 2, (0,))
    write_run(tmp_path, [record(unit) for unit in given[1:]], given, [])
    assert write_run_report(tmp_path).problems == ["1 units are not finished"]
    assert "Nothing has been judged yet" in (tmp_path / "report.html").read_text()


def test_arms_without_an_alpha_are_compared_in_one_family(tmp_path: Path) -> None:
    arms = [Arm(name=n, target=n, steering={"features": [{"id": 1, "value": 2.0}]}) for n in ("warm", "french")]
    given = units([UNSTEERED, *arms], 6, (0,))
    write_run(tmp_path, [record(unit) for unit in given], given, scores(given))
    found = write_run_report(tmp_path)
    ordered = sorted(found.effects[0][1:], key=lambda e: e.p)
    assert ordered[0].p_holm == pytest.approx(min(1.0, 2 * ordered[0].p))
    assert (tmp_path / "figures" / "difference-words.tone.agent.svg").exists()


def test_targets_of_other_scales_have_axes_of_their_own(tmp_path: Path) -> None:
    given = units([UNSTEERED, *swept("small", [0.0, 1.0]), *swept("large", [0.0, 50.0])], 4, (0,))
    write_run(tmp_path, [record(unit) for unit in given], given, scores(given))
    write_run_report(tmp_path)
    assert {"dose-0-words.tone.agent.svg", "dose-1-words.tone.agent.svg"} <= {
        p.name for p in (tmp_path / "figures").iterdir()
    }


def test_prompts_are_named_by_their_last_message(tmp_path: Path) -> None:
    base = units([UNSTEERED, *swept("warm", [0.0, 1.0])], 4, (0,))
    given = [
        Unit(prompt=[{"role": "user", "content": f"hello {u.cluster} <x>"}], protocol=u.protocol, arm=u.arm)
        for u in base
    ]
    write_run(tmp_path, [record(unit, 1, "max_turns") for unit in given], given, scores(given))
    found = write_run_report(tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "hello env0 &lt;x&gt;" in html and "Steered answers" in html
    assert found.problems == []
