"""TensorBoard: one event a recorded step, and boundaries that survive its sampling.

The loader keeps 1000 scalars a tag, so a boundary inside a long tag can vanish. Each boundary has
sparse tags of its own: ``boundary/<name>`` is 0 at the step before its detection and 1 at it, and
``boundary/<name>_onset`` holds the interpolated onset at the step of detection. Values that are
not finite cannot be drawn and are left out; the history file is the lossless record.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from phasetrack.records import History, Record
from phasetrack.sinks import _summaries

TIMELINE, FIGURE = "timeline", "run"
FLUSH_SECONDS = 5
# Histograms are drawn at every so many-th recorded step (chosen here: TensorBoard keeps 500 of
# them, and they are the largest part of the file), and at the last.
HISTOGRAM_EVERY = 10
FIGURE_DPI = 100

# Columns of the HParams dashboard: scalar tag to title.
METRICS = {
    "boundary/signal_heavy_onset": "onset of signal-heaviness",
    "boundary/linear_exit_onset": "exit from the linear regime",
    "boundary/fitted_onset": "loss target met",
    "loss/train": "loss",
    "heaviness/zeta_star": "zeta*",
}


class TensorBoardSink:
    """Writes one event file into a run directory.

    Args:
        logdir: the directory.
        clusters: cluster names, for the layout of the margin charts.
        hparams: hyperparameters for the HParams dashboard; none, no row there.
    """

    def __init__(
        self,
        logdir: Path,
        *,
        clusters: Sequence[str] = (),
        hparams: Mapping[str, object] | None = None,
    ) -> None:
        self._writer: EventFileWriter | None = EventFileWriter(
            str(logdir), flush_secs=FLUSH_SECONDS
        )
        self._name = logdir.resolve().name
        self._timeline: list[str] = []
        self._records = 0
        self._pending: Record | None = None  # the last record, if its histograms are not written
        self._write(0, _summaries.layout(clusters))
        if hparams:
            for summary in _summaries.hyperparameters(self._name, hparams, METRICS):
                self._write(0, summary)

    def write(self, record: Record) -> None:
        """Write all finite readings as one event, and what is new at this step."""
        values = {name: v for name, v in record.readings.items() if math.isfinite(v)}
        before: dict[str, float] = {}
        for boundary in record.boundaries:
            before[f"boundary/{boundary.name}"] = 0.0
            values[f"boundary/{boundary.name}"] = 1.0
            values[f"boundary/{boundary.name}_onset"] = boundary.onset
        if before and record.step > 0:
            self._write(record.step - 1, _summaries.scalars(before))
        self._write(record.step, _summaries.scalars(values))
        if news := record.news():
            self._timeline += [f"* {item}" for item in news]
            # the whole list each time: of text, only the last few events are kept
            self._write(record.step, _summaries.text(TIMELINE, "\n".join(self._timeline)))
        self._pending = record
        if self._records % HISTOGRAM_EVERY == 0:
            self._write_histograms()
        self._records += 1

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Write the last histograms and a figure of the whole run, and close the file."""
        if self._writer is None:
            return
        try:
            self._write_histograms()
            if len(history.steps):
                self._write_figure(summary, history)
        finally:
            self._writer.close()
            self._writer = None

    def _write_histograms(self) -> None:
        if self._pending is not None:
            for tag, values in self._pending.distributions.items():
                self._write(self._pending.step, _summaries.histogram(tag, values))
        self._pending = None

    def _write_figure(self, summary: Mapping[str, Any], history: History) -> None:
        from phasetrack.plots import run_figure  # matplotlib takes a second to import

        figure, png = run_figure(history, summary, title=self._name), io.BytesIO()
        figure.savefig(png, format="png", dpi=FIGURE_DPI)
        width, height = (round(inches * FIGURE_DPI) for inches in figure.get_size_inches())
        step = int(history.steps[-1])
        self._write(step, _summaries.image(FIGURE, png.getvalue(), width, height))

    def _write(self, step: int, summary: Summary) -> None:
        if self._writer is None:
            raise ValueError("this TensorBoard sink is closed")
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
