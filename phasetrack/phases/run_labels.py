"""RunLabels: the labels, boundaries and alerts of a run, from its readings step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from phasetrack.phases.classifier import (
    Alert,
    Boundary,
    Phase,
    PhaseClassifier,
    Thresholds,
    Transition,
    Verdict,
)

NOTHING_RECORDED = "no step was recorded yet"


class RunLabels:
    """Labels a run's recorded steps, and keeps all that was found.

    Args:
        thresholds: every number that decides.
        escape_steps: predicted steps until the loss halves; None never raises SADDLE.

    Attributes:
        phase: the label of the last recorded step.
        reason: why that label is UNDETERMINED; empty otherwise.
        boundaries: boundaries detected so far.
        transitions: changes of label so far.
        alerts: failure signatures so far.
    """

    def __init__(self, thresholds: Thresholds, escape_steps: float | None = None) -> None:
        self._classifier = PhaseClassifier(thresholds, escape_steps)
        self.phase, self.reason = Phase.UNDETERMINED, NOTHING_RECORDED
        self.boundaries: list[Boundary] = []
        self.transitions: list[Transition] = []
        self.alerts: list[Alert] = []

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds that decide."""
        return self._classifier.thresholds

    @property
    def escape_steps(self) -> float | None:
        """Predicted steps until the loss halves, if known."""
        return self._classifier.escape_steps

    def update(self, step: int, readings: Mapping[str, float]) -> Verdict:
        """Label one recorded step; steps ascend from call to call."""
        verdict = self._classifier.update(step, readings)
        self.phase, self.reason = verdict.phase, verdict.reason
        for name in verdict.left:
            self._mark_left(name, step)
        self.boundaries += verdict.boundaries
        self.alerts += verdict.alerts
        if verdict.transition:
            self.transitions.append(verdict.transition)
        return verdict

    def _mark_left(self, name: str, step: int) -> None:
        """Note at the last boundary of a name that the run has left its regime again."""
        for place in reversed(range(len(self.boundaries))):
            if self.boundaries[place].name == name:
                self.boundaries[place] = replace(self.boundaries[place], left=step)
                return

    def events(self) -> dict[str, list[dict[str, Any]]]:
        """Return boundaries and alerts as JSON values, under the keys of ``summary.json``."""
        return {
            "boundaries": [asdict(boundary) for boundary in self.boundaries],
            "alerts": [{**asdict(a), "evidence": dict(a.evidence)} for a in self.alerts],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on, as numbers, text, lists and mappings."""
        return {
            "classifier": self._classifier.state_dict(),
            "phase": self.phase.name,
            "reason": self.reason,
            "boundaries": [asdict(boundary) for boundary in self.boundaries],
            "transitions": [[t.step, t.before.name, t.after.name] for t in self.transitions],
            "alerts": [[a.name, a.step, dict(a.evidence)] for a in self.alerts],
        }

    def restored(self, state: Mapping[str, Any]) -> RunLabels:
        """Return labels that continue from a state, with the thresholds of these."""
        labels = RunLabels(self.thresholds, self._classifier.escape_steps)
        labels._classifier.load_state_dict(state["classifier"])
        labels.phase, labels.reason = Phase[state["phase"]], str(state["reason"])
        labels.boundaries = [Boundary(**boundary) for boundary in state["boundaries"]]
        labels.transitions = [
            Transition(int(step), Phase[old], Phase[new]) for step, old, new in state["transitions"]
        ]
        labels.alerts = [Alert(str(name), int(s), dict(why)) for name, s, why in state["alerts"]]
        return labels
