"""Recorder: snapshots to records. Tracker, ensemble and replay all measure and label through it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History, Record
from phasetrack.phases.labels import PAPERS
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.summary import summarise
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.phases.vocabulary_set import VocabularySet, column
from phasetrack.theory.forecast import Forecast
from phasetrack.tracking import pipeline
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.guard import FailureGuard
from phasetrack.tracking.history_buffer import HistoryBuffer
from phasetrack.tracking.missing_batch import MISTAKES
from phasetrack.tracking.probes.base import Probe
from phasetrack.tracking.restored import Restored
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.snapshot_queue import SnapshotQueue

# Recorded states in a row on which a probe fails before it is switched off: one bad step costs one step,
# and a probe that always fails costs its time a few times. Chosen here.
FAILURES_IN_A_ROW = 3
PAPERS_COLUMN = column(PAPERS)


class Recorder:
    """Measures the snapshots of a run, labels them, and keeps its history.

    Snapshots wait in a queue, so that several are measured together at little more than the cost
    of one; the readings are the same to the bit however many are.

    Args:
        probes: read each state.
        labels: label each state.
        guard: reports the probes that fail.
        queue: the snapshots that wait.
        first_samples: collects the first samples.
        forecast: predicted values, for the summary.
        vocabularies: further definitions of phases, beside the paper's.

    Attributes:
        vocabularies: every vocabulary's labels, by name.
        forecast: predicted values, or None.
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
        first_samples: FirstSamples,
        forecast: Forecast | None = None,
        vocabularies: Sequence[Vocabulary] = (),
    ) -> None:
        self.probes, self.labels, self.guard = list(probes), labels, guard
        self.queue, self.forecast = queue, forecast
        self.vocabularies = VocabularySet(labels, vocabularies)
        self.history = HistoryBuffer()
        self.first_samples = first_samples
        self.first: Snapshot | None = None
        self.before: Snapshot | None = None
        self._records: deque[Record] = deque()
        self._measuring = False
        self._givers: dict[str, Probe] = {}  # metric to the probe that last gave it
        # of the probes that failed, by id: how often in a row now, and why the last time
        self._failures_in_a_row: dict[int, int] = {}
        self._failures: dict[int, str] = {}

    def measure(self) -> None:
        """Measure and label everything in the queue."""
        if self._measuring:  # a probe that reads its own tracker
            return
        self._measuring = True
        try:
            while waiting := len(self.queue):
                stack = self.queue.head()
                if not self._measure_together(stack):
                    # one by one, only the bad states are lost
                    for one in stack[waiting - len(self.queue) :]:
                        self._measure_alone(one)
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
        self.vocabularies = self.vocabularies.restored(found.labels, found.vocabularies)
        self.before, self.first = found.before, found.first
        self.first_samples = found.first_samples
        self.guard.off, self.guard.reasons = found.off, found.undefined
        self.probes = [p for p in self.probes if f"probe:{p.name}" not in found.off]

    def _measure_together(self, stack: Sequence[Snapshot]) -> bool:
        """Record the states of a stack; return whether all of it could be measured at once."""
        if len(stack) == 1:
            self._measure_alone(stack[0])
            return True
        try:
            return all(map(self._measure_piece, Snapshot.stack(stack).pieces()))
        except Exception:
            return False

    def _measure_alone(self, snapshot: Snapshot) -> None:
        """Record one state; report an exception, which costs this state's record."""
        waiting = len(self.queue)
        try:
            self._measure_piece(snapshot)
        except BaseException as error:
            if len(self.queue) == waiting:
                self.queue.pop()  # it would fail again
            if not isinstance(error, Exception):
                raise
            self.guard.record_failed(snapshot.steps[0], error)

    def _measure_piece(self, piece: Snapshot) -> bool:
        """Record the states of a piece; return False, with none recorded, where a probe fails on several."""
        piece.before, piece.first = (
            self._earlier(self.before, piece),
            self._earlier(self.first, piece),
        )
        if piece.first is not None and piece.first is not self.first:
            # clusters were found since: what was missing without them is not missing any more
            self.guard.forget(self.first.geometry.no_clusters if self.first else "")
            self.first = piece.first
        self._report_problem(piece)
        measured = pipeline.measure(self.probes, piece)
        if measured.failures and len(piece) > 1:
            return False
        self._note_failures(measured)
        for name, reason in measured.refused.items():
            self.guard.refuse(name, reason)
        for key, line in measured.notes.items():
            self.guard.remark(key, line)
        done = 0
        try:
            for step, row in zip(piece.steps, measured.rows, strict=True):
                self.queue.pop()
                done += 1
                try:
                    self._look_at_samples(piece, done - 1)
                    row.readings.update(self.first_samples.readings)
                    self._record(step, row)
                except Exception as error:
                    self.guard.record_failed(step, error)
        finally:  # interrupted in between, the other states are measured another time
            self._remember(piece if done == len(piece) else piece[:done])
        return True

    def _earlier(self, earlier: Snapshot | None, piece: Snapshot) -> Snapshot | None:
        """Return an earlier state as later ones are compared with it: through their clusters, found since."""
        return None if earlier is None else earlier.seen_through(piece.geometry)

    def _look_at_samples(self, piece: Snapshot, place: int) -> None:
        """Take the samples of a state among the run's first ones."""
        if self.first_samples.full or piece.batch is None:
            return
        moments = None if piece.table.moments is None else piece.table.moments[place]
        self.first_samples.add(piece.batch.row(place), moments)

    def _remember(self, piece: Snapshot) -> None:
        """Keep what later states are compared with, and no more."""
        piece.forget()
        self.first = self.first or piece
        self.before = piece

    def _record(self, step: int, row: pipeline.Row) -> None:
        """Label one state, and add it to the history."""
        self.guard.explain(row.reasons)
        verdict = self.labels.update(step, row.readings)
        number = float(verdict.phase.value)
        readings = {
            **row.readings,
            "phase/id": number,
            PAPERS_COLUMN: number,
            **self.vocabularies.update(step, row.readings, self._vocabulary_failed),
        }
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
            verdict.left,
        )
        self._records.append(record)

    def _vocabulary_failed(self, name: str, error: Exception) -> None:
        self.guard.switched_off(f"the vocabulary {name!r}", error)

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

    def _note_failures(self, measured: pipeline.Measured) -> None:
        """Report the probes that failed on one state, and use a probe no more after a row of failures."""
        self._givers.update(measured.givers)
        failed = {id(probe): error for probe, error in measured.failures}
        self._failures_in_a_row = {key: self._failures_in_a_row.get(key, 0) + 1 for key in failed}
        for probe, error in measured.failures:
            self._failures[id(probe)] = self.guard.probe_failed(probe.name, error)
            if self._failures_in_a_row[id(probe)] == FAILURES_IN_A_ROW:
                self.guard.switched_off(probe.name, error)
                self.guard.off.append(f"probe:{probe.name}")
                self.probes.remove(probe)
        if self._failures:
            self.guard.explain(
                {
                    name: self._failures[id(probe)]
                    for name, probe in self._givers.items()
                    if id(probe) in self._failures
                }
            )

    def summary(self, history: History, steps: int) -> dict[str, Any]:
        """Return the contents of ``summary.json``: labels, final readings, forecast, reasons."""
        return summarise(
            history,
            self.labels,
            vocabularies=self.vocabularies,
            undefined=self.guard.reasons,
            notes=self.guard.notes,
            steps=steps,
            final=self.history.final,
            forecast=None if self.forecast is None else self.forecast.bands(),
        )


def new_labels(
    thresholds: Thresholds | None, escape_steps: float | None, forecast: Forecast | None
) -> RunLabels:
    """Return the labels of a run that begins; the forecast says how long an escape takes, if it can."""
    if escape_steps is None and forecast is not None:
        predicted = forecast.loss_halving_step.value  # NaN where the forecast ends before
        escape_steps = forecast.settings.escape_steps if math.isnan(predicted) else predicted
    return RunLabels(thresholds or Thresholds(), escape_steps)
