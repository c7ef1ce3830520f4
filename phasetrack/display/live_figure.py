"""LiveFigure: a run in progress as a figure that is redrawn in place in a notebook."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from phasetrack.display.charts import page_charts
from phasetrack.display.drawing import Figure
from phasetrack.display.plots import run_figure
from phasetrack.errors import ExpectedError, check_choice
from phasetrack.phases.history import History, Record
from phasetrack.phases.labels import Alert, Boundary, mark_left

# Drawing takes at most this share of the time, however slow it is; a heuristic of ours.
DRAWING_SHARE = 0.1


class LiveFigure:
    """Draw the run while it trains, for `attach(..., sinks=[LiveFigure()])` in a notebook.

    The figure is replaced in place, and at the end it is that of the whole run. Drawing waits where it
    would take more than a tenth of the time. Keeps every reading in memory, 8 bytes each.

    Args:
        panels: some of zeta, shares, margins, loss, first-order and growth.
        seconds: between two drawings, at least.
        width: of the figure in inches.
        show: is given each figure; None shows it in the notebook's cell.

    Raises:
        ExpectedError: if a panel is not one that a run's figure has, or IPython is not installed and `show`
            is not given.
    """

    def __init__(
        self,
        panels: Sequence[str] = ("zeta", "loss"),
        *,
        seconds: float = 2.0,
        width: float = 9.0,
        show: Callable[[Figure], object] | None = None,
    ) -> None:
        known = {chart.key: chart for chart in page_charts(())}
        for panel in panels:
            check_choice("panels", panel, known)
        self._panels, self._seconds, self._width = tuple(panels), seconds, width
        self._show = show or _Cell()
        self._history = History()
        self._boundaries: list[Boundary] = []
        self._alerts: list[Alert] = []
        self._next = -math.inf

    def write(self, record: Record) -> None:
        """Take in one recorded step, and draw if it is time."""
        self._history.append(record.step, record.readings)
        for name in record.left:
            mark_left(self._boundaries, name, record.step)
        self._boundaries += record.boundaries
        self._alerts += record.alerts
        if (began := time.monotonic()) >= self._next:
            self._draw(self._history, self._summary(record.phase.name))
            ended = time.monotonic()
            self._next = ended + max(self._seconds, (ended - began) * (1 / DRAWING_SHARE - 1))

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Draw the whole run a last time."""
        if history.count:
            self._draw(history, summary)

    def _summary(self, phase: str) -> dict[str, Any]:
        """Return what is known of the run so far, as ``summary.json`` has it."""
        return {
            "phase": phase,
            "boundaries": [asdict(boundary) for boundary in self._boundaries],
            "alerts": [alert.as_json() for alert in self._alerts],
        }

    def _draw(self, history: History, summary: Mapping[str, Any]) -> None:
        title = f"step {history.last_step}"
        self._show(
            run_figure(history, summary, title=title, panels=self._panels, width=self._width)
        )


class _Cell:
    """Shows one figure after the other at the same place of a notebook's cell."""

    def __init__(self) -> None:
        try:
            from IPython.display import display
        except ModuleNotFoundError:
            raise ExpectedError(
                "show",
                "IPython is not installed, so no notebook can show the figure.",
                "Pass show=, a function that is given each figure.",
            ) from None
        self._display: Callable[..., Any] = display
        self._place: Any = None

    def __call__(self, figure: Figure) -> None:
        """Show a figure in place of the last one."""
        if self._place is None:
            self._place = self._display(figure, display_id=True)
        if self._place is not None:
            self._place.update(figure)
