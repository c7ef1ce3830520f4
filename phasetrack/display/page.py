"""The page of a figure: its size, the grid of strip and panels, and what stands around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from phasetrack.display.drawing import Axes, Figure, ShownFigure
from phasetrack.display.panels import CHARACTER, mathtext, small_font
from phasetrack.errors import check_choice, check_float

# Inches: a wide screen, or the text width of a two-column page.
WIDTHS = {"screen": 12.0, "paper": 7.0}
NARROWEST, WIDEST = 2.5, 40.0  # inches of a figure
# Inches from which on a page has so many columns, the widest first.
COLUMNS = ((5.5, 3), (4.2, 2), (0.0, 1))
BESIDE = 0.75  # inches beside the axes of a panel
PANEL_SHAPE = 0.62  # height of a panel by its width
HEAD, FOOT = 0.3, 0.55  # inches of the title, and of the legend of the page
LANE_NAMES = 1.15  # inches left of the strip


class Page(NamedTuple):
    """An empty page: the strip over its whole width, and the panels below it.

    Attributes:
        figure: the page.
        strip: the axes of the lanes.
        panels: the axes of the charts, in reading order.
        strip_inches: width of the strip.
        panel_inches: width of a panel.
    """

    figure: Figure
    strip: Axes
    panels: Sequence[Axes]
    strip_inches: float
    panel_inches: float


def width_of(size: str, width: float | None) -> float:
    """Return the inches of a page."""
    check_choice("size", size, WIDTHS)
    if width is None:
        return WIDTHS[size]
    return check_float("width", width, minimum=NARROWEST, maximum=WIDEST)


def new_page(width: float, count: int, strip: float) -> Page:
    """Make an empty page with a strip and panels that share their steps."""
    columns = min(next(number for least, number in COLUMNS if width >= least), count)
    rows = -(-count // columns)
    panel = width / columns
    tall = PANEL_SHAPE * min(panel, 4.4) + (0.5 if width > WIDTHS["paper"] else 0.6)
    figure = ShownFigure(figsize=(width, HEAD + strip + rows * tall + FOOT), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[strip, *[tall] * rows])
    first = figure.add_subplot(grid[1, 0])
    panels = [first]
    for place in range(1, count):
        row, column = divmod(place, columns)
        panels.append(figure.add_subplot(grid[row + 1, column], sharex=first))
    for place, axes in enumerate(panels):
        axes.tick_params(labelbottom=place + columns >= count)
    lanes_axes = figure.add_subplot(grid[0, :], sharex=first)
    return Page(figure, lanes_axes, panels, width - LANE_NAMES, max(panel - BESIDE, 1.0))


def finish_page(page: Page, handles: Sequence[Any], steps: str, title: str) -> None:
    """Set title, names of the axes of steps, and the legend below the panels."""
    small = small_font(page.strip)
    for axes in page.panels:
        if axes.xaxis.get_tick_params()["labelbottom"]:
            axes.set_xlabel(steps, fontsize=small)
    if title:
        page.figure.suptitle(mathtext(title), fontsize=small + 2)
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        fit = int(72 * page.figure.get_figwidth() / (small * (CHARACTER * longest + 4.5)))
        page.figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=max(1, min(fit, len(handles))),
            fontsize=small,
            frameon=False,
        )
