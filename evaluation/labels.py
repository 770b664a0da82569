"""Texts beside points, none on top of another."""

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

DISTANCES = (7, 13, 20, 28)  # points from the marker
DIRECTIONS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1.3), (0, -1.3), (1.3, 0), (-1.3, 0))
ALIGN_X = {1: "left", 0: "center", -1: "right"}
ALIGN_Y = {1: "bottom", 0: "center", -1: "top"}
MARKER = 4  # half the size of a marker, in points


def place_labels(
    figure: Figure,
    panel: Axes,
    texts: Sequence[tuple[float, float, str, str]],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
) -> None:
    """Writes each (x, y, text, colour) at the nearest place beside its point that is free of points, lines and other texts.

    Where there is none within reach, the place that is covered least. Empty texts are points to keep clear of.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # lays the panel out, so that points have places
    pixels = figure.dpi / 72
    taken = [_around(panel, x, y, MARKER * pixels) for x, y, _, _ in texts]
    taken += [box for line in lines for box in _along(panel, line, 1.5 * pixels)]
    for x, y, text, colour in texts:
        if text:
            taken.append(_place(panel, canvas, taken, (x, y), text, colour))


def _place(
    panel: Axes, canvas: FigureCanvasAgg, taken: list[Bbox], at: tuple[float, float], text: str, colour: str
) -> Bbox:
    label = panel.annotate(
        text, at, (0, 0), textcoords="offset points", color=colour, fontsize=7.5, annotation_clip=False
    )
    best: tuple[float, tuple[float, float]] | None = None
    for distance, (dx, dy) in product(DISTANCES, DIRECTIONS):
        _move(label, distance, dx, dy)
        cost = _covered(label.get_window_extent(canvas.get_renderer()), taken, panel.bbox) + distance / 1000
        if best is None or cost < best[0]:
            best = cost, (distance * dx, distance * dy)
            chosen = (distance, dx, dy)
    _move(label, *chosen)
    return label.get_window_extent(canvas.get_renderer())


def _move(label: object, distance: float, dx: float, dy: float) -> None:
    label.set_position((distance * dx / 1.4, distance * dy / 1.4))  # type: ignore[attr-defined]
    label.set_ha(ALIGN_X[(dx > 0) - (dx < 0)])  # type: ignore[attr-defined]
    label.set_va(ALIGN_Y[(dy > 0) - (dy < 0)])  # type: ignore[attr-defined]


def _covered(box: Bbox, taken: Sequence[Bbox], panel: Bbox) -> float:
    """Area shared with what is there, and what of the box is off the panel."""
    inside = float(_shared(box, [panel]).sum())
    return float(_shared(box, taken).sum()) + box.width * box.height - inside


def _shared(box: Bbox, others: Sequence[Bbox]) -> NDArray:
    """Area of each one's intersection with `box`."""
    corners = np.array([other.extents for other in others])
    low, high = np.maximum(corners[:, :2], box.extents[:2]), np.minimum(corners[:, 2:], box.extents[2:])
    return np.clip(high - low, 0, None).prod(1)


def _along(panel: Axes, line: Sequence[tuple[float, float]], half: float) -> list[Bbox]:
    """Small boxes along the pieces of a line, close enough that no text fits between them."""
    places = panel.transData.transform(np.array(line).reshape(-1, 2))
    places = places[~np.isnan(places).any(1)]
    boxes = []
    for start, end in pairwise(places):
        steps = np.linspace(start, end, max(2, int(np.abs(end - start).max() / (4 * half))))
        boxes += [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in steps]
    return boxes


def _around(panel: Axes, x: float, y: float, half: float) -> Bbox:
    centre_x, centre_y = panel.transData.transform((x, y))
    return Bbox.from_extents(centre_x - half, centre_y - half, centre_x + half, centre_y + half)
