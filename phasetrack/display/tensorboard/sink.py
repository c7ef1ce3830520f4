"""Write runs to TensorBoard: one event per recorded step, and boundaries that survive its sampling.

TensorBoard's loader keeps 1000 scalars per tag, so a boundary inside a long tag can vanish. Each
boundary has sparse tags of its own: ``phase_boundary/<name>`` is 0 at the step before its detection and 1
at its detection, and ``phase_boundary/<name>_onset`` holds the interpolated onset. Values that are not
finite cannot be drawn and are left out; the history file is the lossless record.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from phasetrack.display.tensorboard import summaries
from phasetrack.display.tensorboard.event_file import EventFile, event_files, is_ours
from phasetrack.errors import ExpectedError, check_int, printable
from phasetrack.phases.boundaries import BOUNDARIES
from phasetrack.phases.history import History, Record

TIMELINE = "timeline"
# Recorded steps from one histogram to the next; the last step always has one. Histograms are the
# largest part of the file, and TensorBoard keeps 500 of them.
HISTOGRAM_EVERY = 10
# Lines of the timeline. Every change rewrites the timeline: without a limit, a flickering label would
# make the file grow with the square of its changes.
TIMELINE_LINES = 100

# TensorBoard sorts its cards by tag: boundaries stand behind the readings. Version 0.1.0: "boundary/".
BOUNDARY_TAG = "phase_boundary/"
ALERTS = "phase_alerts"  # the number of alerts so far, at the first record and at each alert

# Columns of the HParams dashboard: scalar tag to title.
METRICS = {
    **{f"{BOUNDARY_TAG}{key}_onset": boundary.title for key, boundary in BOUNDARIES.items()},
    "phase/id": "last phase (0 undetermined, 1 finding, 2 heavy, 3 fitted)",
    ALERTS: "alerts",
    "loss/train": "loss",
    "heaviness/zeta_star": "zeta*",
}


class TensorBoardSink:
    """Write the event files of a run directory.

    A resumed run continues in a further file, because a TensorBoard that is reading the first file
    cannot follow when it becomes shorter and then grows again.

    Args:
        logdir: the directory.
        clusters: names of clusters for a layout of the Custom Scalars page; without any, TensorBoard does not
            show that page, whose tab would push the Phases tab out of a window of 1280 pixels.
        hparams: hyperparameters for the HParams dashboard, or None for no row.
        describe: the meaning of a metric in a line, which TensorBoard shows beside its chart.
        resume: keep the event files of phasetrack in the directory, and wait for
            `load_state_dict` before writing.
    """

    state_key = "tensorboard"

    def __init__(
        self,
        logdir: Path,
        *,
        clusters: Sequence[str] = (),
        hparams: Mapping[str, object] | None = None,
        describe: Callable[[str], str] | None = None,
        resume: bool = False,
    ) -> None:
        logdir.mkdir(parents=True, exist_ok=True)
        self._logdir, self._name = logdir, printable(logdir.resolve().name)
        self._clusters, self._hparams = clusters, hparams
        self._describe, self._described = describe, set[str]()
        self._file: EventFile | None = None
        self._earlier: list[dict[str, Any]] = []  # states of the files before this one
        self._timeline: list[str] = []
        self._records, self._alerts, self._closed = 0, 0, False
        # step and distributions of the last record, until its histograms are written
        self._pending: tuple[int, Mapping[str, NDArray[np.float64]]] | None = None
        self._placed = not (resume and event_files(logdir))
        try:
            if self._placed:
                self._begin()
        except BaseException:
            self.abandon()
            raise

    def write(self, record: Record) -> None:
        """Write all finite readings as one event, then boundaries and other news of this step."""
        values = {name: v for name, v in record.readings.items() if math.isfinite(v)}
        before: dict[str, float] = {}
        for boundary in record.boundaries:
            before[f"{BOUNDARY_TAG}{boundary.name}"] = 0.0
            values[f"{BOUNDARY_TAG}{boundary.name}"] = 1.0
            values[f"{BOUNDARY_TAG}{boundary.name}_onset"] = boundary.onset
        self._alerts += len(record.alerts)
        if record.alerts or not self._records:
            values[ALERTS] = float(self._alerts)
        if before and record.step > 0:
            self._write(record.step - 1, summaries.scalars(before))
        self._write(record.step, summaries.scalars(values, self._descriptions(values)))
        if news := record.news():
            self._timeline += [f"* {item}" for item in news]
            # TensorBoard keeps only the last few texts, so each one holds the whole timeline
            del self._timeline[:-TIMELINE_LINES]
            self._write(record.step, summaries.text(TIMELINE, "\n".join(self._timeline)))
        self._pending = record.step, record.distributions
        if self._records % HISTOGRAM_EVERY == 0:
            self._write_histograms()
        self._records += 1

    def close(self, summary: Mapping[str, Any], history: History) -> None:  # noqa: ARG002
        """Write the last histograms and close the file."""
        if self._closed:
            return
        try:
            if self._placed:
                self._write_histograms()
        finally:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of the event files, the timeline and the pending histograms."""
        files = [*self._earlier, *([] if self._file is None else [self._file.state()])]
        pending = None
        if self._pending is not None:
            step, values = self._pending
            tensors = {tag: torch.from_numpy(array.copy()) for tag, array in values.items()}
            pending = {"step": step, "distributions": tensors}
        return {
            "files": files,
            "timeline": list(self._timeline),
            "records": self._records,
            "alerts": self._alerts,
            "pending": pending,
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ExpectedError if the files do not begin with their content at `state`."""
        check_int("records", state["records"], minimum=0)
        _pending(state["pending"])
        for file in state["files"]:
            if not is_ours(file["name"]):
                problem = f"The checkpoint names {file['name']!r}, which is not an event file of phasetrack."
                raise ExpectedError("resume", problem, "Resume from an undamaged checkpoint.")
            with EventFile.again(self._logdir / file["name"]) as found:
                found.check(file)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Truncate the files to `state`, delete later files, and continue in a new file."""
        if self._file is not None:
            self._file.close()
        self._file, self._earlier = None, [dict(file) for file in state["files"]]
        names = {file["name"] for file in self._earlier}
        for path in event_files(self._logdir):
            if path.name not in names:
                path.unlink()
        for file in self._earlier:
            with EventFile.again(self._logdir / file["name"]) as found:
                found.rewind(file)
        self._timeline, self._records = [str(line) for line in state["timeline"]], state["records"]
        self._pending, self._placed = _pending(state["pending"]), True
        self._alerts = int(state.get("alerts", 0))  # version 0.1.0 kept none
        if not self._earlier:
            self._begin()

    def sync(self) -> None:
        """Flush the file to the disk."""
        if self._file is not None:
            self._file.sync()

    def abandon(self) -> None:
        """Close the file without flushing it."""
        self._closed = True
        if self._file is not None:
            self._file.abandon()

    def _descriptions(self, tags: Iterable[str]) -> dict[str, str]:
        """Return the descriptions of the tags that this file has not had yet."""
        new = [tag for tag in tags if tag not in self._described] if self._describe else []
        self._described.update(new)
        return {tag: self._describe(tag) for tag in new} if self._describe else {}

    def _begin(self) -> None:
        """Open the file, and write the layout, if any, and the hyperparameters, which stand before the first step."""
        self._file = EventFile.new(
            self._logdir
        )  # now: a disk that is full is better known before the training
        if self._clusters:
            self._write(0, summaries.layout(self._clusters))
        if self._hparams:
            for summary in summaries.hyperparameters(self._name, self._hparams, METRICS):
                self._write(0, summary)

    def _write_histograms(self) -> None:
        if self._pending is not None:
            step, distributions = self._pending
            for tag, values in distributions.items():
                self._write(step, summaries.histogram(tag, values))
        self._pending = None

    def _write(self, step: int, summary: Summary) -> None:
        if self._closed:
            raise ValueError("this TensorBoard sink is closed")
        if not self._placed:
            raise ExpectedError(
                "resume",
                "The directory holds event files, and no state was loaded.",
                "Call load_state_dict() to continue them, or start_over() to discard them.",
            )
        if self._file is None:
            self._file = EventFile.new(self._logdir)
        self._file.write(Event(wall_time=time.time(), step=step, summary=summary))


def _pending(state: Any) -> tuple[int, Mapping[str, NDArray[np.float64]]] | None:
    if state is None:
        return None
    values = {str(tag): tensor.double().numpy() for tag, tensor in state["distributions"].items()}
    return check_int("step", state["step"], minimum=0), values
