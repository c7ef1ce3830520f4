"""Show a run in progress: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from phasetrack.display.style import PHASE_STYLES, number
from phasetrack.phases.history import History, Record

# Seconds between two redraws of the live panel: smooth, and under 1 percent of a run's time.
LIVE_SECONDS = 0.1
# Seconds between two lines elsewhere; transitions, boundaries and alerts are printed at once.
PLAIN_LINE_SECONDS = 2.0

# Metric, its name for people, and the metric of its forecast.
SHOWN = (
    ("heaviness/zeta_star", "zeta*", "forecast/zeta_star"),
    ("heaviness/heavy_mass", "heavy mass", ""),
    ("margin/min", "margin, min", "forecast/margin_min"),
    ("margin/max", "margin, max", ""),
    ("loss/train", "loss", "forecast/loss"),
    ("error/train", "error", ""),
    ("linearization/value_error", "first-order error", ""),
    ("growth/signal_rate", "signal growth", "growth/signal_rate_predicted"),
)


class ConsoleSink:
    """Show the readings of a run while it trains.

    On a terminal one panel is redrawn in place; elsewhere a line is printed every
    `PLAIN_LINE_SECONDS` and at each transition, boundary and alert. A context manager, which
    restores the terminal after a failure too.

    Args:
        console: the terminal or file to write to.
        title: the run's name.
        expected: predicted number of steps, for the progress bar and the time left.
    """

    def __init__(self, console: Console, *, title: str, expected: float) -> None:
        self._console, self._title, self._expected = console, title, expected
        self._news: list[str] = []
        self._started = self._shown = -math.inf
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Start the live panel, if the console is a terminal."""
        if self._console.is_terminal:
            # no refresh thread: write() redraws the panel when it is due
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            self._live.update(Text("forecasting the run ...", "dim"), refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the live panel and restore the terminal; the command prints the summary."""
        if self._live is not None:
            self._live.stop()
        self._live = None

    def write(self, record: Record) -> None:
        """Show one recorded step, if a redraw is due or the step brings news."""
        now, news = time.monotonic(), record.news()
        if math.isinf(self._started):
            self._started = now
        self._news += news
        if not news and now - self._shown < (LIVE_SECONDS if self._live else PLAIN_LINE_SECONDS):
            return
        self._shown = now
        if self._live is not None:
            self._live.update(self._panel(record), refresh=True)
            return
        for line in (self._line(record), *(f"  {item}" for item in news)):
            self._console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Do nothing: the command prints the summary."""

    def _panel(self, record: Record) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column(justify="right", min_width=10)
        table.add_column(justify="right", style="dim")
        for name, label, predicted in SHOWN:
            if name in record.readings:
                beside = f"predicted {number(record.readings.get(predicted, math.nan))}"
                table.add_row(label, number(record.readings[name]), beside if predicted else "")
        news = Text("\n".join(self._news[-4:]), style="bold")
        return Panel(
            Group(self._progress(record), self._phase(record), table, news),
            title=Text(self._title),
            width=min(78, self._console.width),
        )

    def _progress(self, record: Record) -> RenderableType:
        row = Table.grid(padding=(0, 2))
        row.add_row(
            f"step {record.step}",
            ProgressBar(total=self._expected, completed=record.step, width=30),
            self._remaining(record.step),
        )
        return row

    def _phase(self, record: Record) -> Text:
        line = Text(f" {record.phase.name} ", style=PHASE_STYLES[record.phase])
        return line.append(f" {record.reason}", style="dim") if record.reason else line

    def _remaining(self, step: int) -> str:
        """Return the time left until the predicted end, at the pace so far."""
        passed = time.monotonic() - self._started
        if step == 0:
            return f"of about {self._expected:.0f}"
        left = max(0.0, passed / step * (self._expected - step))
        beyond = " (past the prediction)" if step > self._expected else ""
        return f"of about {self._expected:.0f}, {left:.0f} s to go{beyond}"

    def _line(self, record: Record) -> str:
        shown = (
            f"{label} {number(record.readings[name])}"
            for name, label, _ in SHOWN
            if label in ("zeta*", "margin, min", "loss") and name in record.readings
        )
        return f"step {record.step:>5}  {record.phase.name:<14}  {'  '.join(shown)}"
