"""Self-contained HTML reports: sections of text, tables and pictures in one file that loads nothing from anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from .plotting import svg_of


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; `highlight` are indices of rows that stand out, `wrap` of columns that hold prose.

    folded: shown at a click on `caption`.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    highlight: frozenset[int] = frozenset()
    wrap: frozenset[int] = frozenset()
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows, for those who don't see it."""

    figure: Figure
    alt: str

    @property
    def svg(self) -> Markup:
        return svg_of(self.figure)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with, in this order, text, a picture, small pictures side by side, tables, markup and a note."""

    title: str
    text: str = ""
    figure: Figure | None = None
    alt: str = ""
    pictures: Sequence[Picture] = ()
    picture_width: int = 320  # pixels that each has at least, on a wide screen
    tables: Sequence[Table] = ()
    markup: Markup = Markup()  # made by a template that escapes
    note: str = ""

    @property
    def svg(self) -> Markup | None:
        return None if self.figure is None else svg_of(self.figure)


@dataclass(frozen=True, kw_only=True)
class Report:
    """One page; `facts` are short (label, value) pairs at its top, `passed` colours the verdict, None leaves it out."""

    title: str
    summary: str
    verdict: str = ""
    passed: bool | None = None
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default_factory=list)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEMPLATE.render(report=self), encoding="utf-8")


TEMPLATE = jinja2.Environment(
    autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=jinja2.FileSystemLoader(Path(__file__).parent)
).get_template("report.html.jinja")
