"""Findings: readings and labels of a run so far, as a tracker and an ensemble's member show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.classifier import Alert, Boundary, Phase, Thresholds, Transition
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.summary import read_by_summary
from phasetrack.phases.vocabulary_set import VocabularySet
from phasetrack.tracking.history_buffer import HistoryBuffer
from phasetrack.tracking.recorder import Recorder


class Findings:
    """Reads a recorder. Reading an attribute measures the snapshots that wait, and writes no file.

    Args:
        recorder: measures and labels the run.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def _measure(self) -> None:
        """Measure the snapshots that wait."""
        self._recorder.measure()

    @property
    def history(self) -> History:
        """Every recorded step, as columns.

        In memory from the first access on, at 8 bytes per reading; until then a run with a `logdir`
        leaves its records to ``history.jsonl``.
        """
        self._measure()
        return self._read(lambda buffer: buffer.load_all())

    def _read(self, read: Callable[[HistoryBuffer], History]) -> History:
        """Read records back; where their file is lost, return those in memory and report it."""
        buffer, guard = self._recorder.history, self._recorder.guard
        try:
            return read(buffer)
        except (ExpectedError, OSError) as error:
            if guard.strict:
                raise
            rest = buffer.release_source()
            lost = f"the history file cannot be read; only the last records are left ({error})"
            guard.report("history", lost)
            return rest

    @property
    def labels(self) -> RunLabels:
        """Phase, boundaries, transitions and alerts so far."""
        self._measure()
        return self._recorder.labels

    @property
    def phase(self) -> Phase:
        """The label of the last recorded step."""
        return self.labels.phase

    @property
    def phases(self) -> VocabularySet:
        """Each vocabulary's labels by name: `label`, `reason`, `boundaries`, `alerts`, `applies`."""
        self._measure()
        return self._recorder.vocabularies

    @property
    def reason(self) -> str:
        """Why that label is UNDETERMINED; empty otherwise."""
        return self.labels.reason

    @property
    def boundaries(self) -> list[Boundary]:
        """Boundaries detected so far."""
        return self.labels.boundaries

    @property
    def transitions(self) -> list[Transition]:
        """Changes of label so far."""
        return self.labels.transitions

    @property
    def alerts(self) -> list[Alert]:
        """Failure signatures so far."""
        return self.labels.alerts

    @property
    def undefined(self) -> dict[str, str]:
        """Metric or probe name to the first reason why it could not be read."""
        self._measure()
        return self._recorder.guard.reasons

    @property
    def notes(self) -> list[str]:
        """What was found out about the run and its model, or was not seen: sentences for people."""
        self._measure()
        return list(self._recorder.guard.notes)

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the labels."""
        return self._recorder.labels.thresholds

    def _at_a_glance(self, steps: int) -> dict[str, Any]:
        """Return what a summary holds of labels and reasons, without reading the history."""
        labels, forecast = self.labels, self._recorder.forecast
        return {
            "phase": labels.phase.name,
            "reason": labels.reason,
            "steps": steps,
            **labels.events(),
            "vocabularies": self._recorder.vocabularies.summary(self.undefined),
            "undefined": self.undefined,
            "forecast": {} if forecast is None else forecast.bands(),
            "thresholds": {"loss_target": labels.thresholds.loss_target},
            "units": labels.units,
        }

    def summary_at(self, steps: int) -> dict[str, Any]:
        """Return the contents of ``summary.json`` after so many optimizer steps."""
        return self._recorder.summary(self.history, steps)

    def _last_summary(self, steps: int) -> dict[str, Any]:
        """Return the same, and leave in the run's file whatever it does not need of the records."""
        self._measure()
        names = read_by_summary(self._recorder.vocabularies)
        return self._recorder.summary(self._read(lambda buffer: buffer.read(names)), steps)
