"""Recorder: snapshots to records. Tracker, ensemble and replay all measure and label through it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History, Record
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.summary import summarise
from phasetrack.theory.forecast import Forecast
from phasetrack.tracking import pipeline
from phasetrack.tracking.batch_collector import MISTAKES
from phasetrack.tracking.guard import FailureGuard
from phasetrack.tracking.history_buffer import HistoryBuffer
from phasetrack.tracking.probes.base import Probe
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.snapshot_queue import SnapshotQueue

if TYPE_CHECKING:
    from phasetrack.tracking.tracker_state import Restored


class Recorder:
    """Measures the snapshots of a run, labels them, and keeps its history.

    Snapshots wait in a queue, so that several are measured together at little more than the cost
    of one; the readings are the same to the bit however many are.

    Args:
        probes: read each state.
        labels: label each state.
        guard: reports the probes that fail.
        queue: the snapshots that wait.
        forecast: predicted values, for the summary.

    Attributes:
        history: every record so far; `HistoryBuffer` says where they are.
        first: the first state recorded.
        before: the last snapshot measured.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        labels: RunLabels,
        guard: FailureGuard,
        queue: SnapshotQueue,
        forecast: Forecast | None = None,
    ) -> None:
        self.probes, self.labels, self.guard = list(probes), labels, guard
        self.queue, self._forecast = queue, forecast
        self.history = HistoryBuffer()
        self.first: Snapshot | None = None
        self.before: Snapshot | None = None
        self._records: deque[Record] = deque()
        self._measuring = False

    def measure(self) -> None:
        """Measure and label everything in the queue."""
        if self._measuring:  # a probe that reads its own tracker
            return
        self._measuring = True
        try:
            while len(self.queue):
                for piece in Snapshot.stack(self.queue.head()).pieces():
                    self._measure_piece(piece)
        finally:
            self._measuring = False

    def next_record(self) -> Record | None:
        """Remove and return the oldest record that was not taken yet; None if there is none."""
        return self._records.popleft() if self._records else None

    def drop_records(self) -> None:
        """Forget the records that nothing will take; the history keeps their readings."""
        self._records.clear()

    def resume(self, found: Restored, history: HistoryBuffer) -> None:
        """Continue from a state that was read."""
        self.queue.restart(any_measured=found.first is not None)
        self._records.clear()
        self.history, self.labels = history, found.labels
        self.before, self.first = found.before, found.first
        self.guard.off, self.guard.reasons = found.off, found.undefined
        self.probes = [p for p in self.probes if f"probe:{p.name}" not in found.off]

    def _measure_piece(self, piece: Snapshot) -> None:
        piece.before, piece.first = self.before, self.first
        try:
            self._report_problem(piece)
            rows, failures = pipeline.measure(self.probes, piece)
            for failure in failures:
                self._drop(failure)
        except BaseException:
            if len(piece) == 1:
                self.queue.pop()  # it would fail again
            raise
        done = 0
        try:
            for step, row in zip(piece.steps, rows, strict=True):
                self.queue.pop()
                done += 1
                self._record(step, row)
        finally:  # interrupted in between, the other states are measured another time
            self._remember(piece if done == len(piece) else piece[:done])

    def _remember(self, piece: Snapshot) -> None:
        """Keep what later states are compared with, and no more."""
        piece.forget()
        self.first = self.first or piece
        self.before = piece

    def _record(self, step: int, row: pipeline.Row) -> None:
        """Label one state, and add it to the history."""
        self.guard.explain(row.reasons)
        verdict = self.labels.update(step, row.readings)
        readings = {**row.readings, "phase/id": float(verdict.phase.value)}
        self.history.append(step, readings)
        record = Record(
            step,
            readings,
            verdict.phase,
            verdict.reason,
            verdict.transition,
            verdict.boundaries,
            verdict.alerts,
            row.distributions,
        )
        self._records.append(record)

    def _report_problem(self, piece: Snapshot) -> None:
        """Warn once of a batch that cannot be used; the readings that it costs are NaN."""
        problem = piece.problems[0]
        if problem is None and piece.no_batch in MISTAKES:
            problem = ExpectedError("loss", *MISTAKES[piece.no_batch])
        if problem is None:
            return
        if self.guard.strict:
            raise problem
        self.guard.report("batch", str(problem))

    def _drop(self, failure: pipeline.Failure) -> None:
        """Use a probe that failed no more."""
        probe, error = failure
        self.guard.switched_off(probe.name, error)
        self.probes.remove(probe)
        self.guard.off.append(f"probe:{probe.name}")

    def summary(self, history: History, steps: int) -> dict[str, Any]:
        """Return the contents of ``summary.json``: labels, final readings, forecast, reasons."""
        return summarise(
            history,
            self.labels,
            undefined=self.guard.reasons,
            notes=self.guard.notes,
            steps=steps,
            forecast=None if self._forecast is None else self._forecast.bands(),
        )


def new_labels(
    thresholds: Thresholds | None, escape_steps: float | None, forecast: Forecast | None
) -> RunLabels:
    """Return the labels of a run that begins; the forecast says how long an escape takes, if it can."""
    if escape_steps is None and forecast is not None:
        predicted = forecast.loss_halving_step.value  # NaN where the forecast ends before
        escape_steps = forecast.settings.escape_steps if math.isnan(predicted) else predicted
    return RunLabels(thresholds or Thresholds(), escape_steps)
