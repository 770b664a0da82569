import re
from pathlib import Path

from tiller.evaluation.plotting import new_figure, plot_intervals, style, svg_of
from tiller.evaluation.report import Report, Section, Table
from tiller.evaluation.stats import Interval


def _report(path: Path) -> str:
    with style():
        figure, panels = new_figure(2)
        plot_intervals(panels[0], [0, 1], [Interval(0.2, 0.1, 0.3), Interval(0.5, 0.4, 0.6)], "share", "#2563eb")
    table = Table(["alpha", "answer"], [["0", "<b>bold</b> & \u00e9t\u00e9"]], frozenset({0}), frozenset({1}))
    section = Section(title="Curves", figure=figure, alt="a curve", tables=[table], note="a note")
    Report(title="T <1>", summary="s", verdict="fine", passed=True, facts=[("seed", "0")], sections=[section]).write(
        path
    )
    return path.read_text(encoding="utf-8")


def test_text_is_escaped_and_pictures_are_not(tmp_path: Path) -> None:
    html = _report(tmp_path / "deep" / "report.html")
    assert "<title>T &lt;1&gt;</title>" in html
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; \u00e9t\u00e9" in html and "<b>bold</b>" not in html
    assert html.count("<svg") == 1 and 'aria-label="a curve"' in html


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    html = _report(tmp_path / "report.html")
    links = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']+)|url\(([^)]+)\)|@import", html)
    assert all(link.startswith("#") for pair in links for link in pair if link)


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    assert _report(tmp_path / "a.html") == _report(tmp_path / "b.html")


def test_style_is_not_global() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style():
        figure, _ = new_figure(1)
    svg_of(figure)
    assert dict(matplotlib.rcParams) == before
